"""What never reaches the application, or reaches it broken: refused as all else is, and not quoted in the log."""

from __future__ import annotations

import json
import re
import signal
import socket
from urllib.parse import urlsplit

from serving import Serve

SECRET = "s3cret-0f-somebody"
HOST = "Host: localhost\r\n"
POST = f"POST /v1/user HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "no HTTP": (f"{SECRET}\r\n\r\n", 400),
    "a line without a version": (f"GET /verify?token={SECRET}\r\n\r\n", 400),
    "another version": (f"GET /verify?token={SECRET} HTTP/9.1\r\n{HOST}\r\n", 400),
    "a method in lower case": (f"get /verify?token={SECRET} HTTP/1.1\r\n{HOST}\r\n", 400),
    "a header's name with spaces": (f"GET / HTTP/1.1\r\n{HOST}My password: {SECRET}\r\n\r\n", 400),
    "a header's value with NUL": (f"GET / HTTP/1.1\r\n{HOST}Authorization: {SECRET}\0\r\n\r\n", 400),
    "a folded header": (f"GET / HTTP/1.1\r\n{HOST}Authorization: a\r\n {SECRET}\r\n\r\n", 400),
    "two lengths": (f"{POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{SECRET}", 400),
    "a length and chunks": (f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a long first line": (f"GET /verify?token={SECRET * 1000} HTTP/1.1\r\n{HOST}\r\n", 414),
    "a long header": (f"GET / HTTP/1.1\r\n{HOST}Authorization: {SECRET * 1000}\r\n\r\n", 431),
    "an unknown transfer coding": (f"{POST}Transfer-Encoding: {SECRET}\r\n\r\n", 501),
    "an unknown expectation": (f"{POST}Expect: {SECRET}\r\nContent-Length: 2\r\n\r\n{{}}", 417),
    "a chunk without a size": (f"{CHUNKED}{SECRET}\r\n{{}}\r\n0\r\n\r\n", 400),
    "a chunk longer than its size": (f"{CHUNKED}2\r\n{SECRET}\r\n0\r\n\r\n", 400),
    "such a chunk, of a body that nobody reads": (f"{CHUNKED}{SECRET}\r\n\r\n".replace("/json", "/xml"), 415),
    "a path with an encoded NUL": (f"GET /verify%00?token={SECRET} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n", 404),
    "a path that is not UTF-8": (f"GET /%ff?token={SECRET} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n", 404),
    "an empty host": (f"GET /v1/user/verify?token={SECRET} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", 400),
}


def exchange(address: tuple[str, int], sent: str) -> bytes:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent.encode())
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def test_it_is_refused_as_a_problem_and_not_quoted(serve: Serve) -> None:
    url, process = serve(SIGNUP_WORKERS="1", SIGNUP_LOG_LEVEL="DEBUG")
    parts = urlsplit(url)
    refused = {}
    for what, (sent, status) in REFUSED.items():
        answer = exchange((parts.hostname or "", parts.port or 0), sent)
        head, _, body = answer.decode().partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} "), (what, head)
        headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head.split("\r\n")[1:]}
        assert headers["content-type"] == "application/problem+json", what
        problem = json.loads(body)  # and nothing after it
        assert problem["status"] == status, what
        assert problem["request_id"] == headers["x-request-id"] not in ("", *refused), what
        refused[problem["request_id"]] = status
        assert SECRET not in answer.decode(), what
    for sent in (f"{POST}Content-Length: 1000\r\n\r\n{SECRET}", f"{CHUNKED}100\r\n{SECRET}"):
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
            connection.sendall(sent.encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 400 "), sent
        refused[json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"]] = 400
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    lines = [json.loads(line) for line in output.splitlines()]
    # A line for each, by the worker or by the application, and for nothing else but the look whether the service is there.
    logged = [(line["request_id"], line["status"]) for line in lines if "status" in line and line.get("path") != "/livez"]
    assert sorted(logged) == sorted(refused.items())
    assert len(refused) == len(REFUSED) + 2
    assert SECRET not in output
    assert "127.0.0.1" not in re.sub(r"Listening at: \S+", "", output)
