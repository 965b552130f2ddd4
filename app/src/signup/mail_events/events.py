"""Reading events, and what they say of a mail."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from signup.ids import rfc3339

# SendGrid's names of what is kept, and ours. What its recipient does with a mail is nobody's business.
KINDS = {
    "processed": "accepted",
    "deferred": "deferred",
    "delivered": "delivered",
    "spamreport": "reported",
    "dropped": "dropped",
    "bounce": "bounced",
}
ENDS = {"delivered": "delivered", "bounced": "bounced", "dropped": "bounced", "reported": "delivered"}
MAX_REASON = 200
RANKS = {kind: rank for rank, kind in enumerate(KINDS.values())}
"""The order of what is said to have happened in one second, which is as exact as SendGrid is."""


@dataclass(frozen=True)
class MailEvent:
    """Something that happened to the mail of a message."""

    id: str
    message_id: UUID
    kind: str
    occurred_at: datetime
    reason: str | None


@dataclass(frozen=True)
class MailStatus:
    """How far a mail is: queued, published, accepted, delivered or bounced; since when, and why."""

    status: str
    at: datetime
    reason: str | None = None

    def to_json(self) -> dict[str, str]:
        """The status as the API answers it."""
        found = {"status": self.status, "at": rfc3339(self.at)}
        return {**found, "reason": self.reason} if self.reason else found


def read(content: Iterable[Any]) -> list[MailEvent]:
    """The events of our mails, each once, in the order of their ids; what is none is left out."""
    found = {event.id: event for event in map(_read, content) if event is not None}
    return [found[name] for name in sorted(found)]


def _read(entry: Any) -> MailEvent | None:
    if not isinstance(entry, dict):
        return None
    kind, name, seconds = KINDS.get(str(entry.get("event"))), entry.get("sg_event_id"), entry.get("timestamp")
    if kind is None or not isinstance(name, str) or not re.fullmatch(r"[!-~]{1,100}", name):
        return None
    try:
        message_id = UUID(str(entry.get("message_id")))  # one of our custom_args
        occurred_at = datetime.fromtimestamp(int(str(seconds)), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return MailEvent(name, message_id, kind, occurred_at, _reason(entry))


def _reason(entry: dict[str, Any]) -> str | None:
    """Why a mail was held up, came back or was dropped, without the addresses that servers like to quote."""
    given = entry.get("reason") or entry.get("response")
    if entry.get("event") not in ("bounce", "dropped", "deferred") or not isinstance(given, str):
        return None
    # JSON can name characters that no encoding has: half a pair.
    words = given.encode(errors="replace").decode().replace("\0", " ").split()
    text = " ".join("(address)" if "@" in word else word for word in words)
    # A block is for now, a bounce for good.
    return f"{'blocked: ' if entry.get('type') == 'blocked' else ''}{text}"[:MAX_REASON] or None


def status_of(queued_at: datetime, published_at: datetime | None, events: Iterable[MailEvent]) -> MailStatus:
    """The status that these events leave a mail in, in whatever order they came."""
    ordered = sorted(events, key=lambda event: (event.occurred_at, RANKS.get(event.kind, -1), event.id))
    for event in reversed(ordered):
        if event.kind in ENDS:
            return MailStatus(ENDS[event.kind], event.occurred_at, event.reason)
    if ordered:  # deferred: taken, and on its way for longer
        return MailStatus("accepted", ordered[0].occurred_at, ordered[-1].reason)
    return MailStatus("published", published_at) if published_at else MailStatus("queued", queued_at)
