"""Fixtures: a real PostgreSQL, AWS's APIs over real HTTP on loopback, and a gate to cut the database off."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import boto3
import pytest
from flask import Flask
from flask.testing import FlaskClient
from gate import Gate
from moto.server import ThreadedMotoServer
from serving import publish, serve  # noqa: F401
from sqlalchemy import Engine, create_engine, make_url, select, text, update
from werkzeug.test import TestResponse

from signup.factory import Application, create_app
from signup.outbox.message import VERIFICATION
from signup.schema.migrate import migrate
from signup.schema.tables import metadata, outbox, users
from signup.settings import DatabaseSettings, MigrationSettings, Settings

REGION = "us-east-1"
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="session")
def server_url() -> str:
    """The URL of a PostgreSQL server where databases may be created."""
    url = os.environ.get("SIGNUP_TEST_DATABASE_URL")
    if not url:
        pytest.fail(
            "SIGNUP_TEST_DATABASE_URL is not set: set it to a PostgreSQL server where databases may be created, "
            "such as postgresql://postgres@127.0.0.1:5432/postgres",
            pytrace=False,
        )
    return make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def make_database(server_url: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases and returns their URLs; all are dropped in the end."""
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    names: list[str] = []

    def make() -> str:
        names.append(f"signup_test_{secrets.token_hex(6)}")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {names[-1]}"))
        return make_url(server_url).set(database=names[-1]).render_as_string(hide_password=False)

    yield make
    with admin.connect() as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def migrated_url(make_database: Callable[[], str]) -> str:
    """A database with the newest schema."""
    url = make_database()
    migrate(MigrationSettings(DatabaseSettings(region=None, url=url), wait_seconds=5))
    return url


@pytest.fixture
def database(migrated_url: str) -> Iterator[Engine]:
    """An engine of the test's own, on emptied tables."""
    engine = create_engine(migrated_url)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)}"))
    yield engine
    engine.dispose()


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
    return aws_server


@cache
def aws_client(service: str, endpoint: str) -> Any:
    """A client of the tests' own, made once: it takes longer than most tests."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, **keys)


@pytest.fixture(scope="session")
def token_table(aws_server: str) -> str:
    """A token table."""
    name = f"tokens-{secrets.token_hex(4)}"
    aws_client("dynamodb", aws_server).create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "token_hash", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "token_hash", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


@pytest.fixture
def put_token(aws: str, token_table: str) -> Callable[..., str]:
    """Stores a token the way the verifier does, and returns it."""

    def put(user_id: str, message_id: str, lives_seconds: int = 600) -> str:
        token = secrets.token_urlsafe(32)
        aws_client("dynamodb", aws).put_item(
            TableName=token_table,
            Item={
                "token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()},
                "user_id": {"S": user_id},
                "message_id": {"S": message_id},
                "expires_at": {"N": str(int(time.time()) + lives_seconds)},
            },
        )
        return token

    return put


@pytest.fixture
def token_of(database: Engine, put_token: Callable[..., str]) -> Callable[..., str]:
    """The token in an address's newest mail."""

    def newest(email: str, **how: int) -> str:
        with database.connect() as connection:
            statement = select(outbox.c.payload).where(outbox.c.kind == VERIFICATION).order_by(outbox.c.id.desc())
            message = next(each for each in connection.execute(statement).scalars() if each["email"] == email)
        return put_token(message["user_id"], message["message_id"], **how)

    return newest


@pytest.fixture(scope="session")
def bucket(aws_server: str) -> str:
    """A bucket for pictures."""
    name = f"pictures-{secrets.token_hex(4)}"
    aws_client("s3", aws_server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def stored(aws_server: str, bucket: str) -> Callable[[], dict[str, bytes]]:
    """All objects of the bucket by key; the bucket is empty at first."""
    s3 = aws_client("s3", aws_server)

    def objects() -> list[str]:
        return [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]

    for key in objects():
        s3.delete_object(Bucket=bucket, Key=key)
    return lambda: {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects()}


@pytest.fixture(scope="session")
def topic(aws_server: str) -> tuple[str, str]:
    """An SNS topic's ARN, and the URL of a queue that gets all that is published to it."""
    sns, sqs = aws_client("sns", aws_server), aws_client("sqs", aws_server)
    name = f"verification-{secrets.token_hex(4)}"
    arn = sns.create_topic(Name=name)["TopicArn"]
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    return arn, url


@pytest.fixture
def queue(aws: str, topic: tuple[str, str]) -> tuple[str, Callable[[], list[dict[str, Any]]]]:
    """An SNS topic's ARN, and a function that returns all that was published to it during the test."""
    sqs = aws_client("sqs", aws)

    def take() -> Iterator[dict[str, Any]]:
        while messages := sqs.receive_message(QueueUrl=topic[1], MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=topic[1], ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])

    # What an earlier test left; a queue may be purged once a minute only.
    list(take())
    received: list[dict[str, Any]] = []

    def published() -> list[dict[str, Any]]:
        received.extend(take())
        return received

    return topic[0], published


@pytest.fixture
def settings(aws: str, database: Engine, migrated_url: str, token_table: str, bucket: str, topic: tuple[str, str]) -> Settings:
    """Settings for the test's own resources."""
    return Settings(
        database=DatabaseSettings(region=REGION, url=migrated_url),
        region=REGION,
        topic_arn=topic[0],
        token_table=token_table,
        public_url="http://signup.example.com",
        picture_bucket=bucket,
        hash_slots=2,
        hash_queue=50,
    )


class TakingClient(FlaskClient):
    """A client that takes its answers whole and ends them, as gunicorn does, unless `buffered=False`."""

    def open(self, *arguments: Any, buffered: bool = True, **options: Any) -> TestResponse:
        return super().open(*arguments, buffered=buffered, **options)


Application.test_client_class = TakingClient


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application."""
    made = create_app(settings)
    yield made
    made.extensions["signup"].engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application."""
    return app.test_client()


@pytest.fixture
def person() -> dict[str, str]:
    """A request to sign up."""
    return {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "password": PASSWORD}


@pytest.fixture
def verified(client: FlaskClient, database: Engine, person: dict[str, str]) -> tuple[str, str]:
    """The address and password of a verified user, the only one there is."""
    assert client.post("/v1/user", json=person).status_code == 201
    with database.begin() as connection:
        connection.execute(update(users).values(verified=True))
    return person["email"], person["password"]


@pytest.fixture
def gate(migrated_url: str) -> Iterator[Gate]:
    """A shut gate in front of the migrated database's server."""
    url = make_url(migrated_url)
    made = Gate(url.host or "127.0.0.1", url.port or 5432)
    yield made
    made.shut()


@pytest.fixture
def gated(gate: Gate, settings: Settings, migrated_url: str) -> Iterator[tuple[Gate, Flask]]:
    """An open gate and an application behind it."""
    gate.open()
    url = make_url(migrated_url).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
    made = create_app(replace(settings, database=DatabaseSettings(region=REGION, url=url)))
    yield gate, made
    made.extensions["signup"].engine.dispose()
