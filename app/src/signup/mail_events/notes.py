"""Taking events over into the table of mails, beside the request that brought them."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from signup.clients.mail_table import MailTable
from signup.mail_events import repo

SECONDS = 1.0
"""How long it goes on, beside the call that is under way then: messages may be waiting."""


class Notes:
    """What the publisher does when nothing is left to publish: at least once each."""

    def __init__(self, table: MailTable | None) -> None:
        self._table = table

    def take_over(self, engine: Engine) -> int:
        """Note some events that are not noted; how many. Raises MailTableUnavailable or one of DATABASE_DOWN."""
        noted = 0
        until = time.monotonic() + SECONDS
        while self._table is not None and time.monotonic() < until and (more := _note(engine, self._table)):
            noted += more
        return noted


def _note(engine: Engine, table: MailTable) -> int:
    """Note what is new of one mail, in a transaction of its own: what follows may fail. Returns how many events it was."""
    with engine.begin() as connection:
        events = repo.lock_unnoted(connection)
        if events:
            table.note(events)
            repo.mark_noted(connection, [event.id for event in events])
    return len(events)
