"""The queue of refused messages: what trying again won't help, kept for a person to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3

from verifier.aws import CONFIG
from verifier.message import MAX_BYTES


class RefusedQueue:
    """An SQS queue of SNS notifications, each with the reason why it was refused."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url
        self._client = boto3.client("sqs", config=CONFIG)

    def put(self, notification: Mapping[str, Any], reason: str) -> None:
        """Keep a notification as SNS delivered it, an oversize message cut short.

        A message that is delivered twice may be here twice.
        """
        kept = {name: notification.get(name) for name in ("Type", "MessageId", "TopicArn", "Timestamp")}
        kept["Message"] = str(notification.get("Message", ""))[: MAX_BYTES + 1]
        self._client.send_message(
            QueueUrl=self._queue_url,
            MessageBody=json.dumps(kept),
            MessageAttributes={"Reason": {"DataType": "String", "StringValue": reason[:200]}},
        )
