"""What lies in a queue of given-up messages: SNS notifications, or Lambda's records of events that failed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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


def _object(value: Any) -> dict[str, Any]:
    """The value if it is an object; {} otherwise."""
    return value if isinstance(value, dict) else {}


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
        request, answer = _object(content.get("requestContext")), _object(content.get("responsePayload"))
        words = [request.get("condition"), answer.get("errorType"), answer.get("errorMessage")]
        why = ": ".join(str(word) for word in words if word)
        count = request.get("approximateInvokeCount")
        attempts = count if isinstance(count, int) else 0
        records = _object(content["requestPayload"]).get("Records")
        notifications = [_object(record).get("Sns") for record in records] if isinstance(records, list) else []
    elif reason := (entry.get("MessageAttributes") or {}).get("Reason", {}).get("StringValue"):
        why, attempts = f"refused: {reason}", 1
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
    """A queue of given-up messages; a context manager, at whose end others see again all that was taken and not removed.

    `late` counts the entries that came meanwhile and are left for the next time, `more` tells that the limit left others.
    """

    def __init__(self, sqs: Any, name: str) -> None:
        self._sqs = sqs
        self._url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        self._held: dict[str, str] = {}
        self.late = 0
        self.more = False

    def __enter__(self) -> LetterQueue:
        return self

    def __exit__(self, *_: object) -> None:
        receipts = list(self._held.values())
        for start in range(0, len(receipts), BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(receipts[start : start + BATCH])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

    def take(self, limit: int) -> Iterator[Letter]:
        """The entries that are there now, at most `limit`, each hidden from others until the end or until it is removed.

        One that comes while this goes on is left for the next time: it may be one that was just replayed in vain.
        """
        seen: set[str] = set()
        began, taken = float("inf"), 0
        while taken < limit:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(BATCH, limit - taken),
                VisibilityTimeout=LEASE_SECONDS,
                WaitTimeSeconds=1,  # asks all of SQS's servers
                AttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
            got = answer.get("Messages", [])
            self._held |= {entry["MessageId"]: entry["ReceiptHandle"] for entry in got}
            if not got:
                return
            if not seen:
                began = _asked_at(answer)
            fresh = [entry for entry in got if entry["MessageId"] not in seen]
            seen |= {entry["MessageId"] for entry in fresh}
            here = [entry for entry in fresh if float(entry["Attributes"]["SentTimestamp"]) < began]
            self.late += len(fresh) - len(here)
            taken += len(here)
            yield from map(read, here)
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"])
        self.more = int(attributes["Attributes"]["ApproximateNumberOfMessages"]) > 0

    def topic_arn(self, name: str) -> str:
        """The ARN of a topic in the queue's own region and account."""
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        _, partition, _, region, account, _ = attributes["QueueArn"].split(":")
        return f"arn:{partition}:sns:{region}:{account}:{name}"

    def remove(self, letter: Letter) -> None:
        """Delete an entry."""
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=letter.receipt)
        self._held.pop(letter.id, None)


def _asked_at(answer: dict[str, Any]) -> float:
    """When SQS answered, in milliseconds of its own clock, which the operator's need not agree with; rounded up to the second."""
    date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
    return 1000 * (parsedate_to_datetime(date).timestamp() + 1)
