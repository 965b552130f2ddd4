"""The service as it runs: gunicorn with this package's configuration."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from signup.settings import Settings

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:signup.gunicorn_conf", "signup.wsgi:app"]


def environment(**extra: str) -> dict[str, str]:
    return {**{name: os.environ[name] for name in os.environ if not name.startswith("SIGNUP_")}, **extra}


@pytest.fixture
def served(settings: Settings) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        COMMAND,
        env=environment(
            SIGNUP_DATABASE_URL=settings.database.url or "",
            SIGNUP_TOPIC_ARN=settings.topic_arn,
            SIGNUP_TOKEN_TABLE=settings.token_table,
            SIGNUP_PUBLIC_URL="http://localhost",
            SIGNUP_PORT=str(port),
            AWS_REGION=settings.region,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/livez", timeout=5)
            break
        except requests.ConnectionError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}", process
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_serves_logs_and_stops(served: tuple[str, subprocess.Popen[str]], person: dict[str, str]) -> None:
    url, process = served
    token = "t" * 43
    assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
    assert requests.post(f"{url}/v1/user", json=person, timeout=5).status_code == 201
    assert requests.get(f"{url}/v1/user/verify?token={token}", timeout=5).status_code == 404
    assert requests.get(f"{url}/v1/{person['email']}", timeout=5).status_code == 404
    requests.get(f"{url}/v1/user/self", auth=(person["email"], person["password"]), timeout=5)
    chunks = iter([b" " * 40_000] * 2)
    assert requests.post(
        f"{url}/v1/user", data=chunks, headers={"Content-Type": "application/json"}, timeout=5
    ).status_code == 413  # fmt: skip
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    access = [line for line in lines if line["logger"] == "gunicorn.access"]
    assert [(line["method"], line["path"], line["status"]) for line in access] == [
        ("POST", "/v1/user", 201),
        ("GET", "/v1/user/verify", 404),
        ("GET", "/v1/[redacted]", 404),
        ("GET", "/v1/user/self", 403),
        ("POST", "/v1/user", 413),
    ]
    assert all(line["request_id"] and line["duration_ms"] >= 0 for line in access)
    for secret in (token, person["password"], person["email"], "127.0.0.1:5"):
        assert secret not in "".join(line for line in output.splitlines(True) if "Listening" not in line)


def test_wrong_settings_end_the_master_with_78() -> None:
    done = subprocess.run(COMMAND, env=environment(SIGNUP_PORT="0"), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert "SIGNUP_TOPIC_ARN is not set" in done.stderr
    assert "SIGNUP_PORT is '0'" in done.stderr
    assert "Traceback" not in done.stderr
