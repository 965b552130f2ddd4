"""Credentials from Secrets Manager, and their rotation."""

from __future__ import annotations

import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import boto3
import psycopg2
import pytest
from gate import Gate
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from signup import patience
from signup.clients.secrets import CredentialsUnavailable
from signup.database import ANSWER_SECONDS, make_engine
from signup.settings import DatabaseSettings


class Server:
    """Speaks as much of PostgreSQL's protocol as a login takes, with one right password.

    A right password gets "the database system is starting up", which ends the attempt.
    """

    def __init__(self) -> None:
        self.right = "new"
        self.attempts: list[tuple[str, str]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, connection.makefile("rb") as stream:
                    (length,) = struct.unpack("!I", stream.read(4))
                    words = stream.read(length - 4)[4:].split(b"\0")
                    user = words[words.index(b"user") + 1].decode()
                    connection.sendall(b"R" + struct.pack("!II", 8, 3))
                    stream.read(1)
                    (length,) = struct.unpack("!I", stream.read(4))
                    password = stream.read(length - 4).rstrip(b"\0").decode()
                    self.attempts.append((user, password))
                    if password == self.right:
                        self._refuse(connection, "57P03", "the database system is starting up")
                    else:
                        self._refuse(connection, "28P01", f'password authentication failed for user "{user}"')

    @staticmethod
    def _refuse(connection: socket.socket, code: str, message: str) -> None:
        body = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
        connection.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def secret(aws: str) -> Iterator[str]:
    client = boto3.client("secretsmanager", region_name="us-east-1")
    made = client.create_secret(Name="database", SecretString=json.dumps({"username": "ada", "password": "old"}))
    yield made["ARN"]
    client.delete_secret(SecretId=made["ARN"], ForceDeleteWithoutRecovery=True)


def rotate(secret: str, password: str) -> None:
    value = json.dumps({"username": "ada", "password": password})
    boto3.client("secretsmanager", region_name="us-east-1").put_secret_value(SecretId=secret, SecretString=value)


def settings(server: Server, secret: str) -> DatabaseSettings:
    return DatabaseSettings(region="us-east-1", host="127.0.0.1", port=server.port, sslmode="disable", secret_arn=secret)


def test_a_rotated_password_is_read_again_once(server: Server, secret: str) -> None:
    engine = make_engine(settings(server, secret), "test")
    with pytest.raises(OperationalError, match="password authentication failed"):
        engine.connect()
    assert server.attempts == [("ada", "old"), ("ada", "old")]
    rotate(secret, "new")
    with pytest.raises(OperationalError, match="starting up"):
        engine.connect()
    assert server.attempts[2:] == [("ada", "old"), ("ada", "new")]
    with pytest.raises(OperationalError, match="starting up"):
        engine.connect()
    assert server.attempts[4:] == [("ada", "new")]


@pytest.mark.parametrize("value", ["hunter2", "[]", '{"username": "ada"}'])
def test_a_secret_that_is_not_one_says_so_without_quoting_it(server: Server, secret: str, value: str) -> None:
    client = boto3.client("secretsmanager", region_name="us-east-1")
    client.put_secret_value(SecretId=secret, SecretString=value)
    engine = make_engine(settings(server, secret), "test")
    with pytest.raises(CredentialsUnavailable, match="not JSON with username and password") as caught:
        engine.connect()
    assert value not in str(caught.value)


def test_a_missing_secret_says_so(server: Server, aws: str) -> None:
    missing = "arn:aws:secretsmanager:us-east-1:111122223333:secret:missing-abcdef"
    engine = make_engine(settings(server, missing), "test")
    with pytest.raises(CredentialsUnavailable, match="ResourceNotFoundException"):
        engine.connect()


def test_statements_are_bounded(migrated_url: str) -> None:
    engine = make_engine(DatabaseSettings(region=None, url=migrated_url), "test", statement_timeout_ms=100)
    with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(2)"))
    engine.dispose()


@pytest.fixture
def login(server_url: str, secret: str) -> Iterator[tuple[Callable[[str], None], DatabaseSettings, Engine]]:
    """A user of the real server, whose password comes from the secret: what rotates both, its settings, and an administrator."""
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    name = f"rotated_{secrets.token_hex(4)}"

    def rotate_both(password: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER ROLE {name} PASSWORD '{password}'"))
        value = json.dumps({"username": name, "password": password})
        boto3.client("secretsmanager", region_name="us-east-1").put_secret_value(SecretId=secret, SecretString=value)

    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
    url = make_url(server_url)
    where = {"host": url.host or "", "port": url.port or 5432, "name": url.database or ""}
    yield rotate_both, DatabaseSettings(region="us-east-1", sslmode="prefer", secret_arn=secret, **where), admin
    with admin.connect() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


def test_a_rotation_needs_no_restart(login: tuple[Callable[[str], None], DatabaseSettings, Engine]) -> None:
    rotate_both, where, admin = login
    rotate_both("first")
    engine = make_engine(where, "rotating")
    with engine.connect() as connection:
        me, backend = connection.execute(text("SELECT current_user, pg_backend_pid()")).one()
    rotate_both("second")
    with engine.connect() as connection:  # what is connected stays so
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == backend
    with admin.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar() == me
    engine.dispose()
    with pytest.raises(OperationalError, match="password authentication failed"):
        create_engine(engine.url.set(username=me, password="first")).connect()


def test_a_server_that_stands_still_is_given_up(gate: Gate, migrated_url: str) -> None:
    gate.open()
    url = make_url(migrated_url).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
    engine = make_engine(DatabaseSettings(region=None, url=url), "test", statement_timeout_ms=100)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        gate.freeze()
        with pytest.raises(OperationalError, match=r"did not answer within 1\.1 s"):
            connection.execute(text("SELECT 1"))
    with pytest.raises(OperationalError, match="did not answer within 3 s"):
        engine.connect()
    gate.thaw()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_a_migration_waits_for_as_long_as_it_takes(gate: Gate, migrated_url: str) -> None:
    gate.open()
    url = make_url(migrated_url).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
    engine = make_engine(DatabaseSettings(region=None, url=url), "test", statement_timeout_ms=0)
    with engine.connect() as connection:
        gate.freeze()
        threading.Timer(ANSWER_SECONDS + 0.5, gate.thaw).start()
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_a_connection_that_can_not_be_made_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, though somebody keeps the error, as a log or a debugger does."""
    monkeypatch.setattr(patience, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = {"host": "127.0.0.1", "port": silent.getsockname()[1], "user": "u", "dbname": "d", "sslmode": "disable"}
        with pytest.raises(psycopg2.OperationalError, match="did not answer") as kept:
            psycopg2.connect(connection_factory=patience.patient(60), **where)
        server, _ = silent.accept()
        with server:
            server.settimeout(30)
            while server.recv(1024):
                pass
        assert kept
