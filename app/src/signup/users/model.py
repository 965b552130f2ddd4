"""A user as the service shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from signup.ids import rfc3339


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
