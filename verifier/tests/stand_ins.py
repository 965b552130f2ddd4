"""Real HTTP servers on loopback: SendGrid's Mail Send, and a wire to AWS's APIs that can be cut."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class _Server:
    """A server of one handler class until closed."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self) -> None:
                answer(self, b"")

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


class SendGrid(_Server):
    """Keeps requests, and answers with `status` (or what is next in `statuses`), or never if it `hangs`.

    `before` and `after` are called around keeping a request.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 202
        self.statuses: list[int] = []
        self.location = ""
        self.hangs = False
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._released = threading.Event()
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if request.command == "GET":
            reply(request, 200, b"welcome")
            return
        self.before()
        self.requests.append((request.path, dict(request.headers), json.loads(body)))
        self.after()
        if self.hangs:
            self._released.wait(30)
            return
        errors = json.dumps({"errors": [{"message": "no mail to ada@example.com"}]}).encode()
        status = self.statuses.pop(0) if self.statuses else self.status
        reply(request, status, errors, {"Location": self.location} if self.location else None)

    def close(self) -> None:
        self._released.set()
        super().close()

    @property
    def mails(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]


class Wire(_Server):
    """Passes requests on to AWS's APIs; `before` and `after` get each request's action and table or queue.

    If `before` returns a status, that is the answer, and the request is not passed on.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).netloc
        self.before: Callable[[str, str], int | None] = lambda action, place: None
        self.after: Callable[[str, str], None] = lambda action, place: None
        super().__init__(self._answer)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        content = json.loads(body)
        what = request.headers["X-Amz-Target"].split(".")[-1], content.get("TableName") or content.get("QueueUrl") or ""
        refusal = self.before(*what)
        if refusal is not None:
            reply(request, refusal, json.dumps({"__type": "InternalServerError", "message": "to order"}).encode())
            return
        connection = http.client.HTTPConnection(self._target, timeout=30)
        connection.request("POST", request.path, body, dict(request.headers))
        answer = connection.getresponse()
        content_type = {"Content-Type": answer.headers.get("Content-Type", "application/x-amz-json-1.0")}
        data = answer.read()
        connection.close()
        self.after(*what)
        reply(request, answer.status, data, content_type)
