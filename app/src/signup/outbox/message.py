"""The message that asks for a verification mail, version 1."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from signup.ids import rfc3339

VERIFICATION = "user.verification_requested"


def verification_message(
    message_id: UUID, user_id: UUID, email: str, request_id: str, occurred_at: datetime
) -> dict[str, str | int]:
    """The message's body, as message.schema.json describes it."""
    return {
        "version": 1,
        "message_id": str(message_id),
        "user_id": str(user_id),
        "email": email,
        "locale": "en",
        "request_id": request_id,
        "occurred_at": rfc3339(occurred_at),
    }
