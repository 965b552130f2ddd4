"""The HTTP server in front of the region: werkzeug's, without what costs it more than the requests themselves.

An AWS client opens a connection for each call, so werkzeug starts a thread, reads the head as if it were mail, sends head and
body apart, and waits ten milliseconds for more. Here threads are used again, a head as all clients send it is read by a
pattern, and an answer is sent at once. Whatever is out of the ordinary is left to werkzeug. (waitress costs as little, but drops
headers with underscores, which the metadata of S3's objects may have and signatures count.)
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from http.client import HTTPMessage
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import ThreadedWSGIServer

log = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

# A thread without work for so many seconds ends.
IDLE_SECONDS = 10.0
_MAX_LINE, _MAX_LINES = 65536, 100  # http.client's
_REQUEST = re.compile(rb"([A-Z]{3,10}) (/(?:[!-.0-~][!-~]*)?) HTTP/1\.1\r\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)\r\n")
# Requests with these are werkzeug's: it answers before the body comes, and knows where such a body ends.
_UNUSUAL = ("Expect", "Transfer-Encoding")


class Workers:
    """Threads that are used again. However many jobs wait for something, each has a thread of its own."""

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Callable[[], None]]] = deque()

    def run(self, job: Callable[[], None]) -> None:
        try:
            jobs = self._idle.pop()
        except IndexError:
            jobs = SimpleQueue()
            threading.Thread(target=self._work, args=(jobs,), name="Worker", daemon=True).start()
        jobs.put(job)

    def _work(self, jobs: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                job = jobs.get(timeout=IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(jobs)
                except ValueError:
                    continue  # it was just given a job
                return
            try:
                Context().run(job)  # nothing that the job sets is there for the next
            except Exception:
                log.exception("a request failed")
            del job
            self._idle.append(jobs)


class Server(ThreadedWSGIServer):
    def __init__(self, address: str, port: int, app: WsgiApp, fd: int) -> None:
        super().__init__(address, port, app, QuietHandler, fd=fd)
        self._workers = Workers()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._workers.run(lambda: self.process_request_thread(request, client_address))


class QuietHandler(MotoRequestHandler):
    """One request and its answer, logged at debug level, without the query string."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug("%s %s %s -> %s", self.address_string(), self.command, vars(self).get("path", "").split("?")[0], code)

    def parse_request(self) -> bool:
        request = _REQUEST.fullmatch(self.raw_requestline)
        if request is None:
            return super().parse_request()
        rest, lines = self.rfile, []
        while True:
            line = rest.readline(_MAX_LINE + 1)
            lines.append(line)
            if line in (b"\r\n", b"\n", b"") or len(line) > _MAX_LINE or len(lines) > _MAX_LINES:
                break
        headers = _headers(lines)
        if headers is None:
            self.rfile = BytesIO(b"".join(lines))
            try:
                return super().parse_request()
            finally:
                self.rfile = rest
        self.requestline = self.raw_requestline.decode().rstrip("\r\n")
        self.command, self.path = request[1].decode(), request[2].decode()
        self.request_version = "HTTP/1.1"
        self.headers = headers
        self.close_connection = True
        return True

    def run_wsgi(self) -> None:
        if any(name in self.headers for name in _UNUSUAL) or self.request_version != "HTTP/1.1":
            super().run_wsgi()
            return
        self.close_connection = True
        self.environ = environ = self.make_environ()
        try:
            self._answer(self.server.app, environ)
        except ConnectionError as error:
            self.connection_dropped(error, environ)
        except Exception:
            log.exception("the answer to %s %s failed", self.command, self.path.split("?")[0])

    def _answer(self, app: Any, environ: dict[str, Any]) -> None:
        try:
            begun, parts = _run(app, environ)
        except Exception:
            log.exception("%s %s failed", self.command, self.path.split("?")[0])
            begun, parts = _run(InternalServerError(), environ)
        status, headers = begun
        code, _, words = status.partition(" ")
        names = {name.lower() for name, _ in headers}
        bodiless = self.command == "HEAD" or code.startswith("1") or code in ("204", "304")
        body = b"".join(parts)
        head = [("Server", self.version_string()), ("Date", self.date_time_string()), *headers]
        if "content-length" not in names and not bodiless:
            head.append(("Transfer-Encoding", "chunked"))
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        head.append(("Connection", "close"))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        self.connection.sendall(f"HTTP/1.1 {code} {words}\r\n{lines}\r\n".encode("latin-1") + body)
        self.log_request(code)
        self._drain(environ)

    def _drain(self, environ: dict[str, Any]) -> None:
        """Read what is left of the request: a client that is still sending would see its connection reset, not the answer."""
        whole = environ["wsgi.input"] is not self.rfile  # who takes a body in leaves it in another place
        if not whole and environ.get("CONTENT_LENGTH", "0") != "0":
            self.connection.settimeout(0.01)
            with suppress(OSError):
                for _ in range(10_000):
                    if not self.rfile.read1(1_000_000):
                        return
        with suppress(OSError):
            self.connection.recv(_MAX_LINE, socket.MSG_DONTWAIT)


def _run(app: Any, environ: dict[str, Any]) -> tuple[tuple[str, list[tuple[str, str]]], list[bytes]]:
    """The status and headers that the application begins with, and its body."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        begun.append((status, headers))
        return written.append

    parts = app(environ, start)
    try:
        written.extend(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return begun[-1], written


def _headers(lines: list[bytes]) -> HTTPMessage | None:
    """The headers in these lines, if each is as clients send them: one line, plain characters."""
    message = HTTPMessage()
    for line in lines[:-1]:
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() == b"expect":
            return None
        message.set_raw(found[1].decode(), found[2].decode())
    return message if lines[-1] == b"\r\n" and len(lines) <= _MAX_LINES else None
