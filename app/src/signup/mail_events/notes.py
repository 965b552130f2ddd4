"""Taking events over into the table of mails, beside the request that brought them."""

from __future__ import annotations

import time
from uuid import UUID

from sqlalchemy import Engine

from signup.clients.mail_table import MailTable, MailTableUnavailable
from signup.mail_events import repo
from signup.mail_events.events import MailEvent

SECONDS = 1.0
"""How long it goes on, beside the call that is under way then: messages may be waiting."""
AT_ONCE = 100
"""How many events a transaction takes: each commit waits for the standby, and takes time from signups."""


class Notes:
    """What the publisher does when nothing is left to publish: at least once each."""

    def __init__(self, table: MailTable | None) -> None:
        self._table = table

    def take_over(self, engine: Engine) -> int:
        """Note some events that are not noted; how many. Raises MailTableUnavailable or one of DATABASE_DOWN."""
        noted = 0
        until = time.monotonic() + SECONDS
        while self._table is not None and time.monotonic() < until and (more := _note(engine, self._table, until)):
            noted += more
        return noted


def _note(engine: Engine, table: MailTable, until: float) -> int:
    """Note what is new, mail by mail, in one transaction: what was noted stays so when a later one fails, or time is over.
    Returns how many events it was."""
    noted: list[str] = []
    failure: MailTableUnavailable | None = None
    with engine.begin() as connection:
        mails: dict[UUID, list[MailEvent]] = {}
        for event in repo.lock_unnoted(connection, AT_ONCE):
            mails.setdefault(event.message_id, []).append(event)
        try:
            for events in mails.values():
                if noted and time.monotonic() >= until:
                    break
                table.note(events)
                noted += [event.id for event in events]
        except MailTableUnavailable as error:
            failure = error
        if noted:
            repo.mark_noted(connection, noted)
    if failure:
        raise failure
    return len(noted)
