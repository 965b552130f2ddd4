"""Request ids: taken from the caller or the load balancer, else made here; logged and returned."""

from __future__ import annotations

import re

from flask import Flask, Response, g, request

from signup.ids import uuid7
from signup.logs import REQUEST_ID

HEADERS = ("X-Request-Id", "X-Amzn-Trace-Id")
MAX_LENGTH = 128
ALLOWED = "A-Za-z0-9._=;:/+-"


def sanitize(value: str) -> str:
    """Keep only characters that are safe in a log line and a header, and at most MAX_LENGTH of them."""
    return re.sub(f"[^{ALLOWED}]", "", value[: 4 * MAX_LENGTH])[:MAX_LENGTH]


def init_app(app: Flask) -> None:
    """Give every request an id in `g.request_id` and every answer an X-Request-Id header."""

    @app.before_request
    def assign() -> None:
        given = (sanitize(request.headers.get(name, "")) for name in HEADERS)
        g.request_id = next(filter(None, given), None) or str(uuid7())
        REQUEST_ID.set(g.request_id)

    @app.after_request
    def echo(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id") or str(uuid7())
        return response

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        REQUEST_ID.set(None)  # the thread goes on to other requests
