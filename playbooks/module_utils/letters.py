"""What lies in a queue of given-up messages: SNS notifications, or Lambda's records of events that failed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

BATCH = 10
# A message that is looked at is invisible to others for so long, at most.
LEASE_SECONDS = 120


@dataclass(frozen=True)
class Letter:
    """One entry of a queue. `messages` are the texts that were published, none if it can't be read."""

    id: str
    receipt: str = field(repr=False)
    kept_at: str
    why: str
    attempts: int
    messages: tuple[str, ...] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """What may be shown of each message; addresses may not."""
        about = {"id": self.id, "kept_at": self.kept_at, "why": self.why, "attempts": self.attempts}
        found = []
        for text in self.messages or ("",):
            content = parsed(text)
            names = ("message_id", "user_id", "request_id", "occurred_at")
            found.append({**about, **{name: str(content.get(name) or "-") for name in names}})
        return found


def parsed(text: str) -> dict[str, Any]:
    """JSON that is an object; {} otherwise."""
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    return {}


def moment(milliseconds: str) -> str:
    """SQS's milliseconds as a time to the second, in UTC."""
    return f"{datetime.fromtimestamp(int(milliseconds) / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def read(entry: dict[str, Any]) -> Letter:
    """An entry as ReceiveMessage gives it.

    SNS's own dead letters are its notifications; the function's are Lambda's invocation records
    (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html); refused ones are notifications with a
    reason.
    """
    content = parsed(entry["Body"])
    attributes = entry.get("Attributes", {})
    why, attempts = "not delivered to the function", 0
    notifications: list[Any] = [content]
    if "requestPayload" in content:
        request, answer = content.get("requestContext") or {}, content.get("responsePayload")
        words = [request.get("condition")]
        if isinstance(answer, dict):
            words += [answer.get("errorType"), answer.get("errorMessage")]
        why = ": ".join(str(word) for word in words if word)
        attempts = int(request.get("approximateInvokeCount") or 0)
        payload = content["requestPayload"]
        records = payload.get("Records") if isinstance(payload, dict) else None
        notifications = [record.get("Sns") for record in records or () if isinstance(record, dict)]
    elif reason := (entry.get("MessageAttributes") or {}).get("Reason"):
        why, attempts = f"refused: {reason['StringValue']}", 1
    texts = [one.get("Message") for one in notifications if isinstance(one, dict)]
    return Letter(
        id=entry["MessageId"],
        receipt=entry["ReceiptHandle"],
        kept_at=moment(attributes["SentTimestamp"]),
        why=why,
        attempts=attempts,
        messages=tuple(text for text in texts if isinstance(text, str)),
    )


class LetterQueue:
    """A queue of given-up messages."""

    def __init__(self, sqs: Any, name: str) -> None:
        self._sqs = sqs
        self._url = sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def take(self, limit: int) -> Iterator[Letter]:
        """The entries that are there now, at most `limit`, each hidden from others until it is removed or given back.

        One that comes while this goes on is left for the next time: it may be one that was just replayed in vain.
        """
        began = time.time() * 1000
        seen: set[str] = set()
        while len(seen) < limit:
            got = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(BATCH, limit - len(seen)),
                VisibilityTimeout=LEASE_SECONDS,
                WaitTimeSeconds=1,  # asks all of SQS's servers
                AttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            fresh = [entry for entry in got if entry["MessageId"] not in seen]
            late = [entry for entry in fresh if float(entry["Attributes"]["SentTimestamp"]) > began]
            self.give_back([entry["ReceiptHandle"] for entry in late])
            seen |= {entry["MessageId"] for entry in fresh}
            if len(fresh) == len(late):
                return
            yield from (read(entry) for entry in fresh if entry not in late)

    def topic_arn(self, name: str) -> str:
        """The ARN of a topic in the queue's own region and account."""
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        _, partition, _, region, account, _ = attributes["QueueArn"].split(":")
        return f"arn:{partition}:sns:{region}:{account}:{name}"

    def give_back(self, receipts: list[str]) -> None:
        """Let others see entries again at once."""
        for start in range(0, len(receipts), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(receipts[start : start + BATCH])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def remove(self, receipt: str) -> None:
        """Delete an entry."""
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=receipt)
