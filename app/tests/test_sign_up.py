"""POST /v1/user."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import jsonschema
import pytest
from argon2 import PasswordHasher, extract_parameters
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from statements import statements

from signup.outbox.contract import SCHEMA
from signup.schema.tables import audit, outbox, registrations, users


def test_answers_with_the_user_and_never_the_password(client: FlaskClient, person: dict[str, str]) -> None:
    response = client.post("/v1/user", json=person)
    assert response.status_code == 201
    assert set(response.get_json()) == {
        "id", "first_name", "last_name", "email", "account_created", "account_updated", "verified",
    }  # fmt: skip
    assert UUID(response.get_json()["id"]).version == 7
    assert response.get_json()["verified"] is False
    assert person["password"] not in response.text


def test_commits_user_outbox_and_audit_together(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    person["email"] = "Ada@EXAMPLE.com"
    response = client.post("/v1/user", json=person, headers={"X-Request-Id": "req-1"})
    with database.connect() as connection:
        user = connection.execute(select(users)).one()
        message = connection.execute(select(outbox)).one()
        event = connection.execute(select(audit)).one()
    assert str(user.id) == response.get_json()["id"]
    assert user.email == "ada@example.com"
    parameters = extract_parameters(user.password_hash)
    assert (parameters.type.name, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        "ID", 19456, 2, 1,
    )  # fmt: skip
    assert PasswordHasher().verify(user.password_hash, person["password"])
    assert message.payload["message_id"] == str(message.id)
    assert message.payload["user_id"] == str(user.id)
    assert (event.event, event.user_id, event.request_id) == ("user.signed_up", user.id, "req-1")


def test_message_fits_its_readers_schema(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    client.post("/v1/user", json=person)
    with database.connect() as connection:
        payload = connection.execute(select(outbox.c.payload)).scalar_one()
    jsonschema.validate(payload, SCHEMA)


def test_duplicate_answers_like_a_new_one(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    first = client.post("/v1/user", json=person)
    again = client.post("/v1/user", json={**person, "first_name": "Eve", "email": "ADA@example.com"})
    with database.begin() as connection:
        connection.execute(update(users).values(verified=True))
    verified = client.post("/v1/user", json=person)
    assert [first.status_code, again.status_code, verified.status_code] == [201, 201, 201]
    assert set(first.get_json()) == set(again.get_json()) == set(verified.get_json())
    assert {name: type(value) for name, value in again.get_json().items()} == {
        name: type(value) for name, value in first.get_json().items()
    }
    assert len({first.get_json()["id"], again.get_json()["id"], verified.get_json()["id"]}) == 3
    assert again.get_json()["first_name"] == "Eve"
    assert verified.get_json()["verified"] is False
    with database.connect() as connection:
        user = connection.execute(select(users)).one()
        messages = connection.execute(select(outbox).where(outbox.c.published_at.is_(None))).all()
        decoy = connection.execute(select(outbox).where(outbox.c.published_at.is_not(None))).one()
    assert user.first_name == "Ada"
    assert len(messages) == 2
    assert decoy.payload == {}
    assert {message.payload["user_id"] for message in messages} == {str(user.id)}


def test_every_sign_up_hashes_once_and_runs_the_same_statements(
    app: Flask, client: FlaskClient, database: Engine, person: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = app.extensions["signup"].hasher
    hash_one = hasher.hash
    runs: list[list[str]] = []
    for before in ("new", "waiting", "verified"):
        with statements(app) as seen:
            monkeypatch.setattr(hasher, "hash", lambda password, seen=seen: (seen.append("hash"), hash_one(password))[1])
            assert client.post("/v1/user", json=person).status_code == 201, before
        runs.append(seen)
        with database.begin() as connection:
            connection.execute(update(users).values(verified=before == "waiting"))
    expected = [
        "hash",
        "INSERT INTO users",
        "SELECT",
        "INSERT INTO registrations",
        "INSERT INTO outbox",
        "INSERT INTO audit",
        "COMMIT",
    ]
    assert runs == [expected] * 3


def test_concurrent_duplicates_make_one_user(app: Flask, database: Engine, person: dict[str, str]) -> None:
    def post(_: int) -> int:
        return app.test_client().post("/v1/user", json=person).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(post, range(16)))
    assert statuses == {201: 16}
    with database.connect() as connection:
        assert len(connection.execute(select(users)).all()) == 1
        assert len(connection.execute(select(outbox)).all()) == 16
        assert len(connection.execute(select(registrations)).all()) == 15
        assert len(connection.execute(select(audit)).all()) == 16


def test_unicode_is_kept(client: FlaskClient, database: Engine, person: dict[str, str]) -> None:
    response = client.post("/v1/user", json={**person, "first_name": " Zoë 🚢 ", "password": "🚢🚀🚁🚂🚃🚄🚅🚆🚇🚈🚉🚊🚋🚌🚍"})
    assert response.status_code == 201
    assert response.get_json()["first_name"] == "Zoë 🚢"
    with database.connect() as connection:
        assert connection.execute(select(users.c.first_name)).scalar_one() == "Zoë 🚢"


def test_request_id_is_taken_cleaned_and_returned(client: FlaskClient, person: dict[str, str]) -> None:
    def answered(headers: dict[str, str]) -> str:
        return client.post("/v1/user", json=person, headers=headers).headers["X-Request-Id"]

    assert answered({"X-Request-Id": "abc-1"}) == "abc-1"
    assert answered({"X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678"}).startswith("Root=1-6789")
    assert answered({"X-Request-Id": 'a"b c<d>'}) == "abcd"
    assert len(answered({"X-Request-Id": "x" * 5000})) == 128
    assert UUID(answered({"X-Request-Id": "<>"})).version == 7


def test_database_down_is_503(gated: tuple[object, Flask], person: dict[str, str]) -> None:
    gate, app = gated
    client = app.test_client()
    assert client.post("/v1/user", json=person).status_code == 201
    gate.shut()  # type: ignore[attr-defined]
    response = client.post("/v1/user", json=person)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert response.mimetype == "application/problem+json"
    gate.open()  # type: ignore[attr-defined]
    assert client.post("/v1/user", json=person).status_code == 201
