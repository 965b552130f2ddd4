"""Fixtures: AWS's APIs and a SendGrid stand-in, both real HTTP servers on loopback."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from verifier import handler

REGION = "us-east-1"
API_KEY = "SG.testing-key"


class SendGrid:
    """A stand-in for SendGrid's Mail Send: keeps requests, and answers with `status`, or never if it `hangs`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 202
        self.hangs = False
        self._released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                if outer.hangs:
                    outer._released.wait(30)
                    return
                answer = json.dumps({"errors": [{"message": "no mail to ada@example.com"}]}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def mails(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]


@pytest.fixture
def sendgrid() -> Iterator[SendGrid]:
    """The SendGrid stand-in."""
    made = SendGrid()
    yield made
    made.close()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The address of an AWS API on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The AWS API's address, which boto3 finds in the environment for the length of the test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return aws_server


@pytest.fixture
def table(aws: str) -> Iterator[str]:
    """A token table."""
    client = boto3.client("dynamodb", region_name=REGION)
    name = f"tokens-{secrets.token_hex(4)}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "token_hash", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "token_hash", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    client.delete_table(TableName=name)


@pytest.fixture
def items(table: str) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns all items of the token table."""
    return lambda: boto3.client("dynamodb", region_name=REGION).scan(TableName=table)["Items"]


@pytest.fixture
def secret(aws: str) -> Iterator[str]:
    """The ARN of the API key's secret."""
    client = boto3.client("secretsmanager", region_name=REGION)
    arn = client.create_secret(Name=f"sendgrid-{secrets.token_hex(4)}", SecretString=API_KEY)["ARN"]
    yield arn
    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def function(
    table: str, secret: str, sendgrid: SendGrid, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, int]]]:
    """Invokes the function with messages, in a fresh execution environment."""
    for name, value in {
        "VERIFIER_TOKEN_TABLE": table,
        "VERIFIER_PUBLIC_URL": "http://signup.example.com",
        "VERIFIER_MAIL_FROM": "Evenkeel <hello@example.com>",
        "VERIFIER_SENDGRID_SECRET_ARN": secret,
        "VERIFIER_SENDGRID_HOST": sendgrid.url,
        "VERIFIER_SENDGRID_TIMEOUT_SECONDS": "0.5",
    }.items():
        monkeypatch.setenv(name, value)
    handler.services.cache_clear()

    def invoke(*messages: dict[str, Any] | str) -> dict[str, int]:
        bodies = [each if isinstance(each, str) else json.dumps(each) for each in messages]
        records = [{"EventSource": "aws:sns", "Sns": {"MessageId": "sns-1", "Message": body}} for body in bodies]
        return handler.handle({"Records": records}, None)

    yield invoke
    handler.services.cache_clear()


@pytest.fixture
def request_message() -> dict[str, Any]:
    """A message, version 1."""
    return {
        "version": 1,
        "message_id": "019a0000-0000-7000-8000-000000000001",
        "user_id": "019a0000-0000-7000-8000-000000000002",
        "email": "ada@example.com",
        "locale": "en",
        "request_id": "req-1",
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
