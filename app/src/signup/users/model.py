"""A user as the service shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from signup.ids import rfc3339


class Event(StrEnum):
    """What the audit trail tells of a user. A row has nothing else but the user's id, a time and a request's id."""

    SIGNED_UP = "user.signed_up"
    SIGNED_UP_AGAIN = "user.signed_up_again"
    VERIFIED = "user.verified"
    VERIFICATION_RESENT = "user.verification_resent"
    RESEND_UNANSWERED = "user.resend_unanswered"
    NAMES_CHANGED = "user.names_changed"
    PICTURE_SET = "user.picture_set"
    PICTURE_REMOVED = "user.picture_removed"
    PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - the event, no password


@dataclass(frozen=True)
class User:
    """An account, without its password."""

    id: UUID
    first_name: str
    last_name: str
    email: str
    verified: bool
    account_created: datetime
    account_updated: datetime

    def to_json(self) -> dict[str, str | bool]:
        """The account as the API answers it."""
        return {
            "id": str(self.id),
            "first_name": self.first_name,
            "last_name": self.last_name,
            "email": self.email,
            "account_created": rfc3339(self.account_created),
            "account_updated": rfc3339(self.account_updated),
            "verified": self.verified,
        }
