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
from signup.schema.revisions import needed_revision
from signup.settings import DatabaseSettings, Settings


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


@pytest.mark.parametrize(("revision", "ready"), [(None, 503), ("0000", 503), ("0001", 200), ("9999", 200)])
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


def test_the_latch_is_shared_with_forked_processes() -> None:
    latch = Latch()
    child = os.fork()
    if child == 0:
        latch.set()
        os._exit(0)
    os.waitpid(child, 0)
    assert latch.is_set()
