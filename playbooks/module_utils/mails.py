"""What is known of mails: the idempotency table's word on each message, and the table of mails."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from typing import Any

POLL_SECONDS = 1.0


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """A DynamoDB item of strings, numbers and sets, without their types."""
    return {name: next(iter(value.values())) for name, value in item.items()}


class SentMails:
    """The verifier's idempotency table."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def record(self, message_id: str) -> dict[str, Any]:
        """The message's record, {} without one. Its key is as Powertools makes it."""
        key = f"mail#{hashlib.sha256(json.dumps(message_id).encode()).hexdigest()}"
        found = self._dynamodb.get_item(TableName=self._table, Key={"id": {"S": key}}, ConsistentRead=True)
        return plain(found.get("Item", {}))

    def sent(self, message_id: str) -> bool:
        return bool(self.record(message_id).get("status") == "COMPLETED")

    def await_sent(self, message_ids: Iterable[str], seconds: float) -> set[str]:
        """Those of the messages whose mails are sent, as soon as all are or the time is over."""
        waiting, until = set(message_ids), time.monotonic() + seconds
        done: set[str] = set()
        while True:
            done |= {message_id for message_id in waiting - done if self.sent(message_id)}
            if done == waiting or time.monotonic() >= until:
                return done
            time.sleep(POLL_SECONDS)
