"""GET and POST /v1/user/verify."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import boto3
import pytest
from flask import Flask
from flask.testing import FlaskClient
from records import events
from sqlalchemy import Engine, select
from statements import statements

from signup.factory import create_app
from signup.schema.tables import registrations, users
from signup.settings import Settings
from signup.verification.routes import UNKNOWN


@pytest.fixture
def mailed(client: FlaskClient, token_of: Callable[..., str]) -> Callable[..., str]:
    """Signs up and returns the token of its mail."""

    def sign_up(person: dict[str, str], **how: int) -> str:
        assert client.post("/v1/user", json=person).status_code == 201
        return token_of(person["email"], **how)

    return sign_up


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_confirms_and_may_be_repeated(
    client: FlaskClient, database: Engine, mailed: Callable[..., str], person: dict[str, str], method: str
) -> None:
    token = mailed(person)
    answers = [client.open(f"/v1/user/verify?token={token}", method=method) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].get_json()["verified"] is True
    assert answers[0].get_json() == answers[2].get_json()
    assert client.get("/v1/user/self", auth=(person["email"], person["password"])).status_code == 200
    assert events(database) == ["user.signed_up", "user.verified"]


def test_consumed_at_is_set_once(
    client: FlaskClient, mailed: Callable[..., str], person: dict[str, str], token_table: str
) -> None:
    token = mailed(person)
    dynamodb = boto3.client("dynamodb", region_name="us-east-1")
    key = {"token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()}}

    def consumed_at() -> str:
        return str(dynamodb.get_item(TableName=token_table, Key=key)["Item"]["consumed_at"]["N"])

    client.post(f"/v1/user/verify?token={token}")
    assert consumed_at() > "1"
    dynamodb.update_item(
        TableName=token_table,
        Key=key,
        UpdateExpression="SET consumed_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )
    client.post(f"/v1/user/verify?token={token}")
    assert consumed_at() == "1"


@pytest.mark.parametrize("query", ["", "?token=", "?token=abc", "?token=" + "a" * 44, "?token=" + "%00" * 43])
def test_malformed_is_400(client: FlaskClient, query: str) -> None:
    assert client.get(f"/v1/user/verify{query}").status_code == 400


def test_unknown_is_404(client: FlaskClient) -> None:
    assert client.post(f"/v1/user/verify?token={secrets.token_urlsafe(32)}").status_code == 404


def test_expired_is_404_even_though_the_item_is_still_there(
    client: FlaskClient, database: Engine, mailed: Callable[..., str], person: dict[str, str]
) -> None:
    token = mailed(person, lives_seconds=-1)
    assert client.post(f"/v1/user/verify?token={token}").status_code == 404
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is False


def test_a_used_token_dies_with_its_time(
    client: FlaskClient, database: Engine, mailed: Callable[..., str], person: dict[str, str], token_table: str
) -> None:
    token = mailed(person)
    assert client.post(f"/v1/user/verify?token={token}").status_code == 200
    boto3.client("dynamodb", region_name="us-east-1").update_item(
        TableName=token_table,
        Key={"token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()}},
        UpdateExpression="SET expires_at = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )
    for method in ("GET", "POST"):
        assert client.open(f"/v1/user/verify?token={token}", method=method).status_code == 404
    with database.connect() as connection:
        assert connection.execute(select(users.c.verified)).scalar_one() is True
    assert events(database) == ["user.signed_up", "user.verified"]


def test_nothing_like_a_token_is_one(
    client: FlaskClient, database: Engine, mailed: Callable[..., str], person: dict[str, str]
) -> None:
    token = mailed(person)
    first, last = ("B" if end == "A" else "A" for end in (token[0], token[-1]))
    digest = hashlib.sha256(token.encode()).hexdigest()
    near = [first + token[1:], token[:-1] + last, token[::-1], token.swapcase(), digest[:43]]
    assert {client.post(f"/v1/user/verify?token={each}").status_code for each in near} == {404}
    far = [
        token[:-1],
        token + "A",
        f" {token}",
        f"{token}%00",
        f"{token}%0A",
        digest,
        "%ff" * 43,
        "🚢" * 43,
        f"{token}&token={token}",
    ]
    found = [client.post(f"/v1/user/verify?token={each}").status_code for each in far]
    assert found == [400] * 8 + [200]
    assert client.post("/v1/user/verify", json={"token": token}).status_code == 400
    assert events(database).count("user.verified") == 1


def test_a_token_without_its_user_is_404(client: FlaskClient, put_token: Callable[..., str]) -> None:
    assert client.get(f"/v1/user/verify?token={put_token(str(uuid4()), str(uuid4()))}").status_code == 404


def test_two_clicks_at_once_both_succeed_and_one_consumes(
    app: Flask, database: Engine, mailed: Callable[..., str], person: dict[str, str]
) -> None:
    for number in range(5):
        token = mailed({**person, "email": f"ada{number}@example.com"})
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda url: app.test_client().post(url), [f"/v1/user/verify?token={token}"] * 2))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].get_json() == answers[1].get_json()
    assert events(database).count("user.verified") == 5


def test_every_404_runs_the_same_statements(
    client: FlaskClient, app: Flask, mailed: Callable[..., str], person: dict[str, str], put_token: Callable[..., str]
) -> None:
    tokens = {
        "unknown": secrets.token_urlsafe(32),
        "forged": "A" * 43,
        "expired": mailed(person, lives_seconds=-1),
        "foreign": put_token(str(uuid4()), str(uuid4())),
    }
    seen = {}
    for what, token in tokens.items():
        with statements(app) as seen[what]:
            answer = client.post(f"/v1/user/verify?token={token}")
        assert answer.status_code == 404
        assert answer.get_json()["detail"] == UNKNOWN
    assert len(seen["unknown"]) > 0
    assert all(each == seen["unknown"] for each in seen.values()), seen


def test_the_confirmed_mail_decides_whose_password_counts(
    client: FlaskClient, database: Engine, mailed: Callable[..., str], person: dict[str, str]
) -> None:
    mailed({**person, "first_name": "Mallory", "password": "chosen by somebody else"})
    owner = mailed(person)
    mailed({**person, "first_name": "Mallory", "password": "chosen once more by them"})
    answer = client.post(f"/v1/user/verify?token={owner}")
    assert answer.get_json()["first_name"] == "Ada"
    assert client.get("/v1/user/self", auth=(person["email"], person["password"])).status_code == 200
    for password in ("chosen by somebody else", "chosen once more by them"):
        assert client.get("/v1/user/self", auth=(person["email"], password)).status_code == 401
    with database.connect() as connection:
        assert connection.execute(select(registrations)).all() == []


@pytest.fixture
def without_tokens(settings: Settings) -> Iterator[Flask]:
    app = create_app(replace(settings, token_table="no-such-table"))
    yield app
    app.extensions["signup"].engine.dispose()


def test_table_unavailable_is_503(without_tokens: Flask) -> None:
    response = without_tokens.test_client().get(f"/v1/user/verify?token={secrets.token_urlsafe(32)}")
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_database_down_after_consuming_can_be_repeated(
    gated: tuple[object, Flask], mailed: Callable[..., str], person: dict[str, str]
) -> None:
    gate, app = gated
    token = mailed(person)
    gate.shut()  # type: ignore[attr-defined]
    assert app.test_client().post(f"/v1/user/verify?token={token}").status_code == 503
    gate.open()  # type: ignore[attr-defined]
    assert app.test_client().post(f"/v1/user/verify?token={token}").status_code == 200
