"""The web pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from werkzeug.test import TestResponse

from signup.factory import create_app
from signup.outbox.message import VERIFICATION
from signup.schema.tables import outbox, users
from signup.settings import Rates, Settings

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {**HTML, "Content-Type": "application/x-www-form-urlencoded"}
PAGES = ("/", "/check-your-mail", "/check-your-mail?sent=", "/docs", f"/verify?token={'a' * 43}", "/confirmed", "/nowhere")


def errors_of(text: str) -> dict[str, str]:
    """The message of each field, which its input must refer to and be marked by, and the summary link to."""
    found = dict(re.findall(r'id="(\w+)-error"><span class="unseen">Error: </span>([^<]+)<', text))
    for name in found:
        tag = re.search(rf'<input id="{name}"[^>]*>', text)
        assert tag
        assert 'aria-invalid="true"' in tag[0]
        assert f"{name}-error" in (re.findall('aria-describedby="([^"]+)"', tag[0]) or [""])[0].split()
        assert f'<a href="#{name}">' in text
    assert text.count('aria-invalid="true"') == len(found)
    return found


def test_pages_are_strict_and_run_nothing(client: FlaskClient) -> None:
    for path in PAGES:
        strict(client.get(path, headers=HTML))


def strict(page: TestResponse) -> None:
    assert page.mimetype == "text/html"
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in page.headers["Permissions-Policy"]
    assert "Set-Cookie" not in page.headers
    for forbidden in ("<script", "style=", "<style", "javascript:"):
        assert forbidden not in page.text
    assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', page.text) == []


def test_no_other_site_learns_an_address(client: FlaskClient) -> None:
    # A page whose form is to be told from a foreign one can't have no-referrer: it would post with `Origin: null`.
    assert client.get(f"/verify?token={'a' * 43}").headers["Referrer-Policy"] == "same-origin"
    assert client.get(f"/v1/user/verify?token={'a' * 43}").headers["Referrer-Policy"] == "no-referrer"
    page = client.get(f"/verify?token={'a' * 43}").text
    loaded = re.findall("<(?:img|link rel=.stylesheet)[^>]*>", page)
    assert len(loaded) >= 3
    assert all('referrerpolicy="no-referrer"' in tag for tag in loaded)


def test_https_stays_https(client: FlaskClient) -> None:
    assert "Strict-Transport-Security" not in client.get("/").headers
    secure = client.get("/", headers={"X-Forwarded-Proto": "https"})
    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_form_signs_up(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    page = client.post("/", data=person, headers=HTML, follow_redirects=True)
    assert page.status_code == 200
    assert page.request.path == "/check-your-mail"
    with database.connect() as connection:
        assert connection.execute(select(users.c.email)).scalar_one() == person["email"]


def test_the_form_comes_back_with_errors_and_without_the_password(client: FlaskClient, person: dict[str, str]) -> None:
    page = client.post("/", data={**person, "last_name": " ", "email": '"><b>', "password": "too short"}, headers=HTML)
    assert page.status_code == 422
    assert list(errors_of(page.text)) == ["last_name", "email", "password"]
    assert errors_of(page.text)["last_name"] == "Enter your last name."
    assert 'aria-describedby="password-hint password-error"' in page.text
    assert 'value="Ada"' in page.text
    assert '"><b>' not in page.text
    assert "too short" not in page.text
    assert "<title>Error: " in page.text


def test_bad_fields_are_named(client: FlaskClient, database: Engine) -> None:
    good = b"first_name=a&last_name=b&email=a@example.com&password=correct+horse+battery"
    for body, names in (
        (b"", {"first_name", "last_name", "email", "password"}),
        (good.replace(b"=a&", b"=%FF&"), {"first_name"}),
        (good.replace(b"=a&", b"=\xff&"), {"first_name"}),
        (good.replace(b"=a&", b"=a%00b&"), {"first_name"}),
        (good + b"&email=c@example.com", {"email"}),
        (good + b"x" * 257, {"password"}),
    ):
        page = client.post("/", data=body, headers=FORM)
        assert page.status_code == 422
        assert set(errors_of(page.text)) == names
    with database.connect() as connection:
        assert connection.execute(select(users)).all() == []


def test_an_unknown_field_is_named_too(client: FlaskClient, person: dict[str, str]) -> None:
    page = client.post("/", data={**person, "<b>admin": "1"}, headers=HTML)
    assert page.status_code == 422
    assert "&lt;b&gt;admin: This field is not known." in page.text


def test_what_is_no_form_of_ours(client: FlaskClient) -> None:
    for path in ("/", "/check-your-mail", "/verify"):
        for body, kind, status in (
            (b"{}", "application/json", 415),
            (b"--x--", "multipart/form-data; boundary=x", 415),
            (b"a=1&" * 21, FORM["Content-Type"], 400),
            (b"x" * (64 * 1024 + 1), FORM["Content-Type"], 413),
        ):
            page = client.post(path, data=body, headers={**HTML, "Content-Type": kind})
            assert page.status_code == status
            assert page.mimetype == "text/html"


def test_the_link_asks_and_the_button_confirms(
    client: FlaskClient, database: Engine, token_of: Callable[..., str], person: dict[str, str]
) -> None:
    client.post("/", data=person)
    token = token_of(person["email"])
    page = client.get(f"/verify?token={token}", headers=HTML)
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is False
    assert f'<input type="hidden" name="token" value="{token}">' in page.text
    for _ in range(2):  # a button pressed twice
        result = client.post("/verify", data={"token": token}, headers=HTML, follow_redirects=True)
        assert result.request.path == "/confirmed"
        assert "Your address is confirmed" in result.text
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is True


def test_another_mail_is_sent_for_whoever_waits_and_the_page_does_not_tell(
    client: FlaskClient, database: Engine, person: dict[str, str]
) -> None:
    client.post("/", data=person)
    pages = [
        client.post("/check-your-mail", data={"email": email}, headers=HTML, follow_redirects=True)
        for email in (person["email"], "nobody@example.com")
    ]
    assert pages[0].text == pages[1].text
    assert "another link is on its way" in pages[0].text
    with database.connect() as connection:
        sent = connection.execute(select(outbox.c.payload).where(outbox.c.kind == VERIFICATION)).scalars().all()
    assert [message["email"] for message in sent] == [person["email"]] * 2


def test_an_address_that_is_none_gets_no_other_mail(client: FlaskClient, database: Engine) -> None:
    for given, message in (("", "Enter your email address."), ("<ada>", "An email address must have an @-sign.")):
        page = client.post("/check-your-mail", data={"email": given}, headers=HTML)
        assert page.status_code == 422
        assert errors_of(page.text) == {"email": message}
    assert 'value="&lt;ada&gt;"' in page.text
    with database.connect() as connection:
        assert connection.execute(select(outbox)).all() == []


def test_dead_links_say_what_to_do(client: FlaskClient) -> None:
    for answer in (client.get("/verify"), client.get("/verify?token=x"), client.post("/verify", data={"token": "x"})):
        assert answer.status_code == 400
        assert "not complete" in answer.text
        assert 'action="/check-your-mail"' in answer.text
    answer = client.post("/verify", data={"token": "a" * 43})
    assert answer.status_code == 404
    assert "no longer works" in answer.text


def test_a_form_that_meets_an_outage_comes_back_as_it_was(gated: tuple[Any, Flask], person: dict[str, str]) -> None:
    gate, app = gated
    gate.shut()
    page = app.test_client().post("/", data=person, headers=HTML)
    assert page.status_code == 503
    assert page.headers["Retry-After"]
    assert 'value="ada@example.com"' in page.text
    assert person["password"] not in page.text
    assert "The database is not available right now" in page.text
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert app.test_client().post("/", data=person).mimetype == "application/problem+json"


def test_a_form_that_meets_a_limit_comes_back_as_it_was(settings: Settings, person: dict[str, str]) -> None:
    app = create_app(replace(settings, rates=Rates(signup="1/hour", resend="1/hour", verify="1/hour", mail="9/hour")))
    client = app.test_client()
    assert client.post("/", data=person, headers=HTML).status_code == 303
    assert client.post("/check-your-mail", data={"email": person["email"]}, headers=HTML).status_code == 303
    assert client.post("/verify", data={"token": "a" * 43}, headers=HTML).status_code == 404
    for path, data, kept in (
        ("/", person, 'value="ada@example.com"'),
        ("/check-your-mail", {"email": person["email"]}, 'value="ada@example.com"'),
        ("/verify", {"token": "a" * 43}, f'value="{"a" * 43}"'),
    ):
        page = client.post(path, data=data, headers=HTML)
        assert page.status_code == 429
        assert page.headers["Retry-After"]
        assert kept in page.text
        assert "That did not go through" in page.text
        assert client.get(path, headers=HTML).status_code != 429
    app.extensions["signup"].engine.dispose()


def test_errors_are_pages_for_browsers_and_json_for_programs(client: FlaskClient) -> None:
    for headers, kind in ((HTML, "text/html"), ({}, "application/problem+json")):
        answer = client.get("/nowhere", headers=headers)
        assert answer.status_code == 404
        assert answer.mimetype == kind
    for path in ("/v1/user", "/v1/nowhere"):
        assert client.post(path, headers=HTML).mimetype == "application/problem+json"
