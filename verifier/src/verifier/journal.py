"""The life of each mail, step by step, for the person on call. No mail waits for it or fails with it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import boto3

from verifier.aws import CONFIG
from verifier.message import Message
from verifier.once import REMEMBER_SECONDS
from verifier.telemetry import logger


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The present as a timestamp."""
    return timestamp(datetime.now(UTC))


class Journal:
    """The table of mails by message id, found by their recipient's SHA-256; addresses are not in it."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._client = boto3.client("dynamodb", config=CONFIG)

    def note(self, request: Message, notification: Mapping[str, Any], **steps: str) -> None:
        """Add an attempt and what came of it; what can't be noted is logged."""
        try:
            self._note(request, notification, steps)
        except Exception as error:  # whatever it is, the mail has gone or will come again for reasons of its own
            logger.warning("a step of a mail is not noted", extra={"error": type(error).__name__})

    def _note(self, request: Message, notification: Mapping[str, Any], steps: Mapping[str, str]) -> None:
        values = {
            "user_id": request.user_id,
            "request_id": request.request_id,
            "recipient": hashlib.sha256(request.email.lower().encode()).hexdigest(),
            "queued_at": timestamp(request.occurred_at),
            **steps,
        }
        sets = [f"#{name} = :{name}" for name in (*values, "expires_at")]
        if notification.get("Timestamp"):  # the first time; a replay publishes once more
            values["published_at"] = str(notification["Timestamp"])
            sets.append("#published_at = if_not_exists(#published_at, :published_at)")
        self._client.update_item(
            TableName=self._table,
            Key={"message_id": {"S": request.message_id}},
            UpdateExpression=f"SET {', '.join(sets)} ADD #attempts :one",
            ExpressionAttributeNames={f"#{name}": name for name in (*values, "expires_at", "attempts")},
            ExpressionAttributeValues={
                **{f":{name}": {"S": value} for name, value in values.items()},
                ":expires_at": {"N": str(int(time.time()) + REMEMBER_SECONDS)},
                ":one": {"N": "1"},
            },
        )
