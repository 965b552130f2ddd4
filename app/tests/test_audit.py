"""The audit trail: a row for each event, in the transaction of what it records."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from records import rows
from sqlalchemy import Engine, select, text
from statements import commits_fail
from werkzeug.test import TestResponse

from signup.schema.tables import audit, users
from signup.users.model import Event

RESEND = "/v1/user/verify/resend"
ANOTHER = "another long passphrase"
Call = Callable[[FlaskClient], TestResponse]


def test_every_event_has_a_row_and_no_row_says_who(
    client: FlaskClient, database: Engine, token_of: Callable[..., str], person: dict[str, str]
) -> None:
    email, password = person["email"], person["password"]
    client.post("/v1/user", json=person)
    client.post(RESEND, json={"email": email})
    client.post("/v1/user", json=person)
    client.post(RESEND, json={"email": email})
    token = token_of(email)
    client.get(f"/v1/user/verify?token={token}")
    client.put("/v1/user/self", auth=(email, password), json={"first_name": "Augusta", "password": ANOTHER})
    with database.connect() as connection:
        trail = connection.execute(select(audit).order_by(audit.c.id)).all()
        user_id = connection.execute(select(users.c.id)).scalar_one()
    assert [row.event for row in trail] == [
        Event.SIGNED_UP,
        Event.VERIFICATION_RESENT,
        Event.SIGNED_UP_AGAIN,
        Event.RESEND_UNANSWERED,
        Event.VERIFIED,
        Event.NAMES_CHANGED,
        Event.PASSWORD_CHANGED,
    ]
    strangers = [row.event for row in trail if row.user_id != user_id]
    assert strangers == [Event.RESEND_UNANSWERED]
    said = str(trail).casefold()
    for secret in (email, "example", token, password, ANOTHER, *person.values(), "augusta"):
        assert secret.casefold() not in said


def test_what_changes_nothing_leaves_no_row(client: FlaskClient, database: Engine, verified: tuple[str, str]) -> None:
    before = rows(database)
    client.get("/v1/user/self", auth=verified)
    client.get("/v1/user/self", auth=(verified[0], ANOTHER))
    client.put("/v1/user/self", auth=verified, json={"verified": False})
    client.post("/v1/user", json={"email": verified[0]})
    client.post(f"/v1/user/verify?token={'t' * 43}")
    assert rows(database) == before


CHANGES: dict[str, Callable[[dict[str, str], str], Call]] = {
    "sign up": lambda person, _: lambda client: client.post("/v1/user", json={**person, "email": "eve@example.com"}),
    "sign up again": lambda person, _: lambda client: client.post("/v1/user", json=person),
    "resend": lambda person, _: lambda client: client.post(RESEND, json={"email": person["email"]}),
    "resend unanswered": lambda *_: lambda client: client.post(RESEND, json={"email": "eve@example.com"}),
    "verify": lambda _, token: lambda client: client.post(f"/v1/user/verify?token={token}"),
    "change": lambda person, _: (
        lambda client: client.put(
            "/v1/user/self", auth=("known@example.com", person["password"]), json={"last_name": "King", "password": ANOTHER}
        )
    ),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_change_that_is_rolled_back_leaves_neither_itself_nor_a_row(
    client: FlaskClient, database: Engine, token_of: Callable[..., str], person: dict[str, str], change: str
) -> None:
    client.post("/v1/user", json={**person, "email": "known@example.com"})
    client.post("/v1/user", json=person)
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET verified = true WHERE email = 'known@example.com'"))
    call = CHANGES[change](person, token_of(person["email"]))
    before = rows(database)
    with commits_fail(database):
        answer = call(client)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert rows(database) == before
    assert call(client).status_code < 300
    assert len(rows(database)["audit"]) > len(before["audit"])
