"""The outbox publisher."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import psycopg2
import pytest
from flask.testing import FlaskClient
from running import TOPIC, Sns
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import ProgrammingError
from waiting import wait_for

from signup.clients.mail_table import MailTable, MailTableUnavailable
from signup.clients.topic import MAX_BATCH, Topic
from signup.ids import utc_now, uuid7
from signup.mail_events.events import MailEvent
from signup.mail_events.notes import Notes
from signup.outbox import repo
from signup.outbox.message import verification_message
from signup.outbox.metrics import OutboxMetrics
from signup.outbox.publisher import Outcome, backoff, publish_batch, run
from signup.outbox.repo import purge
from signup.schema.tables import outbox

Queue = tuple[str, Callable[[], list[dict[str, Any]]]]


@pytest.fixture
def put(database: Engine) -> Callable[..., list[str]]:
    """Puts messages in the outbox."""

    def rows(count: int, **changes: str) -> list[str]:
        ids = [uuid7() for _ in range(count)]
        with database.begin() as connection:
            for each in ids:
                payload = {**verification_message(each, uuid7(), "ada@example.com", "req-1", utc_now()), **changes}
                connection.execute(insert(outbox).values(id=each, kind="test", payload=payload))
        return [str(each) for each in ids]

    return rows


def all_rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(outbox).order_by(outbox.c.id)).all())


def test_a_signup_is_published_as_committed(client: FlaskClient, database: Engine, queue: Queue, person: dict[str, str]) -> None:
    client.post("/v1/user", json=person)
    assert publish_batch(database, Topic(queue[0], "us-east-1")).published == 1
    assert publish_batch(database, Topic(queue[0], "us-east-1")).published == 0
    (row,) = all_rows(database)
    assert row.published_at is not None
    assert queue[1]() == [row.payload]


def test_a_failure_is_recorded_backed_off_and_retried(
    database: Engine, aws: str, put: Callable[..., list[str]], queue: Queue
) -> None:
    (message_id,) = put(1)
    # Both made before the clock of the backoff runs.
    topic, missing = Topic(queue[0], "us-east-1"), Topic(queue[0] + "-missing", "us-east-1")
    assert publish_batch(database, missing).failed == 1
    (row,) = all_rows(database)
    assert (row.published_at, row.attempts, row.last_error) == (None, 1, "NotFound")
    assert row.next_attempt_at > row.created_at
    assert publish_batch(database, topic).published == 0
    with database.begin() as connection:
        connection.execute(update(outbox).values(next_attempt_at=row.created_at))
    assert publish_batch(database, topic).published == 1
    assert [message["message_id"] for message in queue[1]()] == [message_id]


def test_what_does_not_fit_the_schema_waits_and_keeps_no_other(
    database: Engine, put: Callable[..., list[str]], queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    (unfit,) = put(1, email="Ada <ada@example.com>")
    fit = put(2)
    assert publish_batch(database, Topic(queue[0], "us-east-1")) == Outcome(published=2, failed=1)
    assert sorted(message["message_id"] for message in queue[1]()) == sorted(fit)
    row = next(row for row in all_rows(database) if str(row.id) == unfit)
    assert (row.published_at, row.last_error) == (None, "MessageUnfit")
    assert row.next_attempt_at > row.created_at + timedelta(minutes=4)
    said = json.dumps([vars(record) for record in caplog.records], default=str)
    assert "$.email fails 'pattern'" in said
    assert "ada@example.com" not in said


def test_what_is_refused_of_a_batch_is_tried_again(
    database: Engine, put: Callable[..., list[str]], aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sns = Sns()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{sns.port}")
    ids = put(3)
    sns.refuses = {ids[1]}
    assert publish_batch(database, Topic(TOPIC, "us-east-1")) == Outcome(published=2, failed=1)
    sns.close()
    assert sns.count() == {ids[0]: 1, ids[2]: 1}
    rows = {str(row.id): row for row in all_rows(database)}
    assert [rows[each].published_at is None for each in ids] == [False, True, False]
    assert (rows[ids[1]].attempts, rows[ids[1]].last_error) == (1, "InternalError")
    assert rows[ids[1]].next_attempt_at > rows[ids[1]].created_at


def test_backoff_doubles_with_jitter_up_to_five_minutes() -> None:
    for attempts, longest in ((1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)):
        waits = [backoff(attempts).total_seconds() for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_publishers_side_by_side_publish_each_message_once(database: Engine, put: Callable[..., list[str]], queue: Queue) -> None:
    ids = put(60)

    def work(_: int) -> int:
        topic, total = Topic(queue[0], "us-east-1"), 0
        while done := publish_batch(database, topic).published:
            total += done
        return total

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, range(3))) == 60
    assert sorted(message["message_id"] for message in queue[1]()) == sorted(ids)


def test_purge_deletes_only_old_published_messages_some_at_a_time(database: Engine, put: Callable[..., list[str]]) -> None:
    *old, new, unpublished = (UUID(each) for each in put(5))
    with database.begin() as connection:
        rows = {row.id: row.created_at for row in connection.execute(select(outbox))}
        for each, age in (*((each, 8) for each in old), (new, 6)):
            when = rows[each] - timedelta(days=age)
            connection.execute(update(outbox).where(outbox.c.id == each).values(published_at=when))
        connection.execute(
            update(outbox).where(outbox.c.id == unpublished).values(created_at=rows[unpublished] - timedelta(days=90))
        )
        assert [purge(connection, timedelta(days=7), 2) for _ in range(3)] == [2, 1, 0]
    assert {row.id for row in all_rows(database)} == {new, unpublished}


@contextmanager
def publishing(engine: Engine, topic: Any, notes: Any) -> Iterator[None]:
    """A publisher at work, which must live to the end."""
    stop = threading.Event()
    worker = threading.Thread(target=run, args=(engine, topic, stop, OutboxMetrics("signup", 60), notes))
    worker.start()
    try:
        yield
        assert worker.is_alive()
    finally:
        stop.set()
        worker.join(20)
    assert not worker.is_alive()


def test_what_is_beside_publishing_waits_until_nothing_is_due(
    database: Engine, put: Callable[..., list[str]], queue: Queue
) -> None:
    put(3 * MAX_BATCH)
    left: list[int] = []

    def take_over(engine: Engine) -> int:
        left.append(sum(row.published_at is None for row in all_rows(engine)))
        return 0

    with publishing(database, Topic(queue[0], "us-east-1"), Mock(take_over=take_over)):
        wait_for("what is left", lambda: bool(left))
    assert left[0] == 0


def test_whatever_fails_beside_publishing_stops_none_of_it(
    database: Engine,
    put: Callable[..., list[str]],
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fails = Mock(side_effect=ProgrammingError("SELECT secret", {}, psycopg2.ProgrammingError("secret")))
    monkeypatch.setattr(OutboxMetrics, "report", fails)
    monkeypatch.setattr(repo, "purge", fails)
    with publishing(database, Topic(queue[0], "us-east-1"), Mock(take_over=fails)):
        wait_for("a third failure", lambda: fails.call_count >= 3)
        put(1)
        wait_for("the message", lambda: all_rows(database)[0].published_at is not None)
    failed = [vars(record)["fields"] for record in caplog.records if "beside publishing" in record.message]
    assert [each["chore"] for each in failed] == ["metrics", "notes", "purge", "metrics"]  # one more at the end
    assert {each["reason"] for each in failed} == {"psycopg2.ProgrammingError"}
    assert "secret" not in str(failed)


@pytest.fixture
def hanging() -> Iterator[tuple[str, list[socket.socket]]]:
    """An SNS that takes requests and never answers: its address, and the connections it has."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            held.append(connection)

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", held
    server.shutdown(socket.SHUT_RDWR)
    for each in [server, *held]:
        each.close()


def start(migrated_url: str, topic: str, endpoint: str, **extra: str) -> subprocess.Popen[str]:
    environment = {
        **{name: os.environ[name] for name in os.environ if not name.startswith("SIGNUP_")},
        "SIGNUP_DATABASE_URL": migrated_url,
        "SIGNUP_TOPIC_ARN": topic,
        "SIGNUP_TOKEN_TABLE": "tokens",
        "SIGNUP_PUBLIC_URL": "http://localhost",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        **extra,
    }
    program = [sys.executable, "-c", "from signup.outbox.publisher import main; main()"]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_command_notifies_publishes_and_ends_cleanly_on_sigterm(
    database: Engine, migrated_url: str, put: Callable[..., list[str]], queue: Queue, aws: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        process = start(migrated_url, queue[0], aws, NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            states = [systemd.recv(100), systemd.recv(100)]
            listener = threading.Thread(target=lambda: states.extend(iter(lambda: systemd.recv(100), b"STOPPING=1")))
            listener.start()
            put(12)
            wait_for("the end of the outbox", lambda: all(row.published_at for row in all_rows(database)))
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
            listener.join(20)
    assert states[0] == b"READY=1"
    assert set(states[1:]) == {b"WATCHDOG=1"}
    assert process.returncode == 0
    assert len(queue[1]()) == 12
    lines = [json.loads(line) for line in output.splitlines()]
    assert sum(line["message"] == "published" for line in lines) == 12
    assert lines[-1]["message"] == "outbox publisher stopped"


def test_outlives_a_database_outage(
    gated: tuple[Any, Any], put: Callable[..., list[str]], database: Engine, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    gate, app = gated
    topic = Topic(queue[0], "us-east-1")
    gate.shut()
    with publishing(app.extensions["signup"].engine, topic, Notes(None)):
        put(1)
        wait_for("two attempts in vain", lambda: caplog.text.count("database is unavailable") >= 2)
        gate.open()
        wait_for("the message", lambda: all_rows(database)[0].published_at is not None)


def test_a_slow_sns_is_given_up_within_the_clients_own_limits(
    database: Engine,
    put: Callable[..., list[str]],
    hanging: tuple[str, list[socket.socket]],
    aws: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, connections = hanging
    put(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    started = time.monotonic()
    assert publish_batch(database, Topic(TOPIC, "us-east-1")).failed == 1
    assert time.monotonic() - started < 12
    assert all_rows(database)[0].last_error == "ReadTimeoutError"
    assert len(connections) == 2  # the first, and once more


def test_a_slow_table_of_mails_is_given_up_sooner(
    aws: str, hanging: tuple[str, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", hanging[0])
    table = MailTable("mail", "us-east-1")
    started = time.monotonic()
    with pytest.raises(MailTableUnavailable, match="ReadTimeoutError"):
        table.note([MailEvent("1", uuid7(), "delivered", utc_now(), None)])
    assert time.monotonic() - started < 5
