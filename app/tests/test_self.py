"""GET /v1/user/self."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient


def test_a_verified_user_reads_their_account(client: FlaskClient, verified: tuple[str, str]) -> None:
    response = client.get("/v1/user/self", auth=("ADA@example.com", verified[1]))
    assert response.status_code == 200
    assert response.get_json()["email"] == "ada@example.com"
    assert response.get_json()["verified"] is True
    assert "password" not in response.text


def test_unverified_is_told_only_with_the_right_password(client: FlaskClient, person: dict[str, str]) -> None:
    client.post("/v1/user", json=person)
    assert client.get("/v1/user/self", auth=(person["email"], "x" * 20)).status_code == 401
    assert client.get("/v1/user/self", auth=(person["email"], person["password"])).status_code == 403


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ada@example.com", "wrong"),
        ("ada@example.com", ""),
        ("ada@example.com", "x" * 10_000),
        ("nobody@example.com", "correct horse battery staple"),
        ("", ""),
        ("not an address", "x"),
        ("a\0b@example.com", "x\0"),
    ],
)
def test_wrong_credentials_are_401(client: FlaskClient, verified: tuple[str, str], user: str, password: str) -> None:
    response = client.get("/v1/user/self", auth=(user, password))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic !!!", "Basic /w==", "Bearer abc", "Basic YWJj"])
def test_no_usable_credentials_are_401(client: FlaskClient, header: str | None) -> None:
    response = client.get("/v1/user/self", headers={} if header is None else {"Authorization": header})
    assert response.status_code == 401
    assert response.mimetype == "application/problem+json"
