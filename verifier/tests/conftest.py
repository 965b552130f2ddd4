"""Fixtures: AWS's APIs and a SendGrid stand-in, both real HTTP servers on loopback."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from invocation import Context, event
from moto.server import ThreadedMotoServer
from stand_ins import SendGrid

from verifier import handler

REGION = "us-east-1"
API_KEY = "SG.testing-key"

Function = Callable[..., dict[str, int]]
Items = Callable[[], list[dict[str, Any]]]


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


def _table(name: str, key: str) -> Iterator[str]:
    client = boto3.client("dynamodb", region_name=REGION)
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    client.delete_table(TableName=name)


def _items(table: str) -> Items:
    return lambda: boto3.client("dynamodb", region_name=REGION).scan(TableName=table)["Items"]


@pytest.fixture
def table(aws: str) -> Iterator[str]:
    """A token table."""
    yield from _table(f"tokens-{secrets.token_hex(4)}", "token_hash")


@pytest.fixture
def idempotency_table(aws: str) -> Iterator[str]:
    """An idempotency table."""
    yield from _table(f"idempotency-{secrets.token_hex(4)}", "id")


@pytest.fixture
def mail_table(aws: str) -> Iterator[str]:
    """A table of mails."""
    yield from _table(f"mail-{secrets.token_hex(4)}", "message_id")


@pytest.fixture
def items(table: str) -> Items:
    """A function that returns all items of the token table."""
    return _items(table)


@pytest.fixture
def records(idempotency_table: str) -> Items:
    """A function that returns all items of the idempotency table."""
    return _items(idempotency_table)


@pytest.fixture
def journal(mail_table: str) -> Items:
    """A function that returns all items of the table of mails."""
    return _items(mail_table)


@pytest.fixture
def refused_queue(aws: str) -> Iterator[str]:
    """The URL of a queue of refused messages."""
    client = boto3.client("sqs", region_name=REGION)
    url = client.create_queue(QueueName=f"refused-{secrets.token_hex(4)}")["QueueUrl"]
    yield url
    client.delete_queue(QueueUrl=url)


@pytest.fixture
def refused(refused_queue: str) -> Callable[[], list[dict[str, Any]]]:
    """A function that takes what is in the queue of refused messages."""

    def take() -> list[dict[str, Any]]:
        client = boto3.client("sqs", region_name=REGION)
        found: list[dict[str, Any]] = []
        while taken := client.receive_message(QueueUrl=refused_queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get(
            "Messages"
        ):
            found += taken
        return found

    return take


@pytest.fixture
def secret(aws: str) -> Iterator[str]:
    """The ARN of the API key's secret."""
    client = boto3.client("secretsmanager", region_name=REGION)
    arn = client.create_secret(Name=f"sendgrid-{secrets.token_hex(4)}", SecretString=API_KEY)["ARN"]
    yield arn
    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def environment(
    table: str,
    idempotency_table: str,
    mail_table: str,
    refused_queue: str,
    secret: str,
    sendgrid: SendGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The function's variables, set for the length of the test."""
    variables = {
        "VERIFIER_TOKEN_TABLE": table,
        "VERIFIER_IDEMPOTENCY_TABLE": idempotency_table,
        "VERIFIER_MAIL_TABLE": mail_table,
        "VERIFIER_REFUSED_QUEUE_URL": refused_queue,
        "VERIFIER_PUBLIC_URL": "http://signup.example.com",
        "VERIFIER_MAIL_FROM": "Evenkeel <hello@example.com>",
        "VERIFIER_SENDGRID_SECRET_ARN": secret,
        "VERIFIER_SENDGRID_HOST": sendgrid.url,
        "VERIFIER_SENDGRID_TIMEOUT_SECONDS": "0.5",
        "VERIFIER_METRICS_NAMESPACE": "tests/verification",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def function(environment: dict[str, str]) -> Iterator[Function]:
    """Invokes the function with messages, in a fresh execution environment."""
    handler.services.cache_clear()

    def invoke(*messages: dict[str, Any] | str, seconds: float = 30) -> dict[str, int]:
        return handler.handle(event(*messages), Context(seconds))

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
