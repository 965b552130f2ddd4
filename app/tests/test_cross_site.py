"""What another site makes a browser send is refused."""

from __future__ import annotations

from dataclasses import replace

from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from signup.factory import create_app
from signup.schema.tables import users
from signup.settings import Settings

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


def test_foreign_posts_change_nothing(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    for headers in FOREIGN:
        assert client.post("/", data=person, headers=headers).status_code == 403, headers
        assert client.post("/v1/user", json=person, headers=headers).status_code == 403
        assert client.post("/check-your-mail", data={"email": "x"}, headers=headers).status_code == 403
        # Of a token that is none, the page itself would say 400.
        assert client.post("/verify", data={"token": "x"}, headers=headers).status_code == 403
        assert client.post("/v1/user/verify?token=x", headers=headers).status_code == 403
    with database.connect() as connection:
        assert connection.execute(select(users)).all() == []


def test_our_own_pages_and_programs_may(client: FlaskClient, person: dict[str, str]) -> None:
    for headers in OWN:
        assert client.post("/", data=person, headers=headers).status_code == 303, headers
        assert client.post("/v1/user", json=person, headers=headers).status_code == 201
        assert client.post("/verify", data={"token": "x"}, headers=headers).status_code == 400


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
