"""AWS's clients on a machine whose credentials come late."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from signup.clients.topic import Topic

ROLE = "/latest/meta-data/iam/security-credentials/"


class Metadata(ThreadingHTTPServer):
    """A metadata service that has the role's credentials once it is `ready`."""

    ready = False


class Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._answer("token")

    def do_GET(self) -> None:
        key = {"AccessKeyId": "ASIATESTING", "SecretAccessKey": "testing", "Token": "testing", "Code": "Success"}
        key |= {"Expiration": f"{datetime.now(UTC) + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"}
        self._answer({ROLE: "service", f"{ROLE}service": json.dumps(key)}.get(self.path, ""))

    def _answer(self, text: str) -> None:
        self.send_response(200 if self.server.ready and text else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: tuple[str, Any]) -> Iterator[Metadata]:
    """A machine without any credentials but those of its metadata service."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with Metadata(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_credentials_that_come_late_are_found(metadata: Metadata, queue: tuple[str, Any]) -> None:
    topic = Topic(queue[0], "us-east-1")
    for _ in range(2):
        assert topic.publish({"a": "{}"}) == {"a": "NoCredentialsError"}
    metadata.ready = True
    assert topic.publish({"a": "{}"}) == {}
