"""`signup-outbox`: publishes the outbox to SNS, at least once each."""

from __future__ import annotations

import logging
import random
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine

from signup.clients.mail_table import MailTable
from signup.clients.topic import MAX_BATCH, Topic
from signup.database import DATABASE_DOWN, make_engine
from signup.logs import configure, type_name
from signup.mail_events.notes import Notes
from signup.notify import notify
from signup.outbox import repo
from signup.outbox.chores import Chore
from signup.outbox.contract import MessageUnfit, check
from signup.outbox.metrics import OutboxMetrics
from signup.settings import load_or_exit, load_settings

IDLE_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 300.0
MAX_OUTAGE_PAUSE_SECONDS = 15.0
PURGE_EVERY_SECONDS = 3600.0
PURGE_AT_ONCE = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one batch did."""

    published: int = 0
    failed: int = 0


def backoff(attempts: int) -> timedelta:
    """How long to wait after that many failed attempts: doubling from 1 s to 5 min, with jitter down to half."""
    longest = min(MAX_BACKOFF_SECONDS, 2.0 ** min(attempts - 1, 16))
    return timedelta(seconds=longest * random.uniform(0.5, 1))  # noqa: S311 - spreads load, guards nothing


def publish_batch(engine: Engine, topic: Topic) -> Outcome:
    """Publish the messages that are due, at most MAX_BATCH, in one request.

    The rows stay locked until the transaction ends: another instance skips them, and if this process dies they are
    due again. A crash between publishing and committing publishes messages twice; their message_id tells.
    """
    with engine.begin() as connection:
        rows = repo.lock_due(connection, MAX_BATCH)
        texts = _fit(connection, rows)
        refused = topic.publish(texts) if texts else {}
        done = texts.keys() - refused.keys()
        taken = [row for row in rows if str(row.id) in done]
        if taken:
            repo.mark_published(connection, [row.id for row in taken])
        for row in rows:
            if code := refused.get(str(row.id)):
                delay = backoff(row.attempts + 1)
                repo.mark_failed(connection, row.id, delay, code)
                retry = {"attempt": row.attempts + 1, "retry_in_seconds": round(delay.total_seconds(), 1)}
                log.warning("publishing failed", extra={"fields": {**_told(row), **retry, "code": code}})
    for row in taken:
        log.info("published", extra={"fields": _told(row)})
    return Outcome(len(taken), len(rows) - len(taken))


def _fit(connection: Connection, rows: list[repo.OutboxRow]) -> dict[str, str]:
    """The texts of those messages that fit their schema, by their ids."""
    texts = {}
    for row in rows:
        try:
            texts[str(row.id)] = check(row.payload)
        except MessageUnfit as error:
            # Its reader would refuse it. A later release may know what to do with it, so it waits.
            repo.mark_failed(connection, row.id, timedelta(seconds=MAX_BACKOFF_SECONDS), "MessageUnfit")
            log.error("a message does not fit its schema", extra={"fields": {**_told(row), "reason": str(error)}})
    return texts


def _told(row: repo.OutboxRow) -> dict[str, str | None]:
    return {"message_id": str(row.id), "request_id": row.payload.get("request_id")}


def purge(engine: Engine) -> int:
    """Delete some of what is no longer needed; how much it was."""
    with engine.begin() as connection:
        return repo.purge(connection, repo.KEEP, PURGE_AT_ONCE)


def run(engine: Engine, topic: Topic, stop: threading.Event, metrics: OutboxMetrics, notes: Notes) -> None:
    """Publish until `stop` is set. Outlives outages of the database and of SNS."""
    pause = IDLE_SECONDS
    report = Chore("metrics", metrics.report, metrics.seconds)
    idle = (Chore("notes", notes.take_over, IDLE_SECONDS), Chore("purge", purge, PURGE_EVERY_SECONDS))
    notify("READY=1")
    while not stop.is_set():
        notify("WATCHDOG=1")
        try:
            outcome = publish_batch(engine, topic)
        except DATABASE_DOWN as error:
            pause = min(pause * 2, MAX_OUTAGE_PAUSE_SECONDS)
            original = getattr(error, "orig", None) or error
            log.warning("database is unavailable", extra={"fields": {"reason": type_name(original)}})
            stop.wait(pause)
            continue
        pause = IDLE_SECONDS
        metrics.published.add(outcome.published)
        metrics.failed.add(outcome.failed)
        report.run_if_due(engine)
        if outcome.published + outcome.failed < MAX_BATCH:  # nothing is due any more
            for chore in idle:
                chore.run_if_due(engine)
        if outcome.published < MAX_BATCH:
            stop.wait(IDLE_SECONDS)
    report.run(engine)
    notify("STOPPING=1")


def main() -> None:
    """Console script; ends with 0 on SIGTERM or SIGINT, 78 on wrong settings."""
    settings = load_or_exit(load_settings)
    configure(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine = make_engine(settings.database, "signup-outbox", pool_size=1)
    log.info("outbox publisher started")
    metrics = OutboxMetrics(settings.metrics_namespace, settings.metrics_seconds)
    table = MailTable(settings.mail_table, settings.region) if settings.mail_table else None
    run(engine, Topic(settings.topic_arn, settings.region), stop, metrics, Notes(table))
    engine.dispose()
    log.info("outbox publisher stopped")
