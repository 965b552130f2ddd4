"""POST /v1/user/verify/resend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from records import events
from sqlalchemy import Engine, func, select, update
from statements import statements
from test_bad_input import problem_of

from signup.outbox.contract import SCHEMA
from signup.outbox.repo import KEEP
from signup.schema.tables import audit, outbox, users

RESEND = "/v1/user/verify/resend"


def due(database: Engine) -> list[dict[str, Any]]:
    """The messages that wait to be published."""
    with database.connect() as connection:
        statement = select(outbox.c.payload).where(outbox.c.published_at.is_(None)).order_by(outbox.c.id)
        return list(connection.execute(statement).scalars())


def test_a_waiting_user_gets_another_mail(
    client: FlaskClient, database: Engine, put_token: Callable[..., str], person: dict[str, str]
) -> None:
    client.post("/v1/user", json=person)
    answer = client.post(RESEND, json={"email": "ADA@example.com"}, headers={"X-Request-Id": "again-1"})
    assert answer.status_code == 202
    first, second = due(database)
    jsonschema.validate(second, SCHEMA)
    assert second["message_id"] != first["message_id"]
    assert (second["user_id"], second["email"], second["request_id"]) == (first["user_id"], "ada@example.com", "again-1")
    with database.connect() as connection:
        rows = connection.execute(select(audit).order_by(audit.c.id)).all()
    assert [(row.event, str(row.user_id)) for row in rows] == [
        ("user.signed_up", first["user_id"]),
        ("user.verification_resent", first["user_id"]),
    ]
    token = put_token(second["user_id"], second["message_id"])
    assert client.post(f"/v1/user/verify?token={token}").get_json()["verified"] is True
    assert client.get("/v1/user/self", auth=(person["email"], person["password"])).status_code == 200


def prepare(client: FlaskClient, database: Engine, person: dict[str, str], state: str) -> None:
    """Bring the person's address into a state for which no mail is sent."""
    if state == "unknown":
        return
    client.post("/v1/user", json=person)
    if state == "signed up again":
        client.post("/v1/user", json={**person, "password": "chosen by somebody else"})
    with database.begin() as connection:
        if state == "verified":
            connection.execute(update(users).values(verified=True))
        if state == "too long ago":
            connection.execute(update(users).values(account_created=func.now() - KEEP - timedelta(seconds=1)))


@pytest.mark.parametrize("state", ["unknown", "verified", "signed up again", "too long ago"])
def test_anybody_else_gets_the_same_answer_for_the_same_work_and_no_mail(
    app: Flask, client: FlaskClient, database: Engine, person: dict[str, str], state: str
) -> None:
    prepare(client, database, person, state)
    waiting = {**person, "email": "waiting@example.com"}
    client.post("/v1/user", json=waiting)
    before = due(database)
    with statements(app) as silent:
        answer = client.post(RESEND, json={"email": person["email"]})
    assert due(database) == before
    with statements(app) as mailed:
        expected = client.post(RESEND, json={"email": waiting["email"]})
    assert len(due(database)) == len(before) + 1
    assert (answer.status_code, answer.data) == (expected.status_code, expected.data) == (202, expected.data)
    assert silent == mailed == ["SELECT", "INSERT INTO outbox", "INSERT INTO audit", "COMMIT"]
    with database.connect() as connection:
        stored = str(connection.execute(select(outbox).where(outbox.c.kind == "decoy")).one())
    assert events(database)[-2:] == ["user.resend_unanswered", "user.verification_resent"]
    assert "@" not in stored


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["email"]),
        ({"email": None}, ["email"]),
        ({"email": "ada"}, ["email"]),
        ({"email": "a\0da@example.com"}, ["email"]),
        ({"email": "ada@example.com", "password": "x"}, ["password"]),
        ([], [""]),
    ],
)
def test_refused_fields_are_named(client: FlaskClient, database: Engine, body: Any, fields: list[str]) -> None:
    answer = problem_of(client.post(RESEND, json=body), 422)
    assert [error["field"] for error in answer["errors"]] == fields
    with database.connect() as connection:
        assert connection.execute(select(audit)).all() == connection.execute(select(outbox)).all() == []


def test_not_json_is_refused(client: FlaskClient) -> None:
    problem_of(client.post(RESEND, data=b"{", content_type="application/json"), 400)
    problem_of(client.post(RESEND, data=b"email=ada@example.com", content_type="application/x-www-form-urlencoded"), 415)
    assert client.get(RESEND).status_code == 405


def test_database_down_is_503(gated: tuple[Any, Flask]) -> None:
    gate, app = gated
    gate.shut()
    answer = app.test_client().post(RESEND, json={"email": "ada@example.com"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
