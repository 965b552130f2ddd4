"""POST, GET and DELETE /v1/user/self/pic."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
import requests
from conftest import aws_client
from flask import Flask
from flask.testing import FlaskClient
from pixels import jpeg, png
from records import events
from serving import Serve
from sqlalchemy import Engine, select, update
from statements import commits_fail
from test_bad_input import problem_of

from signup.clients.pictures import StoredPicture
from signup.factory import MAX_TRANSFERS, create_app
from signup.overload import RESERVED_THREADS
from signup.pictures.upload import MAX_PICTURE
from signup.schema.tables import pictures, users
from signup.settings import Settings

PIC = "/v1/user/self/pic"


def row(database: Engine) -> Any:
    with database.connect() as connection:
        return connection.execute(select(pictures)).one_or_none()


def test_a_picture_is_set_read_replaced_and_removed(
    client: FlaskClient, database: Engine, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    problem_of(client.get(PIC, auth=verified), 404)
    problem_of(client.delete(PIC, auth=verified), 404)
    large = png(300_000)
    answer = client.post(PIC, auth=verified, data=large, content_type="text/plain")
    assert answer.status_code == 201
    assert answer.get_json() | {"created": ""} == {"content_type": "image/png", "size": len(large), "created": ""}
    found = client.get(PIC, auth=verified)
    assert (found.status_code, found.data, found.headers["Content-Type"]) == (200, large, "image/png")
    assert found.headers["Content-Length"] == str(len(large))
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    (first,) = stored()
    user = client.get("/v1/user/self", auth=verified).get_json()["id"]
    assert first.startswith(f"pictures/{user}/")
    assert client.post(PIC, auth=verified, data=jpeg(), content_type="image/png").status_code == 201
    assert client.get(PIC, auth=verified).headers["Content-Type"] == "image/jpeg"
    assert list(stored().values()) == [jpeg()]
    assert row(database).object_key != first
    removed = client.delete(PIC, auth=verified)
    assert (removed.status_code, removed.data) == (204, b"")
    problem_of(client.get(PIC, auth=verified), 404)
    assert (row(database), stored()) == (None, {})
    assert events(database) == ["user.signed_up", *["user.picture_set"] * 2, "user.picture_removed"]
    for method in ("PUT", "HEAD", "PATCH", "OPTIONS"):
        assert client.open(PIC, method=method, auth=verified).status_code == 405


def test_who_calls_is_asked_first(client: FlaskClient, person: dict[str, str], stored: Callable[[], dict[str, bytes]]) -> None:
    client.post("/v1/user", json=person)
    for method in ("POST", "GET", "DELETE"):
        answer = client.open(PIC, method=method, data=png() if method == "POST" else None)
        assert problem_of(answer, 401)
        assert answer.headers["WWW-Authenticate"]
        problem_of(client.open(PIC, method=method, auth=(person["email"], person["password"])), 403)
    assert stored() == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Send the picture as the body."),
        (b"hello", "neither a PNG nor a JPEG"),
        (png()[:-1], "not whole"),
        (jpeg()[:-1], "not whole"),
        (png()[:-6] + b"\0\0\0\0\0\0", "broken"),
        (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + png(), "neither a PNG nor a JPEG"),
    ],
)
def test_what_is_no_picture_is_refused_and_the_old_one_stays(
    client: FlaskClient,
    database: Engine,
    verified: tuple[str, str],
    stored: Callable[[], dict[str, bytes]],
    data: bytes,
    words: str,
) -> None:
    client.post(PIC, auth=verified, data=jpeg())
    before = (row(database), stored(), events(database))
    body = problem_of(client.post(PIC, auth=verified, data=data, content_type="image/png"), 400)
    assert [error["field"] for error in body["errors"]] == [""]
    assert words in body["errors"][0]["detail"]
    assert (row(database), stored(), events(database)) == before


def test_a_picture_may_have_five_megabytes(
    client: FlaskClient, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    largest = png(MAX_PICTURE - len(png()))
    problem_of(client.post(PIC, auth=verified, data=largest + b"x"), 413)
    assert stored() == {}
    assert client.post(PIC, auth=verified, data=largest).status_code == 201
    # Other bodies have the limit they had.
    answer = client.put("/v1/user/self", auth=verified, data=b" " * 65_537, content_type="application/json")
    problem_of(answer, 413)


def test_a_password_that_changed_meanwhile_sets_nothing(
    app: Flask, database: Engine, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    """The upload takes as long as its sender likes."""

    class Body:
        left = png()

        def read(self, size: int = -1) -> bytes:
            with database.begin() as connection:
                connection.execute(update(users).values(password_hash="another"))
            piece, self.left = self.left[:size], self.left[size:]
            return piece

    environ = {"wsgi.input": Body(), "wsgi.input_terminated": True}
    answer = app.test_client().post(PIC, auth=verified, environ_overrides=environ)
    assert answer.status_code == 401
    assert (row(database), stored()) == (None, {})


def test_uploads_side_by_side_leave_one_object(
    app: Flask, database: Engine, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    with ThreadPoolExecutor(6) as pool:
        sent = [png(number) for number in range(20, 26)]
        answers = list(pool.map(lambda data: app.test_client().post(PIC, auth=verified, data=data).status_code, sent))
    assert answers == [201] * 6
    assert list(stored()) == [row(database).object_key]
    assert app.test_client().get(PIC, auth=verified).data in sent


def test_a_read_survives_that_the_picture_is_replaced(
    app: Flask, client: FlaskClient, database: Engine, verified: tuple[str, str], aws_server: str, bucket: str
) -> None:
    """The row that was read names an object that is gone by now."""
    client.post(PIC, auth=verified, data=png())
    services: Any = app.extensions["signup"]
    real, s3 = services.pictures, aws_client("s3", aws_server)

    class Slow:
        def get(self, key: str) -> Any:
            if not key.endswith("new.png"):
                s3.delete_object(Bucket=bucket, Key=key)
                s3.put_object(Bucket=bucket, Key="pictures/new.png", Body=b"new")
                with database.begin() as connection:
                    connection.execute(update(pictures).values(object_key="pictures/new.png"))
            return real.get(key)

    object.__setattr__(services, "pictures", Slow())
    assert client.get(PIC, auth=verified).data == b"new"
    object.__setattr__(services, "pictures", real)
    s3.delete_object(Bucket=bucket, Key="pictures/new.png")
    assert client.get(PIC, auth=verified).status_code == 503


def test_as_many_at_a_time_as_may_be(app: Flask, verified: tuple[str, str]) -> None:
    services: Any = app.extensions["signup"]
    client = app.test_client()
    assert client.post(PIC, auth=verified, data=png()).status_code == 201
    taken = [services.transfers.acquire() for _ in range(7)]
    with client.get(PIC, auth=verified, buffered=False) as reading:
        for method in ("POST", "GET"):
            busy = client.open(PIC, method=method, auth=verified, data=png() if method == "POST" else None)
            assert problem_of(busy, 503)
            assert busy.headers["Retry-After"] == "1"
        assert reading.data == png()
    assert client.get(PIC, auth=verified).status_code == 200
    for release in taken:
        release()
    # Whatever ends a request, its place is free again.
    for data in (b"", b"no picture", png()[:-1]) * 5:
        assert client.post(PIC, auth=verified, data=data).status_code == 400
    client.delete(PIC, auth=verified)
    assert [client.get(PIC, auth=verified).status_code for _ in range(10)] == [404] * 10


@pytest.mark.parametrize("fails", [False, True])
def test_a_picture_on_its_way_keeps_its_places(
    settings: Settings, verified: tuple[str, str], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Until it is sent, not until it is found; whatever its end is."""
    app = create_app(replace(settings, threads=RESERVED_THREADS + 1))
    services: Any = app.extensions["signup"]
    client = app.test_client()
    assert client.post(PIC, auth=verified, data=png()).status_code == 201
    taken = [services.transfers.acquire() for _ in range(MAX_TRANSFERS - 1)]
    reading = client.get(PIC, auth=verified, buffered=False)
    assert reading.status_code == 200
    busy = client.get("/v1/user/self", auth=verified)
    assert "This server is busy" in problem_of(busy, 503)["detail"]
    assert client.get("/livez").status_code == 200
    with monkeypatch.context() as patched:
        if fails:
            patched.setattr(StoredPicture, "close", Mock(side_effect=OSError))
        with suppress(OSError):
            reading.close()
    assert client.get(PIC, auth=verified).status_code == 200
    for release in taken:
        release()
    services.engine.dispose()


@pytest.fixture
def without_bucket(settings: Settings) -> Iterator[Callable[[str | None], FlaskClient]]:
    made = []

    def make(name: str | None) -> FlaskClient:
        made.append(create_app(replace(settings, picture_bucket=name)))
        return made[-1].test_client()

    yield make
    for each in made:
        each.extensions["signup"].engine.dispose()


@pytest.mark.parametrize("name", [None, "no-such-bucket"])
def test_no_bucket_is_503_and_changes_nothing(
    without_bucket: Callable[[str | None], FlaskClient], database: Engine, verified: tuple[str, str], name: str | None
) -> None:
    client = without_bucket(name)
    answer = client.post(PIC, auth=verified, data=png())
    problem_of(answer, 503)
    assert answer.headers["Retry-After"]
    assert row(database) is None
    assert client.get(PIC, auth=verified).status_code == 404


def test_an_object_that_can_not_be_deleted_stays_and_is_told(
    client: FlaskClient,
    without_bucket: Callable[[str | None], FlaskClient],
    database: Engine,
    verified: tuple[str, str],
    stored: Callable[[], dict[str, bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.post(PIC, auth=verified, data=png())
    assert without_bucket("no-such-bucket").delete(PIC, auth=verified).status_code == 204
    assert row(database) is None
    (key,) = stored()
    (record,) = [each for each in caplog.records if each.message == "a picture without a row stays"]
    assert record.fields == {"key": key, "code": "NoSuchBucket"}  # type: ignore[attr-defined]


def test_a_commit_that_fails_leaves_no_row_without_its_object(
    client: FlaskClient, database: Engine, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]
) -> None:
    client.post(PIC, auth=verified, data=png())
    before = (row(database), events(database))
    with commits_fail(database):
        for method in ("POST", "DELETE"):
            assert client.open(PIC, method=method, auth=verified, data=jpeg()).status_code == 503
    assert (row(database), events(database)) == before
    assert client.get(PIC, auth=verified).data == png()
    assert len(stored()) == 2


def test_as_it_runs(serve: Serve, client: FlaskClient, verified: tuple[str, str], stored: Callable[[], dict[str, bytes]]) -> None:
    """gunicorn: bodies with and without a length, truncated ones of both kinds, and one that is too large."""
    url, _ = serve(SIGNUP_WORKERS="1")
    picture = png(200_000)

    def pieces(data: bytes) -> Iterator[bytes]:
        yield from (data[start : start + 40_000] for start in range(0, len(data), 40_000))

    def post(data: Any) -> int:
        return requests.post(url + PIC, auth=verified, data=data, timeout=30).status_code

    assert [post(picture), post(pieces(picture))] == [201, 201]
    assert requests.get(url + PIC, auth=verified, timeout=30).content == picture
    largest = png(MAX_PICTURE - len(png()))
    assert [post(largest), post(pieces(largest))] == [201, 201]
    assert [post(pieces(largest + b"x")), post(pieces(picture[:-1]))] == [413, 400]
    parts = urlsplit(url)
    basic = requests.auth._basic_auth_str(*verified)
    head = f"POST {PIC} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic}\r\n"
    for sent in (
        f"{head}Content-Length: {len(picture)}\r\n\r\n".encode() + picture[:-100],
        f"{head}Content-Length: {len(picture) + 9}\r\n\r\n".encode() + picture,
        f"{head}Transfer-Encoding: chunked\r\n\r\n{len(picture):x}\r\n".encode() + picture[:-100],
        f"{head}Transfer-Encoding: chunked\r\n\r\n{len(picture):x}\r\n".encode() + picture,
    ):
        with closing(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert list(stored().values()) == [largest]
