"""Metrics: what is counted, and the lines that CloudWatch Logs reads."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from serving import Serve
from sqlalchemy import Engine, insert, text, update
from waiting import wait_for

from signup.clients.topic import MAX_BATCH
from signup.ids import uuid7
from signup.logs import JsonFormatter
from signup.mail_events.notes import Notes
from signup.metrics.reporter import report
from signup.metrics.values import HIGHEST, LOWEST, Distribution
from signup.outbox import publisher
from signup.outbox.metrics import OutboxMetrics
from signup.outbox.publisher import Outcome
from signup.passwords import HashQueueFull, PasswordHasher
from signup.schema.tables import outbox

Line = dict[str, Any]


def is_valid_emf(line: Line) -> bool:
    """Whether CloudWatch Logs would take it (its Embedded Metric Format Specification)."""
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    names = [metric["Name"] for metric in directive["Metrics"]]
    values = [line[name] for name in names]
    return (
        isinstance(line["_aws"]["Timestamp"], int)
        and 1 <= len(directive["Namespace"]) <= 1024
        and 1 <= len(names) <= 100
        and all(isinstance(line[name], str) and line[name] for names in directive["Dimensions"] for name in names)
        and all(len(value["Values"]) == len(value["Counts"]) <= 100 for value in values if isinstance(value, dict))
        and all(isinstance(value, int | float | dict) for value in values)
        and {metric["Unit"] for metric in directive["Metrics"]} <= {"Count", "Seconds", "Milliseconds"}
    )


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[Line]]:
    """The metrics that were logged, as they are written."""
    logger, found = logging.getLogger("signup.metrics"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    keep = Keep()
    keep.setFormatter(JsonFormatter())
    logger.addHandler(keep)
    caplog.set_level(logging.INFO, "signup.metrics")
    yield found
    logger.removeHandler(keep)


def reported(app: Flask, lines: list[Line]) -> tuple[dict[tuple[str, str, str], Line], Line]:
    """The requests by route, method and status class, and the line of the process."""
    del lines[:]
    report(app.extensions["signup"], app.extensions["signup.requests"])
    assert all(is_valid_emf(line) for line in lines), lines
    return {(line["Route"], line["Method"], line["StatusClass"]): line for line in lines[:-1]}, lines[-1]


def test_requests_are_counted_by_route_never_by_path(
    app: Flask, client: FlaskClient, lines: list[Line], person: dict[str, str]
) -> None:
    began = time.monotonic()
    client.post("/v1/user", json=person)
    took = 1000 * (time.monotonic() - began)
    client.post("/v1/user", json={})
    for number in range(20):
        client.get(f"/v1/user/verify?token={number:043}")
        client.get(f"/{person['email']}/{number}")
        client.open("/v1/user", method=f"M{number}")
        client.delete("/v1/user")
    counted, _ = reported(app, lines)
    assert {key: line["Requests"] for key, line in counted.items()} == {
        ("/v1/user", "POST", "2xx"): 1,
        ("/v1/user", "POST", "4xx"): 1,
        ("/v1/user/verify", "GET", "4xx"): 20,
        ("other", "GET", "4xx"): 20,
        ("other", "DELETE", "4xx"): 20,
        ("other", "other", "4xx"): 20,
    }
    latency = counted["/v1/user", "POST", "2xx"]["Latency"]
    assert (latency["Count"], latency["Min"], latency["Sum"]) == (1, latency["Max"], latency["Max"])
    assert took / 2 < latency["Max"] < took + 0.001
    assert reported(app, lines)[0] == {}


def test_a_failure_of_our_own_is_counted(app: Flask, client: FlaskClient, lines: list[Line]) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError

    client.get("/broken")
    assert reported(app, lines)[0].keys() == {("/broken", "GET", "5xx")}


def test_latencies_keep_their_sum_and_their_percentiles() -> None:
    made = Distribution()
    for number in range(1, 1001):
        made.add(number / 2)
    value = made.to_emf()
    assert (value["Count"], value["Sum"], value["Min"], value["Max"]) == (1000, 250_250, 0.5, 500)
    assert sum(value["Counts"]) == 1000
    kept = [middle for middle, count in zip(value["Values"], value["Counts"], strict=True) for _ in range(count)]
    for number in (10, 500, 900, 990, 1000):
        assert kept[number - 1] == pytest.approx(number / 2, rel=0.075)


def test_latencies_of_any_length_fit_in_one_line() -> None:
    made = Distribution()
    step = 0.0
    while step < 10 * HIGHEST:
        made.add(step)
        step = (step or LOWEST / 10) * 1.01
    assert len(made.to_emf()["Values"]) <= 100


def test_the_hash_queue_is_measured() -> None:
    hasher = PasswordHasher(slots=1, queue=1, wait_seconds=0.05)
    with hasher._slot(), pytest.raises(HashQueueFull):  # one waits in vain
        hasher.hash("x")
    assert (hasher.busy.take(), hasher.waiting.take(), hasher.refused.take()) == (1, 1, 1)
    hasher.hash("x")
    assert (hasher.busy.take(), hasher.waiting.take(), hasher.refused.take()) == (1, 0, 0)
    full = PasswordHasher(slots=1, queue=0)
    with full._slot(), pytest.raises(HashQueueFull):  # nobody may wait
        full.hash("x")
    assert (full.busy.take(), full.waiting.take(), full.refused.take()) == (1, 0, 1)


def test_the_pool_is_measured(app: Flask, lines: list[Line]) -> None:
    engine: Engine = app.extensions["signup"].engine
    reported(app, lines)
    held = [engine.connect() for _ in range(8)]
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(engine.connect)
        wait_for("a wait", lambda: app.extensions["signup"].engine.pool.waits._count)
        assert not waits.done()
        held.pop().close()
        held.append(waits.result(timeout=5))
    _, line = reported(app, lines)
    assert (line["DatabasePoolSize"], line["DatabasePoolCheckedOut"], line["DatabasePoolWaits"]) == (8, 8, 1)
    for each in held:
        each.close()
    reported(app, lines)
    _, line = reported(app, lines)
    assert (line["DatabasePoolCheckedOut"], line["DatabasePoolWaits"]) == (0, 0)


def test_the_outbox_reports_its_depth_and_age(database: Engine, lines: list[Line]) -> None:
    metrics = OutboxMetrics("signup", seconds=0)
    metrics.report(database)
    with database.begin() as connection:
        for number in range(3):
            connection.execute(insert(outbox).values(id=uuid7(), kind="test", payload={"number": number}))
        connection.execute(
            update(outbox).values(created_at=text("now() - interval '90 s'")).where(outbox.c.payload["number"].as_integer() == 0)
        )
        connection.execute(update(outbox).values(published_at=text("now()")).where(outbox.c.payload["number"].as_integer() == 1))
    metrics.published.add(4)
    metrics.report(database)
    assert all(is_valid_emf(line) for line in lines)
    assert [line["OutboxDepth"] for line in lines] == [0, 2]
    assert [line["OutboxPublished"] for line in lines] == [0, 4]
    assert lines[0]["OutboxOldestAge"] == 0
    assert 90 <= lines[1]["OutboxOldestAge"] < 150


def test_the_outbox_reports_once_a_period_and_at_the_end(
    database: Engine, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, turns = threading.Event(), itertools.count(1)

    def publish(_engine: Engine, _topic: Any) -> Outcome:
        number = next(turns)
        if number == 3:
            stop.set()
        return Outcome(published=MAX_BATCH, failed=number)

    monkeypatch.setattr(publisher, "publish_batch", publish)
    publisher.run(database, Mock(), stop, OutboxMetrics("signup", seconds=3600), Notes(None))
    assert [(line["OutboxPublished"], line["OutboxFailed"]) for line in lines] == [(MAX_BATCH, 1), (2 * MAX_BATCH, 5)]


def test_the_service_writes_them_and_what_is_left_when_it_stops(serve: Serve, person: dict[str, str]) -> None:
    url, process = serve(SIGNUP_WORKERS="1", SIGNUP_METRICS_NAMESPACE="t/signup", SIGNUP_LOG_LEVEL="ERROR")
    assert requests.post(f"{url}/v1/user", json=person, timeout=20).status_code == 201
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    lines = [json.loads(line) for line in output.splitlines()]
    measured = [line for line in lines if "_aws" in line]
    assert all(is_valid_emf(line) for line in measured)
    assert {line["_aws"]["CloudWatchMetrics"][0]["Namespace"] for line in measured} == {"t/signup"}
    assert [line["Requests"] for line in measured if line.get("Route") == "/v1/user"] == [1]
    assert [line["DatabasePoolSize"] for line in measured if "HashesBusy" in line] == [8]


def test_they_are_written_every_period(serve: Serve) -> None:
    _, process = serve(SIGNUP_WORKERS="1", SIGNUP_METRICS_SECONDS="1")
    seen = 0
    assert process.stdout is not None
    for line in process.stdout:
        seen += "HashesBusy" in line
        if seen == 2:
            return
    pytest.fail("the service ended")
