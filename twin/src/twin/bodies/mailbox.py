"""Mails on disk, in one SQLite file, so that they outlive the process that received them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS mail (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    recipient TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS mail_recipient ON mail (recipient);
CREATE TABLE IF NOT EXISTS event (number INTEGER PRIMARY KEY, content TEXT NOT NULL);
"""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Mail:
    """One mail to one recipient: of a mail to three addresses there are three."""

    id: str
    recipient: str
    sender: str
    subject: str
    text: str | None
    html: str | None
    custom_args: Mapping[str, str]
    received_at: str = field(default_factory=_now)

    def public(self) -> dict[str, Any]:
        """The mail as the sink's API shows it."""
        entry = asdict(self)
        return {"id": entry.pop("id"), "to": entry.pop("recipient"), "from": entry.pop("sender"), **entry}


class Mailbox:
    """Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "mail.sqlite3", check_same_thread=False)
        self._database.executescript(SCHEMA)

    def add(self, mails: list[Mail]) -> None:
        """Keep all of `mails`, or none."""
        rows = [(mail.id, mail.recipient.lower(), json.dumps(asdict(mail))) for mail in mails]
        with self._lock, self._database:
            self._database.executemany("INSERT INTO mail (id, recipient, content) VALUES (?, ?, ?)", rows)

    def find(self, recipient: str | None = None, limit: int = 1000) -> list[Mail]:
        """The newest mails, oldest of them first, to `recipient` (in any case) or to everyone."""
        query = "SELECT content FROM mail WHERE ?1 IS NULL OR recipient = ?1 ORDER BY number DESC LIMIT ?2"
        with self._lock:
            rows = self._database.execute(query, (recipient and recipient.lower(), limit)).fetchall()
        return [Mail(**json.loads(content)) for (content,) in reversed(rows)]

    def get(self, mail_id: str) -> Mail | None:
        with self._lock:
            row = self._database.execute("SELECT content FROM mail WHERE id = ?", (mail_id,)).fetchone()
        return Mail(**json.loads(row[0])) if row else None

    def queue_events(self, events: list[str]) -> None:
        """Keep events that have to be told."""
        with self._lock, self._database:
            self._database.executemany("INSERT INTO event (content) VALUES (?)", [(event,) for event in events])

    def waiting_events(self, limit: int) -> list[tuple[int, str]]:
        """The oldest events that have to be told, with their numbers."""
        with self._lock:
            return self._database.execute("SELECT number, content FROM event ORDER BY number LIMIT ?", (limit,)).fetchall()

    def forget_events(self, numbers: list[int]) -> None:
        """Those were told, or nobody listened for too long."""
        with self._lock, self._database:
            self._database.executemany("DELETE FROM event WHERE number = ?", [(number,) for number in numbers])

    def close(self) -> None:
        with self._lock:
            self._database.close()
