"""Starting the service as it runs: gunicorn with this package's configuration, and the publisher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import requests
from waiting import wait_for

from signup.settings import Settings

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:signup.gunicorn_conf", "signup.wsgi:app"]
PUBLISHER = [sys.executable, "-c", "from signup.outbox.publisher import main; main()"]
Process = subprocess.Popen[str]
Serve = Callable[..., tuple[str, Process]]
Publish = Callable[..., Process]


def environment(**extra: str) -> dict[str, str]:
    return {**{name: os.environ[name] for name in os.environ if not name.startswith("SIGNUP_")}, **extra}


def started(command: list[str], settings: Settings, **extra: str) -> Process:
    values = {
        "SIGNUP_DATABASE_URL": settings.database.url or "",
        "SIGNUP_TOPIC_ARN": settings.topic_arn,
        "SIGNUP_TOKEN_TABLE": settings.token_table,
        "SIGNUP_PUBLIC_URL": "http://localhost",
        "SIGNUP_PICTURE_BUCKET": settings.picture_bucket or "",
        "AWS_REGION": settings.region,
        **extra,
    }
    return subprocess.Popen(command, env=environment(**values), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(processes: list[Process]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=40)


class Log:
    """What a process says, read as it is said: it waits for nobody to read it."""

    def __init__(self, process: Process) -> None:
        self.lines: list[str] = []
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    def ended(self) -> list[str]:
        """All of it, after SIGTERM."""
        self._process.terminate()
        self._process.wait(timeout=40)
        self._thread.join(timeout=20)
        return self.lines


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts gunicorn on a free port, waits until it answers, and returns its address and process."""
    processes: list[Process] = []

    def start(**extra: str) -> tuple[str, Process]:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            port = probe.getsockname()[1]
        process = started(COMMAND, settings, **{"SIGNUP_PORT": str(port), **extra})
        processes.append(process)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, process.communicate()[0]
            try:
                return requests.get(f"{url}/livez", timeout=5).ok
            except requests.ConnectionError:
                return False

        wait_for("the service", answers)
        return url, process

    yield start
    end(processes)


@pytest.fixture
def publish(settings: Settings) -> Iterator[Publish]:
    """Starts a publisher of the outbox, and returns its process."""
    processes: list[Process] = []

    def start(**extra: str) -> Process:
        processes.append(started(PUBLISHER, settings, **extra))
        return processes[-1]

    yield start
    end(processes)
