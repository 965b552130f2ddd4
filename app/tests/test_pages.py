"""The web pages."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from signup.schema.tables import outbox, users

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_pages_are_strict_and_run_nothing(client: FlaskClient) -> None:
    for path in ("/", "/check-your-mail", f"/verify?token={'a' * 43}"):
        page = client.get(path, headers=HTML)
        assert page.status_code == 200
        assert page.mimetype == "text/html"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "<script" not in page.text
        assert "style=" not in page.text
        style = re.search("<style>(.*)</style>", page.text, re.DOTALL)
        assert style is not None
        assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy


def test_the_form_signs_up(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    page = client.post("/", data=person, headers=HTML, follow_redirects=True)
    assert page.status_code == 200
    assert page.request.path == "/check-your-mail"
    with database.connect() as connection:
        assert connection.execute(select(users.c.email)).scalar_one() == person["email"]


def test_the_form_comes_back_with_errors_and_without_the_password(client: FlaskClient, person: dict[str, str]) -> None:
    page = client.post("/", data={**person, "email": '"><b>', "password": "too short"}, headers=HTML)
    assert page.status_code == 422
    assert 'id="email-error"' in page.text
    assert 'aria-describedby="password-hint password-error"' in page.text
    assert 'value="Ada"' in page.text
    assert '"><b>' not in page.text
    assert "too short" not in page.text


def test_the_link_asks_and_the_button_confirms(
    client: FlaskClient, database: Engine, put_token: Callable[..., str], person: dict[str, str]
) -> None:
    client.post("/", data=person)
    with database.connect() as connection:
        payload = connection.execute(select(outbox.c.payload)).scalar_one()
    token = put_token(payload["user_id"], payload["message_id"])
    page = client.get(f"/verify?token={token}", headers=HTML)
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is False
    form = re.search('<form method="post" action="([^"]+)"', page.text)
    assert form is not None
    result = client.post(form[1], headers={**HTML, "Content-Type": "application/x-www-form-urlencoded"})
    assert result.status_code == 200
    assert result.mimetype == "text/html"
    assert "confirmed" in result.text
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is True


def test_errors_are_pages_for_browsers_and_json_for_programs(client: FlaskClient) -> None:
    for path, status in (("/verify?token=x", 400), (f"/v1/user/verify?token={'a' * 43}", 404)):
        assert client.get(path, headers=HTML).mimetype == "text/html"
        assert client.get(path).mimetype == "application/problem+json"
        assert client.get(path, headers=HTML).status_code == client.get(path).status_code == status
    assert client.post("/v1/user", headers=HTML).mimetype == "application/problem+json"
    assert client.post("/", data=b"{}", content_type="application/json").status_code == 415
