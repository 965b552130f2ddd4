"""Taking events over into the table of mails, beside the request that brought them."""

from __future__ import annotations

import logging
import time

from sqlalchemy import Engine

from signup.clients.mail_table import MailTable, MailTableUnavailable
from signup.mail_events import repo

BATCH = 20
PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Notes:
    """What the publisher does when it has published: at least once each, and after a failure not again for a while."""

    def __init__(self, table: MailTable | None) -> None:
        self._table = table
        self._next = time.monotonic()

    def take_over(self, engine: Engine) -> int:
        """Note some events that are not noted; how many. Raises one of DATABASE_DOWN."""
        if self._table is None or time.monotonic() < self._next:
            return 0
        noted = 0
        with engine.begin() as connection:
            for event in repo.lock_unnoted(connection, BATCH):
                try:
                    self._table.note(event)
                except MailTableUnavailable as error:
                    self._next = time.monotonic() + PAUSE_SECONDS
                    log.warning("the table of mails is unavailable", extra={"fields": {"code": str(error)}})
                    break
                repo.mark_noted(connection, event.id)
                noted += 1
        return noted
