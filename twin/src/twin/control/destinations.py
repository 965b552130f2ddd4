"""Where the results of asynchronous invocations go.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twin.bodies.execution_environment import Outcome
from twin.region.region import Region

log = logging.getLogger(__name__)

# What the execution role must be allowed, by the destination's service.
ACTIONS = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": "lambda:InvokeFunction"}


@dataclass(frozen=True)
class Result:
    """How an event ended: condition is Success, RetriesExhausted or EventAgeExceeded."""

    request_id: str
    payload: bytes
    condition: str
    attempts: int
    arn: str
    version: str
    outcome: Outcome | None

    def record(self) -> str:
        """The invocation record, as a destination gets it."""
        context: dict[str, Any] = {
            "requestId": self.request_id,
            "functionArn": f"{self.arn}:{self.version}" if self.version == "$LATEST" else self.arn,
            "condition": self.condition,
            "approximateInvokeCount": self.attempts,
        }
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "requestContext": context,
            "requestPayload": json.loads(self.payload),
        }
        if self.outcome is not None:
            response: dict[str, Any] = {"statusCode": 200, "executedVersion": self.version}
            if self.outcome.error:
                response["functionError"] = self.outcome.error
            record["responseContext"] = response
            record["responsePayload"] = _json(self.outcome.payload)
        return json.dumps(record)

    def dead_letter(self) -> tuple[str, dict[str, dict[str, str]]]:
        """Body and attributes of a dead letter: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq"""
        error = _json(self.outcome.payload) if self.outcome else {}
        message = str(error.get("errorMessage", "")) if isinstance(error, dict) else ""
        attributes = {
            "RequestID": {"DataType": "String", "StringValue": self.request_id},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": message[:1024] or self.condition},
        }
        return self.payload.decode(), attributes


def deliver(region: Region, role: str, arn: str, body: str, attributes: dict[str, dict[str, str]] | None = None) -> bool:
    """Send to a queue, a topic or another function, as the function's role may; whether it was sent."""
    service = arn.split(":")[2] if arn.count(":") >= 5 else ""
    if service in ACTIONS and not region.allows_role(role, ACTIONS[service], arn):
        log.error("%s: %s may not %s; the record of an invocation is lost", arn, role, ACTIONS[service])
        return False
    try:
        with region.records():
            if service == "sqs":
                region.backend("sqs").send_message(arn.split(":")[-1], body, message_attributes=attributes)
            elif service == "sns":
                region.backend("sns").publish(body, arn=arn)
            elif service == "lambda":
                functions: Any = region.loops["Functions"]
                functions.enqueue(arn, None, body.encode())
            else:
                log.error("%s: this region delivers to queues, topics and functions only", arn)
                return False
    except Exception:
        log.exception("%s: the record of a failed invocation could not be delivered", arn)
        return False
    return True


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
