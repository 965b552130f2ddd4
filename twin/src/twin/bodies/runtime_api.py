"""Lambda's runtime API, by which the runtime in an execution environment fetches events and delivers results.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

ADDRESS = "169.254.100.1"
PORT = 9001
MAX_RESPONSE_BYTES = 6 * 1024 * 1024
RESULT = re.compile(r"/2018-06-01/runtime/invocation/([0-9a-f-]+)/(response|error)")


@dataclass(frozen=True)
class Event:
    """One invocation, as the runtime gets it. `deadline` in milliseconds since the epoch."""

    request_id: str
    payload: bytes
    deadline: int
    arn: str
    trace_id: str

    def headers(self) -> dict[str, str]:
        return {
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(self.deadline),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Lambda-Runtime-Trace-Id": self.trace_id,
        }


@dataclass(frozen=True)
class Notice:
    """What a runtime reported: ready, response, error, init_error.

    Or what became of it: oversize, when its response was refused, and exited, when its process ended.
    """

    kind: str
    body: bytes = b""
    request_id: str = ""


class Channel:
    """Between one execution environment and the one who invokes it."""

    def __init__(self) -> None:
        self.events: queue.Queue[Event | None] = queue.Queue()
        self.notices: queue.Queue[Notice] = queue.Queue()

    def close(self) -> None:
        """Release a runtime that waits for an event, and the one who waits for the runtime."""
        self.events.put(None)
        self.notices.put(Notice("exited"))


class RuntimeApi:
    """WSGI application for all execution environments: the caller's address says which one asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}

    def open(self, address: str) -> Channel:
        channel = Channel()
        with self._lock:
            self._channels[address] = channel
        return channel

    def close(self, address: str) -> None:
        with self._lock:
            channel = self._channels.pop(address, None)
        if channel:
            channel.close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        with self._lock:
            channel = self._channels.get(request.remote_addr or "")
        if channel is None:
            return _error(403, "Forbidden", "this address is no execution environment")
        if request.method == "GET" and request.path == "/2018-06-01/runtime/invocation/next":
            channel.notices.put(Notice("ready"))
            event = channel.events.get()
            if event is None:
                return _error(410, "Gone", "this execution environment has ended")
            return Response(event.payload, mimetype="application/json", headers=event.headers())
        if request.method == "POST" and request.path == "/2018-06-01/runtime/init/error":
            channel.notices.put(Notice("init_error", request.get_data()))
            return _accepted()
        result = RESULT.fullmatch(request.path)
        if request.method != "POST" or result is None:
            return _error(404, "NotFound", "there is no such path")
        body = request.get_data()
        if len(body) > MAX_RESPONSE_BYTES:
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            too_large = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
            channel.notices.put(Notice("oversize", json.dumps(too_large).encode(), result[1]))
            return _error(413, "RequestEntityTooLarge", message)
        channel.notices.put(Notice(result[2], body, result[1]))
        return _accepted()


def _accepted() -> Response:
    return Response(json.dumps({"status": "OK"}), 202, mimetype="application/json")


def _error(status: int, kind: str, message: str) -> Response:
    return Response(json.dumps({"errorType": kind, "errorMessage": message}), status, mimetype="application/json")
