"""Bad requests get a 4xx problem that says what was wrong."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from records import rows
from sqlalchemy import Engine

GOOD = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "password": "correct horse battery"}


def problem_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    body = response.get_json(force=True)
    assert isinstance(body, dict)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["X-Request-Id"] != ""
    return body


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"first_name": None}, "first_name"),
        ({"first_name": 7}, "first_name"),
        ({"first_name": ["Ada"]}, "first_name"),
        ({"first_name": " "}, "first_name"),
        ({"first_name": "a" * 101}, "first_name"),
        ({"first_name": "A\0da"}, "first_name"),
        ({"last_name": "\ud800"}, "last_name"),
        ({"last_name": "a\nb"}, "last_name"),
        ({"email": True}, "email"),
        ({"email": ""}, "email"),
        ({"email": "ada"}, "email"),
        ({"email": "ada@example"}, "email"),
        ({"email": "ada@exa\0mple.com"}, "email"),
        ({"email": "🚢@example.com"}, "email"),
        ({"email": "ada@example.com, eve@example.com"}, "email"),
        ({"email": "Ada <ada@example.com>"}, "email"),
        ({"email": "a" * 65 + "@example.com"}, "email"),
        ({"email": "ada@" + "a" * 50_000}, "email"),
        ({"password": "fourteen chars"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "correct horse\0battery"}, "password"),
        ({"password": 123456789012345678}, "password"),
        ({"verified": True}, "verified"),
        ({"id": "1"}, "id"),
    ],
)
def test_field_errors_name_the_field(client: FlaskClient, change: dict[str, Any], field: str) -> None:
    body = problem_of(client.post("/v1/user", json={**GOOD, **change}), 422)
    assert [error["field"] for error in body["errors"]] == [field]
    assert body["errors"][0]["detail"].endswith(".")


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_missing_field_is_named(client: FlaskClient, field: str) -> None:
    body = problem_of(client.post("/v1/user", json={name: GOOD[name] for name in GOOD if name != field}), 422)
    assert [error["field"] for error in body["errors"]] == [field]


def test_all_field_errors_come_at_once(client: FlaskClient, database: Engine) -> None:
    body = problem_of(client.post("/v1/user", json={"email": "no", "password": "short", "surprise": 1}), 422)
    assert {error["field"] for error in body["errors"]} == {"surprise", *GOOD}
    assert rows(database)["users"] == []


JSON_TAKERS = [("POST", "/v1/user"), ("POST", "/v1/user/verify/resend"), ("PUT", "/v1/user/self")]
NO_JSON: list[tuple[bytes, str | None, int]] = [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"{} {}", "application/json", 400),
    (b"{'a': 1}", "application/json", 400),
    (b"\0", "application/json", 400),
    (b'{"a": "\0"}', "application/json", 400),
    (b'{"a": "\xff"}', "application/json", 400),
    (b'{"a": "\xed\xa0\x80"}', "application/json", 400),
    (b"\xef\xbb\xbf{}", "application/json", 400),
    (json.dumps(GOOD).encode("utf-16"), "application/json", 400),
    (json.dumps(GOOD).encode("utf-32-le"), "application/json; charset=utf-32le", 400),
    (gzip.compress(json.dumps(GOOD).encode()), "application/json", 400),
    (b"[" * 60_000, "application/json", 400),
    (b'{"first_name": ' + b"9" * 5000 + b"}", "application/json", 400),
    (b"[]", "application/json", 422),
    (b"null", "application/json", 422),
    (b"NaN", "application/json", 422),
    (b'"text"', "application/json", 422),
    (json.dumps(GOOD).encode(), "text/plain", 415),
    (json.dumps(GOOD).encode(), "application/x-www-form-urlencoded", 415),
    (json.dumps(GOOD).encode(), "multipart/form-data; boundary=x", 415),
    (json.dumps(GOOD).encode(), "nonsense", 415),
    (json.dumps(GOOD).encode(), None, 415),
    (b"x" * (64 * 1024 + 1), "application/json", 413),
]


@pytest.mark.parametrize(("method", "path"), JSON_TAKERS)
def test_bodies(client: FlaskClient, database: Engine, verified: tuple[str, str], method: str, path: str) -> None:
    before = rows(database)
    for data, kind, status in NO_JSON:
        answer = client.open(path, method=method, data=data, content_type=kind, auth=verified)
        problem = problem_of(answer, status)
        assert [error["field"] for error in problem.get("errors", [])] == ([""] if status == 422 else []), data[:40]
    assert rows(database) == before


@pytest.mark.parametrize(("method", "path"), JSON_TAKERS)
def test_wrong_types_and_odd_names(
    client: FlaskClient, database: Engine, verified: tuple[str, str], method: str, path: str
) -> None:
    before = rows(database)
    fields = {"/v1/user": tuple(GOOD), "/v1/user/verify/resend": ("email",)}.get(path, ("first_name", "last_name", "password"))
    good = {name: GOOD[name] for name in fields}
    for name in fields:
        for value in (None, True, 0, -1.5, 1e999, 10**400, [], ["a"], {}, {"$ne": ""}):
            data = json.dumps({**good, name: value})
            answer = client.open(path, method=method, data=data, content_type="application/json", auth=verified)
            assert [error["field"] for error in problem_of(answer, 422)["errors"]] == [name], (name, value)
    for odd in ("", " ", "Email", "e\0mail", "🚢", "\ud800", "__proto__", "x" * 5000):
        answer = client.open(path, method=method, json={**good, odd: "x"}, auth=verified)
        (error,) = problem_of(answer, 422)["errors"]
        assert error["detail"] == "This field is not known."
    many = {f"field{number}": number for number in range(2000)}
    assert len(problem_of(client.open(path, method=method, json={**good, **many}, auth=verified), 422)["errors"]) == 10
    assert rows(database) == before


def test_a_body_of_exactly_the_limit_is_read(client: FlaskClient) -> None:
    data = json.dumps(GOOD).encode().ljust(64 * 1024)
    assert client.post("/v1/user", data=data, content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/user", {"POST"}),
        ("OPTIONS", "/v1/user", {"POST"}),
        ("POST", "/v1/user/self", {"GET", "PUT"}),
        ("PATCH", "/v1/user/verify/resend", {"POST"}),
        ("HEAD", "/v1/user/verify", {"GET", "POST"}),
        ("DELETE", "/v1/user/verify", {"GET", "POST"}),
        ("POST", "/livez", {"GET"}),
        ("HEAD", "/healthz", {"GET"}),
        ("PUT", "/readyz", {"GET"}),
        ("PUT", "/", {"GET", "POST"}),
        ("PUT", "/verify", {"GET", "POST"}),
        ("HEAD", "/check-your-mail", {"GET", "POST"}),
        ("POST", "/confirmed", {"GET"}),
        ("TRACE", "/healthz", {"GET"}),
        ("HEAD", "/docs", {"GET"}),
        ("OPTIONS", "/openapi.json", {"GET"}),
        ("PROPFIND", "/", {"GET", "POST"}),
    ],
)
def test_every_other_method_is_405(client: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
    response = client.open(path, method=method)
    if method == "HEAD":
        assert (response.status_code, response.data) == (405, b"")
    else:
        problem_of(response, 405)
    assert set(response.headers["Allow"].split(", ")) == allowed


def test_unknown_paths_are_404(client: FlaskClient) -> None:
    for path in ("/v2/user", "/v1/user/", "/static/x", "/%00", "/v1/user/self/"):
        problem_of(client.get(path), 404)


def test_a_failure_of_our_own_is_a_plain_500(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    @client.application.get("/broken")
    def broken() -> str:
        raise RuntimeError("ada@example.com")

    body = problem_of(client.get("/broken"), 500)
    assert "ada@example.com" not in json.dumps(body)
    assert "request failed" in caplog.text
