"""What another site makes a browser send is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from pixels import png
from records import rows
from sqlalchemy import Engine

from signup.factory import create_app
from signup.settings import Settings
from signup.web.cross_site import SAFE_METHODS

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},  # a neighbour under the same domain
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "https://localhost"},
    {"Origin": ""},
]
OWN = [
    {},  # no browser
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost", "X-Forwarded-Proto": "https"},
    {"Origin": "http://signup.example.com"},  # SIGNUP_PUBLIC_URL, should a proxy change the Host
]


@dataclass
class Change:
    """A request that changes something, and what answers it."""

    method: str
    path: str
    status: int
    body: dict[str, Any] = field(default_factory=dict)

    def sent(self, client: FlaskClient, headers: dict[str, str]) -> int:
        return client.open(self.path, method=self.method, headers=headers, **self.body).status_code


@pytest.fixture
def changes(client: FlaskClient, person: dict[str, str], verified: tuple[str, str], token_of: Callable[..., str]) -> list[Change]:
    """One for each route that changes something, by somebody who may."""
    waiting, new = {**person, "email": "waiting@example.com"}, {**person, "email": "new@example.com"}
    client.post("/v1/user", json=waiting)
    client.post("/v1/user/self/pic", data=png(), auth=verified)
    address = {"email": waiting["email"]}
    token = token_of(waiting["email"])
    return [
        Change("POST", "/", 303, {"data": new}),
        Change("POST", "/v1/user", 201, {"json": new}),
        Change("POST", "/check-your-mail", 303, {"data": address}),
        Change("POST", "/v1/user/verify/resend", 202, {"json": address}),
        Change("POST", "/verify", 303, {"data": {"token": token}}),
        Change("POST", "/v1/user/verify", 200, {"query_string": {"token": token}}),
        Change("PUT", "/v1/user/self", 204, {"json": {"first_name": "Augusta"}, "auth": verified}),
        Change("POST", "/v1/user/self/pic", 201, {"data": png(), "auth": verified}),
        Change("DELETE", "/v1/user/self/pic", 204, {"auth": verified}),
        Change("POST", "/v1/mail/events", 404, {"data": b"[]"}),  # there is no key to sign them with
    ]


def test_what_another_site_sends_changes_nothing(
    client: FlaskClient, database: Engine, changes: list[Change], stored: Callable[[], dict[str, bytes]]
) -> None:
    rules = client.application.url_map.iter_rules()
    assert {(each.method, each.path) for each in changes} == {
        (method, rule.rule) for rule in rules for method in (rule.methods or set()) - SAFE_METHODS
    }
    before = (rows(database), stored())
    for headers in FOREIGN:
        for change in changes:
            assert change.sent(client, headers) == 403, (headers, change)
    assert (rows(database), stored()) == before


def test_our_own_pages_and_programs_may(client: FlaskClient, changes: list[Change]) -> None:
    for headers in OWN:
        for change in changes:
            assert change.sent(client, headers) == change.status, (headers, change)


def test_a_port_is_part_of_an_origin(settings: Settings, person: dict[str, str]) -> None:
    app = create_app(replace(settings, public_url="https://signup.example.com:8443"))
    for origin, status in (("https://signup.example.com:8443", 303), ("https://signup.example.com", 403)):
        assert app.test_client().post("/", data=person, headers={"Origin": origin}).status_code == status
    app.extensions["signup"].engine.dispose()


def test_links_from_other_sites_work(client: FlaskClient) -> None:
    for path in ("/", "/check-your-mail", f"/verify?token={'a' * 43}", "/healthz"):
        assert client.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_the_refusal_is_a_page_for_a_browser(client: FlaskClient, person: dict[str, str]) -> None:
    page = client.post("/", data=person, headers={"Accept": "text/html", "Sec-Fetch-Site": "cross-site"})
    assert page.mimetype == "text/html"
    assert "another site" in page.text
