"""Starting the service as it runs: gunicorn with this package's configuration."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import requests

from signup.settings import Settings

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:signup.gunicorn_conf", "signup.wsgi:app"]
Process = subprocess.Popen[str]
Serve = Callable[..., tuple[str, Process]]


def environment(**extra: str) -> dict[str, str]:
    return {**{name: os.environ[name] for name in os.environ if not name.startswith("SIGNUP_")}, **extra}


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts gunicorn on a free port, waits until it answers, and returns its address and process."""
    processes: list[Process] = []

    def start(**extra: str) -> tuple[str, Process]:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            port = probe.getsockname()[1]
        values = {
            "SIGNUP_DATABASE_URL": settings.database.url or "",
            "SIGNUP_TOPIC_ARN": settings.topic_arn,
            "SIGNUP_TOKEN_TABLE": settings.token_table,
            "SIGNUP_PUBLIC_URL": "http://localhost",
            "SIGNUP_PORT": str(port),
            "AWS_REGION": settings.region,
            **extra,
        }
        process = subprocess.Popen(
            COMMAND, env=environment(**values), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/livez", timeout=5)
            except requests.ConnectionError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return f"http://127.0.0.1:{port}", process

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=40)
