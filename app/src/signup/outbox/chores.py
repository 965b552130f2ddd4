"""What the publisher does beside publishing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import Engine

from signup.clients.mail_table import MailTableUnavailable
from signup.logs import type_name

AFTER_FAILURE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Chore:
    """Something to be done every so often, a little at a time. Whatever fails in it stops nothing else, and waits for a while.

    `do` returns how much it did: as long as that is something, it goes on at the next turn.
    """

    def __init__(self, name: str, do: Callable[[Engine], int], every_seconds: float) -> None:
        self._name, self._do, self._every = name, do, every_seconds
        self._next = time.monotonic()

    def run_if_due(self, engine: Engine) -> None:
        """Do some of it, if it is time."""
        if time.monotonic() >= self._next:
            self.run(engine)

    def run(self, engine: Engine) -> None:
        """Do some of it."""
        try:
            pause = 0.0 if self._do(engine) else self._every
        except Exception as error:
            pause = AFTER_FAILURE_SECONDS
            fields = {"chore": self._name, "reason": _reason(error)}
            log.warning("what is done beside publishing has failed", extra={"fields": fields})
        self._next = time.monotonic() + pause


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MailTableUnavailable) else type_name(getattr(error, "orig", None) or error)
