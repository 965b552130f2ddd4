"""Rate limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from test_bad_input import problem_of
from waiting import wait_for

from signup import counters, rates
from signup.counters import BoundedMemory
from signup.factory import create_app
from signup.settings import Rates, Settings

RESEND = "/v1/user/verify/resend"
UNKNOWN = f"/v1/user/verify?token={'t' * 43}"


@pytest.fixture
def limited(settings: Settings) -> Iterator[Callable[..., FlaskClient]]:
    """Makes clients of applications with limits."""
    made = []

    def make(**limits: str) -> FlaskClient:
        made.append(create_app(replace(settings, rates=Rates(**limits))))
        return made[-1].test_client()

    yield make
    for each in made:
        each.extensions["signup"].engine.dispose()


def at(*hops: str) -> dict[str, str]:
    """The header of a request that came by these addresses, the last one as the load balancer saw it."""
    return {"X-Forwarded-For": ", ".join(hops)}


def statuses(count: int, call: Callable[[], Any]) -> list[int]:
    return [call().status_code for _ in range(count)]


def test_beyond_the_limit_is_429_with_the_seconds_to_wait(
    limited: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = limited(verify="2/hour")
    assert statuses(2, lambda: client.get(UNKNOWN)) == [404, 404]
    refused = client.post(UNKNOWN)
    assert "Too many requests" in problem_of(refused, 429)["detail"]
    assert 3000 < int(refused.headers["Retry-After"]) <= 3600
    (record,) = [record for record in caplog.records if record.message == "rate limit exceeded"]
    assert record.fields == {"limit": "verify"}  # type: ignore[attr-defined]
    assert client.get("/healthz").status_code == 200


def test_a_client_is_whom_the_load_balancer_saw(limited: Callable[..., FlaskClient]) -> None:
    client = limited(verify="1/hour")
    assert client.get(UNKNOWN, headers=at("192.0.2.1")).status_code == 404
    for header in (at("192.0.2.1"), at("198.51.100.7", "192.0.2.1"), at("nonsense", "192.0.2.1")):
        assert client.get(UNKNOWN, headers=header).status_code == 429, header
    for header in (at("192.0.2.1", "192.0.2.2"), at("2001:db8::1")):
        assert client.get(UNKNOWN, headers=header).status_code == 404, header
    assert client.get(UNKNOWN, headers=at("2001:db8::ffff")).status_code == 429, "one network of IPv6"
    # Without the header, or with one that holds no address, it is the connection's own.
    assert [client.get(UNKNOWN, headers=header).status_code for header in ({}, at("?"), at(""))] == [404, 429, 429]


def test_sign_ups_are_limited_by_client_whatever_the_form(limited: Callable[..., FlaskClient], person: dict[str, str]) -> None:
    client = limited(signup="2/hour")
    assert client.get("/").status_code == 200
    assert client.post("/v1/user", json=person).status_code == 201
    assert client.post("/", data=person).status_code == 303
    assert client.post("/v1/user", json=person).status_code == 429
    page = client.post("/", data=person, headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (429, "text/html")
    assert client.get("/").status_code == 200


def test_mails_are_limited_by_address_whoever_asks(limited: Callable[..., FlaskClient], person: dict[str, str]) -> None:
    client = limited(mail="4/hour")
    assert client.post("/v1/user", json=person, headers=at("192.0.2.1")).status_code == 201
    assert client.post("/check-your-mail", data={"email": person["email"]}, headers=at("192.0.2.1")).status_code == 303
    assert client.post("/", data=person, headers=at("192.0.2.2")).status_code == 303
    # Credentials say nothing of where the mail would go; wrong ones count all the same.
    odd = {"json": {"email": " ADA@example.com"}, "auth": ("eve@example.com", "x"), "headers": at("192.0.2.3")}
    assert client.post(RESEND, **odd).status_code == 401
    assert client.post(RESEND, **odd).status_code == 429
    assert client.post("/v1/user", json=person).status_code == 429
    assert client.post(RESEND, json={"email": "eve@example.com"}).status_code == 202
    assert statuses(5, lambda: client.post(RESEND, json={"email": "no address"})) == [422] * 5
    assert statuses(5, lambda: client.post(RESEND, data=b"[" * 9000, content_type="application/json")) == [400] * 5
    assert statuses(5, lambda: client.post(RESEND, json=["ada@example.com"])) == [422] * 5


def test_passwords_tried_at_resend_are_limited_as_at_login(limited: Callable[..., FlaskClient]) -> None:
    client = limited(login_address="2/hour", mail="100/hour")

    def ask(address: str) -> int:
        return client.post(RESEND, json={"email": "somebody@example.com"}, auth=(address, "a wrong password")).status_code

    assert [ask("ada@example.com") for _ in range(3)] == [401, 401, 429]
    assert ask("eve@example.com") == 401


def test_resends_are_limited_by_client(limited: Callable[..., FlaskClient]) -> None:
    client = limited(resend="2/hour")
    assert client.post("/check-your-mail", data={"email": "a@example.com"}).status_code == 303
    assert [client.post(RESEND, json={"email": f"a{n}@example.com"}).status_code for n in range(2)] == [202, 429]


def test_only_refused_passwords_count(limited: Callable[..., FlaskClient], verified: tuple[str, str]) -> None:
    client = limited(login="3/hour")

    def read(password: str | None) -> int:
        return client.get("/v1/user/self", auth=(verified[0], password) if password else None).status_code

    assert [read(verified[1]) for _ in range(4)] == [200] * 4
    assert [read(None) for _ in range(4)] == [401] * 4
    assert [read("wrong"), read("wrong")] == [401, 401]
    assert client.put("/v1/user/self", auth=("eve@example.com", "wrong"), json={}).status_code == 401
    # The right one too: else the answer would tell which it is.
    assert [read("wrong"), read(verified[1])] == [429, 429]


def test_guessing_from_everywhere_is_limited_by_account(limited: Callable[..., FlaskClient], verified: tuple[str, str]) -> None:
    client = limited(login_address="3/hour")

    def guess(user: str, number: int) -> int:
        return client.get("/v1/user/self", auth=(user, "wrong"), headers=at(f"192.0.2.{number}")).status_code

    for user in (verified[0], "nobody@example.com"):
        assert [guess(spelled, n) for n, spelled in enumerate((user, user.upper(), user, user))] == [401, 401, 401, 429]
    assert [guess("no address", n) for n in range(5)] == [401] * 5


def test_confirming_by_the_page_counts_as_by_the_api(limited: Callable[..., FlaskClient]) -> None:
    client = limited(verify="2/hour")
    assert statuses(3, lambda: client.get(f"/verify?token={'t' * 43}")) == [200] * 3
    assert client.post("/verify", data={"token": "t" * 43}).status_code == 404
    assert statuses(2, lambda: client.get(UNKNOWN)) == [404, 429]


def test_several_windows_count_together(limited: Callable[..., FlaskClient]) -> None:
    client = limited(verify="100/second,2/hour")
    assert statuses(3, lambda: client.get(UNKNOWN)) == [404, 404, 429]


def test_no_limit_is_no_limit(client: FlaskClient) -> None:
    assert statuses(50, lambda: client.get(UNKNOWN)) == [404] * 50


def test_applications_count_apart(limited: Callable[..., FlaskClient]) -> None:
    first, second = limited(verify="1/hour"), limited(verify="1/hour")
    assert [each.get(UNKNOWN).status_code for each in (first, second, first, second)] == [404, 404, 429, 429]


def test_memory_is_bounded_and_holds_neither_addresses_nor_clients(
    limited: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "MAX_WINDOWS", 10)
    client = limited(resend="5/hour", mail="5/hour")
    for number in range(20):
        client.post(RESEND, json={"email": f"a{number}@example.com"}, headers=at(f"192.0.2.{number}"))
    (limiter,) = client.application.extensions["limiter"]
    held = limiter.storage._windows
    assert len(held) == 10
    assert not any("example" in key or "192.0.2" in key for key in held)


def test_what_has_ended_makes_room_before_what_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MAX_WINDOWS", 3)
    storage = BoundedMemory()
    for key, seconds in (("a day", 86_400), ("a moment", 0.01), ("an hour", 3600)):
        storage.incr(key, seconds)
    ended = storage._windows["a moment"].ends  # nobody asks for it again
    while time.time() <= ended:
        pass
    storage.incr("another hour", 3600)
    assert [storage.get(key) for key in ("a day", "an hour", "another hour")] == [1, 1, 1]
    storage.incr("too many", 3600)  # none has ended: the one that began first goes
    assert [storage.get(key) for key in ("a day", "an hour", "another hour", "too many")] == [0, 1, 1, 1]
    assert len(storage._windows) == sum(map(len, storage._queues.values())) == 3


def test_a_limit_for_a_route_that_is_not_there_starts_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rates.LIMITED, "/v1/users", ("signup",))
    with pytest.raises(ValueError, match="/v1/users"):
        create_app(settings)


def test_a_count_ends_with_its_window() -> None:
    storage = BoundedMemory()
    began = time.time()
    assert [storage.incr("a", 0.5), storage.get("b")] == [1, 0]
    assert began + 0.5 <= storage.get_expiry("a") <= time.time() + 0.5
    wait_for("the window's end", lambda: not storage.get("a"))
    assert time.time() >= began + 0.5
    assert storage.incr("a", 60) == 1
    assert storage.incr("a", 60, 2) == storage.get("a") == 3
    assert storage.reset() == 1
    assert storage.get("a") == 0
