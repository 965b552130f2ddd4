"""gunicorn's worker, which answers what it can't read as the service answers errors."""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.util import close_graceful  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from signup.ids import uuid7
from signup.logs import type_name
from signup.problems import problem_body
from signup.slow_bodies import PatientSender, PatientSocket

REFUSED = {
    errors.LimitRequestLine: (414, "The request's first line is too long."),
    errors.LimitRequestHeaders: (431, "The request's headers are too large."),
    errors.UnsupportedTransferCoding: (501, "This transfer coding is not supported."),
    errors.ExpectationFailed: (417, "This expectation can't be met."),
}

MAX_PARTINGS = 2
"""Threads of a worker that may wait for clients to go: fewer than those kept for health checks."""

log = logging.getLogger(__name__)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, with problem details for requests that never reach the application.

    gunicorn's own answers are pages without a request id, and its log quotes what it could not read: a request line with
    its token, a header with its password, the client's address.
    """

    body_seconds = 10.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._partings = threading.BoundedSemaphore(MAX_PARTINGS)

    def handle(self, conn: Any) -> Any:
        """Serve a connection's next request; if it was the last, part from the client."""
        kept = super().handle(conn)
        if kept is False:
            with suppress(OSError):
                self._part(conn.sock)
        return kept

    def _part(self, sock: socket.socket) -> None:
        """Let the client end the connection first, so that it gets the whole answer though we have not read its whole body.

        gunicorn waits for that in the thread that accepts connections: a few clients who take their time would keep everybody
        else out, health checks too.
        """
        sock.shutdown(socket.SHUT_WR)
        if self._partings.acquire(blocking=False):
            try:
                close_graceful(sock.dup())
            finally:
                self._partings.release()
        sock.shutdown(socket.SHUT_RD)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request, whose body has to come in time, and whose answer has to be taken in time."""
        real = conn.sock
        req.unreader.sock = PatientSocket(real, self.body_seconds, req.force_close)
        conn.sock = PatientSender(real, self.body_seconds)
        try:
            return super().handle_request(req, conn)
        finally:
            req.unreader.sock = conn.sock = real  # gunicorn bounds by itself how long it throws the rest away

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that can't be read, and log it by its kind alone."""
        if req is not None and is_unreadable(exc):
            return  # what the application left unread of a body that it has answered
        request_id = str(uuid7())
        status, detail = described(exc)
        fields = {"status": status, "reason": type_name(exc), "request_id": request_id}
        if status == 500:
            log.error("request failed", exc_info=exc, extra={"fields": fields})
        else:
            log.info("request can't be read", extra={"fields": fields})
        body = json.dumps(problem_body(status, detail, request_id)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"X-Request-Id: {request_id}\r\n\r\n"
        )
        try:
            client.settimeout(1)
            client.sendall(head.encode() + body)
        except OSError:
            log.debug("nobody waits for the answer")


def described(error: BaseException) -> tuple[int, str]:
    """The status and the sentence for a request that gunicorn could not read or serve."""
    for kind, told in REFUSED.items():
        if isinstance(error, kind):
            return told
    if is_unreadable(error):
        return 400, "This is not well-formed HTTP."
    return 500, "Something went wrong here. Quote the request id if you report it."


def is_unreadable(error: BaseException) -> bool:
    """Whether the client is to blame."""
    own = (errors.ConfigurationProblem, errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
    return isinstance(error, errors.ParseException) and not isinstance(error, own)
