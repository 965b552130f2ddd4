"""Bodies that come slowly, or never."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest
import requests
from pixels import png
from running import wait_for
from serving import Serve
from sqlalchemy import Engine, select

from signup.overload import RESERVED_THREADS
from signup.pictures.upload import MAX_PICTURE
from signup.schema.tables import outbox, pictures, users
from signup.slow_bodies import BYTES_A_SECOND, BodyTooSlow, PatientSender, PatientSocket, ReaderTooSlow

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


def test_a_reader_who_takes_what_comes_is_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    sender = PatientSender(ends[0], 0.2)

    def take(left: int) -> None:
        while left > 0:
            left -= len(ends[1].recv(65536))
            time.sleep(0.05)  # 1.25 MiB a second

    with ThreadPoolExecutor(1) as reader:
        taken = reader.submit(take, BYTES_A_SECOND * 4)
        for _ in range(16):
            sender.sendall(bytes(BYTES_A_SECOND // 4))
        taken.result()
    assert ends[0].gettimeout() is None


def test_a_reader_who_stops_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    sender = PatientSender(ends[0], 0.2)

    def send() -> None:
        for _ in range(200):
            sender.sendall(bytes(65536))

    with ThreadPoolExecutor(1) as reader:
        taken = reader.submit(lambda: sum(len(ends[1].recv(65536)) for _ in range(4)))
        with pytest.raises(ReaderTooSlow):
            send()
        assert taken.result()
    while ends[1].recv(65536):
        pass  # what the kernel had taken, and then the end


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


def test_readers_who_stop_hold_no_thread_for_ever(serve: Serve, verified: tuple[str, str]) -> None:
    url, _ = serve(SIGNUP_WORKERS="1", SIGNUP_THREADS="8", SIGNUP_BODY_SECONDS="2")
    parts = urlsplit(url)
    largest = png(MAX_PICTURE - len(png()))
    assert requests.post(url + PIC, data=largest, auth=verified, timeout=30).status_code == 201
    basic = requests.auth._basic_auth_str(*verified)

    def status() -> int:
        return requests.get(f"{url}/v1/user/self", auth=verified, timeout=30).status_code

    with ExitStack() as stack:
        for _ in range(8 - RESERVED_THREADS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((parts.hostname, parts.port))
            reader.sendall(f"GET {PIC} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic}\r\n\r\n".encode())
            assert reader.recv(12) == b"HTTP/1.1 200"
        assert status() == 503
        wait_for("a free thread", lambda: status() == 200)
