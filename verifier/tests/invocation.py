"""Invoking the function, in this process or in one of its own that may be killed, as Lambda's are."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any


class Context:
    """What Lambda tells a function about its invocation."""

    function_name = "verifier"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:us-east-1:111122223333:function:verifier"
    aws_request_id = "lambda-1"

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int(1000 * (self._until - time.monotonic())))


def event(*messages: Mapping[str, Any] | str, at: str = "2026-01-31T12:00:00.000Z") -> dict[str, Any]:
    """SNS's event with these messages, published at that time."""
    bodies = [each if isinstance(each, str) else json.dumps(each) for each in messages]
    notifications = [
        {"Type": "Notification", "MessageId": f"sns-{number}", "Timestamp": at, "Message": body}
        for number, body in enumerate(bodies)
    ]
    return {"Records": [{"EventSource": "aws:sns", "Sns": notification} for notification in notifications]}


def child(environment: Mapping[str, str], content: Mapping[str, Any], seconds: float, said: Connection) -> None:
    """The main function of a process that serves one invocation, and says what the handler returned, or the words it raised."""
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from verifier.handler import handle

    try:
        said.send(("returned", handle(content, Context(seconds))))
    except Exception as error:
        said.send(("raised", str(error)))
