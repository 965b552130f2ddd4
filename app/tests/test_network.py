"""The request to sign up makes no network call but the database's."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

WATCHED = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
seen: list[str] = []
watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event in WATCHED:
        seen.append(f"{event} {arguments[1:]}")


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    # An audit hook can't be removed; it is idle outside these tests.
    sys.addaudithook(_hook)


@pytest.fixture
def watch() -> Callable[[Callable[[], object]], list[str]]:
    def during(act: Callable[[], object]) -> list[str]:
        global watching
        seen.clear()
        watching = True
        try:
            act()
        finally:
            watching = False
        return list(seen)

    return during


def test_sign_up_calls_nothing(
    client: FlaskClient, person: dict[str, str], watch: Callable[[Callable[[], object]], list[str]]
) -> None:
    # libpq's own sockets are invisible to Python's audit hooks, so whatever shows up is another call.
    statuses: list[int] = []
    for email in ("ada@example.com", "ada@example.com", "grace@example.org"):
        body = {**person, "email": email}
        assert watch(lambda body=body: statuses.append(client.post("/v1/user", json=body).status_code)) == []  # type: ignore[misc]
    assert statuses == [201, 201, 201]


def test_the_hook_sees_calls(client: FlaskClient, watch: Callable[[Callable[[], object]], list[str]]) -> None:
    assert watch(lambda: client.get(f"/v1/user/verify?token={'a' * 43}"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert watch(lambda: socket.create_connection(server.getsockname()).close())
