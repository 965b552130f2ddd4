"""SQL for events of mails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, DateTime, Row, Text, Uuid, column, func, select, update, values
from sqlalchemy.dialects.postgresql import insert

from signup.mail_events.events import MailEvent, MailStatus, status_of
from signup.outbox.message import VERIFICATION
from signup.schema.tables import mail_events, outbox

CHUNK = 500


def insert_events(connection: Connection, events: list[MailEvent]) -> int:
    """Keep events of messages that are known and events that are new; how many these were.

    Give them in one order: two transactions that keep the same ones then wait for each other, and never both.
    """
    kept = 0
    for start in range(0, len(events), CHUNK):
        rows = [(one.id, one.message_id, one.kind, one.occurred_at, one.reason) for one in events[start : start + CHUNK]]
        given = values(
            column("id", Text),
            column("message_id", Uuid),
            column("kind", Text),
            column("occurred_at", DateTime(timezone=True)),
            column("reason", Text),
            name="given",
        ).data(rows)
        known = select(given).join(outbox, outbox.c.id == given.c.message_id).order_by(given.c.id)
        statement = (
            insert(mail_events)
            .from_select(["id", "message_id", "kind", "occurred_at", "reason"], known)
            .on_conflict_do_nothing(index_elements=[mail_events.c.id])
            .returning(mail_events.c.id)
        )
        kept += len(connection.execute(statement).all())
    return kept


def last_mail(connection: Connection, user_id: UUID) -> MailStatus | None:
    """The status of the newest mail that was asked for a user; None once it is forgotten."""
    newest = (
        select(outbox)
        .where(outbox.c.payload["user_id"].astext == str(user_id), outbox.c.kind == VERIFICATION)
        .order_by(outbox.c.created_at.desc(), outbox.c.id.desc())
        .limit(1)
    ).subquery()
    rows = connection.execute(
        select(newest.c.created_at, newest.c.published_at, mail_events).join_from(
            newest, mail_events, mail_events.c.message_id == newest.c.id, isouter=True
        )
    ).all()
    if not rows:
        return None
    return status_of(rows[0].created_at, rows[0].published_at, [_event(row) for row in rows if row.id is not None])


def lock_unnoted(connection: Connection, limit: int) -> list[MailEvent]:
    """Up to that many events that the table of mails does not have yet, in their order, locked; those that another process
    holds are skipped."""
    statement = (
        select(mail_events)
        .where(mail_events.c.noted_at.is_(None))
        .order_by(mail_events.c.occurred_at, mail_events.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_event(row) for row in connection.execute(statement)]


def mark_noted(connection: Connection, event_ids: Iterable[str]) -> None:
    """Record that the table of mails has these events."""
    these = mail_events.c.id.in_(list(event_ids))
    connection.execute(update(mail_events).where(these).values(noted_at=func.clock_timestamp()))


def _event(row: Row[Any]) -> MailEvent:
    return MailEvent(row.id, row.message_id, row.kind, row.occurred_at, row.reason)
