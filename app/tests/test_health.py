"""/livez, /readyz and /healthz."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from signup.factory import create_app
from signup.health.latch import Latch
from signup.health.service import warm_up
from signup.schema.migrate import migrate
from signup.schema.repo import write_floor
from signup.schema.revisions import needed_revision
from signup.services import services
from signup.settings import DatabaseSettings, MigrationSettings, Settings


def statuses(app: Flask) -> dict[str, int]:
    client = app.test_client()
    return {path: client.get(path).status_code for path in ("/livez", "/readyz", "/healthz")}


def test_sticky_readiness(gated: tuple[Any, Flask]) -> None:
    gate, app = gated
    gate.shut()
    assert statuses(app) == {"/livez": 200, "/readyz": 503, "/healthz": 503}
    gate.open()
    assert app.test_client().get("/healthz").status_code == 200
    gate.shut()
    assert statuses(app) == {"/livez": 200, "/readyz": 503, "/healthz": 200}
    gate.open()
    assert statuses(app) == {"/livez": 200, "/readyz": 200, "/healthz": 200}


def revision_after(count: int) -> str:
    return f"{int(needed_revision()) + count:04}"


@pytest.mark.parametrize(
    ("revision", "ready"), [(None, 503), ("0000", 503), (revision_after(-1), 503), (needed_revision(), 200), ("9999", 200)]
)
def test_schema_must_not_be_behind(
    make_database: Callable[[], str], settings: Settings, revision: str | None, ready: int
) -> None:
    url = make_database()
    engine = create_engine(url)
    with engine.begin() as connection:
        if revision:
            connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    engine.dispose()
    app = create_app(replace(settings, database=DatabaseSettings(region=None, url=url)))
    assert statuses(app) == {"/livez": 200, "/readyz": ready, "/healthz": ready}
    if ready == 503:
        assert needed_revision() in app.test_client().get("/healthz").get_json(force=True)["detail"]
    app.extensions["signup"].engine.dispose()


@pytest.mark.parametrize(("floor", "ready"), [("0001", 200), (needed_revision(), 200), (revision_after(1), 503)])
def test_schema_must_not_be_beyond(
    make_database: Callable[[], str], settings: Settings, floor: str, ready: int, caplog: pytest.LogCaptureFixture
) -> None:
    url = make_database()
    where = DatabaseSettings(region=None, url=url)
    migrate(MigrationSettings(where))
    engine = create_engine(url)
    with engine.begin() as connection:  # what a later release's contract migration leaves
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision_after(2)})
        write_floor(connection, floor)
    engine.dispose()
    assert migrate(MigrationSettings(where)) == revision_after(2)
    assert ("schema is beyond this release" in caplog.text) == (ready == 503)
    app = create_app(replace(settings, database=where))
    assert statuses(app) == {"/livez": 200, "/readyz": ready, "/healthz": ready}
    if ready == 503:
        with app.app_context():
            warm_up(services())
        assert "not ready yet" in caplog.text
        detail = app.test_client().get("/healthz").get_json(force=True)["detail"]
        assert detail == (
            f"The database's schema is at {revision_after(2)} and its floor at {revision_after(1)}: it no longer has what this "
            f"release, at {needed_revision()}, relies on. Start a release at {revision_after(1)} or later."
        )
    app.extensions["signup"].engine.dispose()


def test_an_instance_that_was_ready_outlives_a_contraction(make_database: Callable[[], str], settings: Settings) -> None:
    where = DatabaseSettings(region=None, url=make_database())
    migrate(MigrationSettings(where))
    app = create_app(replace(settings, database=where))
    assert app.test_client().get("/healthz").status_code == 200
    with app.extensions["signup"].engine.begin() as connection:
        write_floor(connection, revision_after(1))
    # It may fail requests, but no load balancer may lose a whole fleet over it at once.
    assert statuses(app) == {"/livez": 200, "/readyz": 503, "/healthz": 200}
    app.extensions["signup"].engine.dispose()


def test_the_latch_is_shared_with_forked_processes() -> None:
    latch = Latch()
    child = os.fork()
    if child == 0:
        latch.set()
        os._exit(0)
    os.waitpid(child, 0)
    assert latch.is_set()
