"""PUT /v1/user/self, and passwords hashed anew at login."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from argon2 import PasswordHasher as Argon2
from argon2 import extract_parameters
from argon2.low_level import Type
from flask import Flask
from flask.testing import FlaskClient
from records import events
from sqlalchemy import Engine, select, update
from test_bad_input import problem_of

from signup.passwords import PasswordHasher
from signup.schema.tables import users

ANOTHER = "another long passphrase"


def test_changes_names(client: FlaskClient, database: Engine, verified: tuple[str, str]) -> None:
    before = client.get("/v1/user/self", auth=verified).get_json()
    answer = client.put("/v1/user/self", auth=verified, json={"first_name": " Zoë "})
    assert (answer.status_code, answer.data, "Content-Type" in answer.headers) == (204, b"", False)
    after = client.get("/v1/user/self", auth=verified).get_json()
    assert after["account_updated"] > before["account_updated"]
    assert after == {**before, "first_name": "Zoë", "account_updated": after["account_updated"]}
    assert events(database) == ["user.signed_up", "user.names_changed"]


def test_a_changed_password_is_the_only_one(client: FlaskClient, database: Engine, verified: tuple[str, str]) -> None:
    body = {"last_name": "King", "password": ANOTHER}
    assert client.put("/v1/user/self", auth=verified, json=body).status_code == 204
    assert client.get("/v1/user/self", auth=verified).status_code == 401
    assert client.get("/v1/user/self", auth=(verified[0], ANOTHER)).get_json()["last_name"] == "King"
    assert events(database) == ["user.signed_up", "user.names_changed", "user.password_changed"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, [""]),
        ([], [""]),
        ({"email": "eve@example.com"}, ["email"]),
        ({"first_name": "Eve", "verified": True, "account_created": "now"}, ["account_created", "verified"]),
        ({"first_name": None}, ["first_name"]),
        ({"first_name": "", "last_name": 7, "password": "short"}, ["first_name", "last_name", "password"]),
        ({"last_name": "a\0b"}, ["last_name"]),
        ({"password": "Ada Lovelace 1815"}, ["password"]),
        ({"first_name": "Augusta", "password": "augusta-lovelace!"}, ["password"]),
    ],
)
def test_refused_fields_are_named_and_change_nothing(
    client: FlaskClient, database: Engine, verified: tuple[str, str], body: Any, fields: list[str]
) -> None:
    before = client.get("/v1/user/self", auth=verified).get_json()
    answer = problem_of(client.put("/v1/user/self", auth=verified, json=body), 422)
    assert [error["field"] for error in answer["errors"]] == fields
    assert client.get("/v1/user/self", auth=verified).get_json() == before
    assert events(database) == ["user.signed_up"]


def test_not_json_is_refused(client: FlaskClient, verified: tuple[str, str]) -> None:
    problem_of(client.put("/v1/user/self", auth=verified, data=b"{", content_type="application/json"), 400)
    problem_of(client.put("/v1/user/self", auth=verified, data=b"{}", content_type="text/plain"), 415)


def test_who_calls_is_asked_first(client: FlaskClient, person: dict[str, str]) -> None:
    client.post("/v1/user", json=person)
    assert client.put("/v1/user/self", json={"first_name": "Eve"}).status_code == 401
    assert client.put("/v1/user/self", auth=(person["email"], ANOTHER), json={"first_name": "Eve"}).status_code == 401
    assert client.put("/v1/user/self", auth=(person["email"], person["password"]), json={"id": 1}).status_code == 403


def test_two_changes_of_one_password_let_one_win(app: Flask, database: Engine, verified: tuple[str, str]) -> None:
    """The second was allowed by a password that is none any more."""
    services: Any = app.extensions["signup"]
    together = Barrier(2)

    class Waiting(PasswordHasher):
        def hash(self, password: str) -> str:
            together.wait(10)  # both have logged in, neither has changed anything
            return super().hash(password)

    object.__setattr__(services, "hasher", Waiting(2, 10))
    with ThreadPoolExecutor(2) as pool:
        change = {"password": ANOTHER}
        statuses = pool.map(lambda _: app.test_client().put("/v1/user/self", auth=verified, json=change).status_code, range(2))
        assert sorted(statuses) == [204, 401]
    assert events(database) == ["user.signed_up", "user.password_changed"]


@pytest.fixture
def hashed_before(database: Engine, verified: tuple[str, str]) -> str:
    """The hash of the user's password with parameters of old."""
    old = Argon2(time_cost=1, memory_cost=8 * 1024, parallelism=1, type=Type.ID).hash(verified[1])
    with database.begin() as connection:
        connection.execute(update(users).values(password_hash=old))
    return old


def hash_of(database: Engine) -> str:
    with database.connect() as connection:
        return str(connection.execute(select(users.c.password_hash)).scalar_one())


def test_login_hashes_anew_with_current_parameters(
    client: FlaskClient, database: Engine, verified: tuple[str, str], hashed_before: str
) -> None:
    assert client.get("/v1/user/self", auth=(verified[0], "x" * 20)).status_code == 401
    assert hash_of(database) == hashed_before
    assert client.get("/v1/user/self", auth=verified).status_code == 200
    renewed = hash_of(database)
    parameters = extract_parameters(renewed)
    assert (parameters.memory_cost, parameters.time_cost) == (19456, 2)
    assert client.get("/v1/user/self", auth=verified).status_code == 200
    assert hash_of(database) == renewed


def test_a_change_counts_though_the_hash_was_just_renewed(
    client: FlaskClient, verified: tuple[str, str], hashed_before: str
) -> None:
    assert client.put("/v1/user/self", auth=verified, json={"password": ANOTHER}).status_code == 204
    assert client.get("/v1/user/self", auth=(verified[0], ANOTHER)).status_code == 200


def test_a_login_does_not_fail_with_the_renewal(
    app: Flask, database: Engine, verified: tuple[str, str], hashed_before: str
) -> None:
    services: Any = app.extensions["signup"]

    class Busy(PasswordHasher):
        def hash(self, password: str) -> str:
            with self._slot():
                return super().hash(password)

    object.__setattr__(services, "hasher", Busy(1, 0))
    assert app.test_client().get("/v1/user/self", auth=verified).status_code == 200
    assert hash_of(database) == hashed_before


def test_logins_that_renew_the_same_hash_are_all_good(
    app: Flask, database: Engine, verified: tuple[str, str], hashed_before: str
) -> None:
    """One finds that another was sooner."""
    services: Any = app.extensions["signup"]
    names = ["Augusta", "Ada", "Byron"]
    together = Barrier(len(names))

    class Waiting(PasswordHasher):
        def hash(self, password: str) -> str:
            together.wait(10)
            return super().hash(password)

    object.__setattr__(services, "hasher", Waiting(2, 10))

    def rename(name: str) -> int:
        return app.test_client().put("/v1/user/self", auth=verified, json={"first_name": name}).status_code

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(rename, names)) == [204] * len(names)


def test_a_password_that_changes_while_it_is_hashed_anew_is_wrong(
    app: Flask, database: Engine, verified: tuple[str, str], hashed_before: str
) -> None:
    services: Any = app.extensions["signup"]

    class Overtaken(PasswordHasher):
        def hash(self, password: str) -> str:
            with database.begin() as connection:
                connection.execute(update(users).values(password_hash=super().hash(ANOTHER)))
            return super().hash(password)

    object.__setattr__(services, "hasher", Overtaken(2, 10))
    assert app.test_client().get("/v1/user/self", auth=verified).status_code == 401
