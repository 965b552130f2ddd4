"""Bodies that come slowly, or never."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import requests
from pixels import png
from serving import Serve
from sqlalchemy import Engine, select

from signup.schema.tables import outbox, pictures, users
from signup.slow_bodies import BYTES_A_SECOND, BodyTooSlow, PatientSocket

PIC = "/v1/user/self/pic"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        yield near, far


def test_a_stalled_body_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    patient = PatientSocket(ends[0], 0.2)
    ends[1].sendall(b"a")
    assert patient.recv(10) == b"a"
    with pytest.raises(BodyTooSlow):
        patient.recv(10)
    ends[1].sendall(b"b")
    with pytest.raises(BodyTooSlow):  # too late
        patient.recv(10)
    assert ends[0].gettimeout() is None


def test_what_comes_earns_time(ends: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    patient, left = PatientSocket(ends[0], 0.2), BYTES_A_SECOND // 2
    with ThreadPoolExecutor(1) as sender:
        sender.submit(ends[1].sendall, bytes(left))
        while left:
            left -= len(patient.recv(65536))
    with pytest.raises(BodyTooSlow):
        patient.recv(1)
    assert time.monotonic() - began >= 0.7


def test_slow_senders_get_408_and_leave_nothing(
    serve: Serve, database: Engine, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    url, _ = serve(SIGNUP_WORKERS="1", SIGNUP_BODY_SECONDS="1")
    parts = urlsplit(url)
    person = {"first_name": "Slow", "last_name": "Poke", "email": "slow@example.com", "password": "it will come in time"}
    body, picture = json.dumps(person).encode(), png(100_000)
    sign_up = "POST /v1/user HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    basic = requests.auth._basic_auth_str(*verified)
    upload = f"POST {PIC} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic}\r\n"

    def send(head: str, first: bytes, slowly: bytes) -> bytes:
        """The answer to a request whose beginning comes at once, and of whose rest a byte in a tenth of a second."""
        with closing(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)) as connection:
            connection.sendall(head.encode() + first)
            connection.settimeout(0.1)
            rest, answer = iter(slowly), b""
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    data = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(bytes(itertools.islice(rest, 1)))
                except ConnectionResetError:
                    break
                else:
                    answer += data
                    if not data:
                        break
            return answer

    requested = [
        (f"{sign_up}Content-Length: {len(body)}\r\n\r\n", b"", body),
        (f"{sign_up}Content-Length: {len(body)}\r\n\r\n", body[:-1], b""),
        (f"{sign_up}Transfer-Encoding: chunked\r\n\r\n", b"", f"{len(body):x}\r\n".encode() + body),
        (f"{upload}Content-Length: {len(picture)}\r\n\r\n", picture[:50_000], picture[50_000:]),
    ]
    with requests.Session() as session, ThreadPoolExecutor(len(requested)) as pool:
        session.get(f"{url}/livez", timeout=5)
        answers = pool.map(lambda each: send(*each), requested)
        assert session.get(f"{url}/v1/user/self", auth=verified, timeout=5).status_code == 200
        for answer, (head, *_) in zip(answers, requested, strict=True):
            assert answer.startswith(b"HTTP/1.1 408 "), (head, answer)
            assert b"application/problem+json" in answer
            assert b"connection: close" in answer.lower()
        # A connection may be idle for longer than a body may take.
        assert session.post(url + PIC, data=picture, auth=verified, timeout=5).status_code == 201
    with database.connect() as connection:
        assert connection.execute(select(users.c.email)).scalars().all() == [verified[0]]
        assert len(connection.execute(select(outbox)).all()) == 1
        key = connection.execute(select(pictures.c.object_key)).scalar_one()
    assert stored() == {key: picture}
