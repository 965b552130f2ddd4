"""A picture as the service knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from signup.ids import rfc3339


@dataclass(frozen=True)
class Picture:
    """Where a user's picture is, and what it is."""

    object_key: str
    content_type: str
    size: int
    created_at: datetime

    def to_json(self) -> dict[str, str | int]:
        """The picture as the API answers it."""
        return {"content_type": self.content_type, "size": self.size, "created": rfc3339(self.created_at)}
