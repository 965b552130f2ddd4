"""The server answers as werkzeug's does, byte by byte, whatever it is sent."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from twin import web

MARK: ContextVar[str] = ContextVar("mark", default="")


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Tells what it was sent; paths make it answer in other ways."""
    path = environ["PATH_INFO"]
    if path == "/unread":
        start_response("413 Content Too Large", [("Content-Length", "3")])
        return [b"no\n"]
    if path == "/broken":
        raise RuntimeError("broken")
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/mark":
        before = MARK.get()
        MARK.set("set")
        start_response("200 OK", [("X-Mark", before)])
        return []
    source = environ["wsgi.input"]
    chunked = environ.get("wsgi.input_terminated")
    body = source.read() if chunked else source.read(int(environ.get("CONTENT_LENGTH") or 0))
    kept = {name: value for name, value in sorted(environ.items()) if isinstance(value, str | dict | bool)}
    for name in ("SERVER_PORT", "REMOTE_PORT", "wsgi.multithread"):
        kept.pop(name, None)
    text = (json.dumps(kept) + "\n" + body.decode("latin-1")).encode()
    length = [] if path == "/chunks" else [("Content-Length", str(len(text)))]
    start_response("200 OK", [("X-Name", "é"), ("Content-Type", "text/plain"), *length])
    return [text[:10], b"", text[10:]] if path == "/parts" else [text]


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """werkzeug's server with moto's handler, and the twin's."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        ours: Any = web.Server("127.0.0.1", 0, app, bound.fileno())
    theirs: Any = ThreadedWSGIServer("127.0.0.1", 0, app, MotoRequestHandler)
    for server in (theirs, ours):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield theirs.port, ours.port
    for server in (theirs, ours):
        server.shutdown()
        server.server_close()


def ask(port: int, request: bytes, pause_at: int = 0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if pause_at:
            connection.sendall(request[:pause_at])
            time.sleep(0.1)
        connection.sendall(request[pause_at:])
        if not request.endswith(b"\n\n") and b"\r\n\r\n" not in request:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
    # Chunks may be cut differently; what they hold may not differ.
    head, end, rest = found.rpartition(b"\r\n\r\n") if b"chunked" not in found else found.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" in head:
        rest = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", rest, re.DOTALL))
    return re.sub(rb"Date: [^\r]*", b"Date:", head) + end + rest


REQUESTS = {
    "form": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b",
    "query": b"GET /a%20b/%C3%A9?c=%2F&d HTTP/1.1\r\nhost: a\r\nx-amz-date: \t now  \r\n\r\n",
    "repeated": b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-One: 2\r\nx_one: 3\r\nx-amz-meta-a_b: 4\r\nX-Empty:\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\nX: y\n\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: one\r\n two\r\n\r\n",
    "carriage return": b"GET / HTTP/1.1\r\nHost: a\r\nX: one\rX-Two: two\r\n\r\n",
    "latin": b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\x85\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\nX: y\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "doubled slashes": b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute": b"GET http://b.c/d?e HTTP/1.1\r\nHost: a\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(99)) + b"\r\n",
    "too many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 65000 + b"\r\n\r\n",
    "too long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 65535 + b"\r\n\r\n",
    "malformed": b"GARBAGE\r\n\r\n",
    "other version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "nothing": b"",
    "cut": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "chunked": b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "expecting": b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "kept alive": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "closing": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "chunks": b"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n",
    "parts": b"GET /parts HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty": b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n",
    "broken": b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_werkzeugs(ports: tuple[int, int], name: str) -> None:
    theirs, ours = (ask(port, REQUESTS[name]) for port in ports)
    assert ours == theirs


@pytest.mark.parametrize("pause_at", [3, 20, 45, 100])
def test_a_slow_client_is_waited_for(ports: tuple[int, int], pause_at: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n\r\n" + b"a" * 20
    theirs, ours = (ask(port, request, pause_at) for port in ports)
    assert ours == theirs


def test_a_client_that_is_refused_while_it_sends_gets_the_answer(ports: tuple[int, int]) -> None:
    request = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n" + b"a" * 20_000_000
    theirs, ours = (ask(port, request) for port in ports)
    assert ours == theirs
    assert ours.startswith(b"HTTP/1.1 413 ")


def test_nothing_is_left_to_the_next_request(ports: tuple[int, int]) -> None:
    answers = [ask(ports[1], b"GET /mark HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(5)]
    assert all(b"X-Mark: \r\n" in answer for answer in answers)


def test_every_job_has_a_thread_of_its_own_and_idle_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "IDLE_SECONDS", 0.2)
    workers, barrier = web.Workers(), threading.Barrier(21)
    before = threading.active_count()
    for _ in range(2):
        for _ in range(20):
            workers.run(lambda: barrier.wait(10) and None)
        barrier.wait(10)  # all twenty run at once
    workers.run(lambda: 1 / 0)  # a failure ends no thread
    time.sleep(0.05)
    assert before < threading.active_count() <= before + 40
    until = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.05)
