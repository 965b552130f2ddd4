"""SQL for the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, Delete, delete, func, insert, literal, select, update

from signup.schema.tables import outbox, registrations

DECOY = "decoy"
KEEP = timedelta(days=7)
"""How long published messages and unconfirmed registrations are kept."""


_INSERT = insert(outbox)


@dataclass(frozen=True)
class OutboxRow:
    """A message that is due."""

    id: UUID
    payload: dict[str, Any]
    attempts: int


def insert_message(connection: Connection, message_id: UUID, kind: str, payload: Mapping[str, Any]) -> None:
    """Add a message, due at once."""
    connection.execute(_INSERT, {"id": message_id, "kind": kind, "payload": dict(payload)})


def insert_decoy(connection: Connection, message_id: UUID) -> None:
    """Add a row that nobody publishes, for a request that must take as long as one that sends a message."""
    connection.execute(insert(outbox).values(id=message_id, kind=DECOY, payload={}, published_at=func.now()))


def lock_due(connection: Connection, limit: int) -> list[OutboxRow]:
    """The messages due longest, locked for this transaction; those that another publisher holds are skipped."""
    statement = (
        select(outbox.c.id, outbox.c.payload, outbox.c.attempts)
        .where(outbox.c.published_at.is_(None), outbox.c.next_attempt_at <= func.now())
        .order_by(outbox.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [OutboxRow(row.id, row.payload, row.attempts) for row in connection.execute(statement)]


def mark_published(connection: Connection, message_ids: Iterable[UUID]) -> None:
    """Record that SNS took the messages."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(message_ids))
        .values(published_at=func.clock_timestamp(), attempts=outbox.c.attempts + 1, last_error=None)
    )


def mark_failed(connection: Connection, message_id: UUID, delay: timedelta, error: str) -> None:
    """Record a failed attempt and when to try again."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == message_id)
        .values(
            attempts=outbox.c.attempts + 1,
            next_attempt_at=func.clock_timestamp() + literal(delay),
            last_error=error[:200],
        )
    )


def backlog(connection: Connection) -> tuple[int, float]:
    """How many messages are not published yet, and for how many seconds the oldest has waited."""
    age = func.extract("epoch", func.clock_timestamp() - func.min(outbox.c.created_at))
    depth, oldest = connection.execute(select(func.count(), age).where(outbox.c.published_at.is_(None))).one()
    return depth, max(0.0, float(oldest or 0))


def purge(connection: Connection, age: timedelta, limit: int) -> int:
    """Delete published messages and unconfirmed registrations older than `age`, at most `limit` of each; returns how many."""
    oldest = ((outbox.c.id, outbox.c.published_at), (registrations.c.message_id, registrations.c.created_at))
    return sum(connection.execute(_delete(key, since, age, limit)).rowcount for key, since in oldest)


def _delete(key: Column[UUID], since: Column[datetime], age: timedelta, limit: int) -> Delete:
    old = select(key).where(since < func.now() - literal(age)).order_by(since).limit(limit)
    # What another publisher deletes just now is skipped.
    return delete(key.table).where(key.in_(old.with_for_update(skip_locked=True)))
