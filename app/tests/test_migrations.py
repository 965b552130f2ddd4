"""signup-migrate."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import upgrade
from alembic.runtime.migration import MigrationContext
from gate import Gate
from sqlalchemy import Engine, create_engine, insert, inspect, make_url, text
from sqlalchemy.exc import IntegrityError
from waiting import wait_for

from signup.ids import uuid7
from signup.schema.migrate import DatabaseNotReady, migrate
from signup.schema.repo import lock_migrations, read_state, unlock_migrations
from signup.schema.revisions import alembic_config, needed_revision, release_schema
from signup.schema.tables import metadata, outbox
from signup.settings import DatabaseSettings, MigrationSettings


def settings(url: str, wait_seconds: int = 5) -> MigrationSettings:
    return MigrationSettings(DatabaseSettings(region=None, url=url), wait_seconds=wait_seconds)


def test_upgrades_an_empty_database_and_then_has_nothing_to_do(
    make_database: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = make_database()
    assert migrate(settings(url)) == needed_revision()
    assert "schema upgraded" in caplog.text
    caplog.clear()
    assert migrate(settings(url)) == needed_revision()
    assert "schema upgraded" not in caplog.text
    assert "schema is current" in caplog.text
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        assert read_state(connection) == (release_schema().head, release_schema().floor)
    engine.dispose()


def test_instances_that_boot_together_upgrade_once(make_database: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = make_database()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: migrate(settings(url, 20)), range(4))) == {needed_revision()}
    assert [record.message for record in caplog.records].count("schema upgraded") == 1


def test_a_database_ahead_of_this_release_is_left_alone(make_database: Callable[[], str]) -> None:
    url = make_database()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    assert migrate(settings(url)) == "9999"
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_waits_for_the_database(gate: Gate, make_database: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    url = make_url(make_database()).set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(migrate, settings(url, 20))
        wait_for("two attempts in vain", lambda: caplog.text.count("waiting for the database") >= 2)
        gate.open()
        assert done.result() == needed_revision()


def test_waits_for_another_instances_lock_only_so_long(make_database: Callable[[], str]) -> None:
    url = make_database()
    engine = create_engine(url)
    with engine.connect() as holder:
        assert lock_migrations(holder, 1)
        started = time.monotonic()
        with pytest.raises(DatabaseNotReady, match="another instance is still migrating"):
            migrate(settings(url, 1))
        assert time.monotonic() - started < 5
        unlock_migrations(holder)
    assert migrate(settings(url, 1)) == needed_revision()
    engine.dispose()


@pytest.fixture
def at(make_database: Callable[[], str]) -> Iterator[Callable[[str], tuple[str, Engine]]]:
    """Makes databases at older revisions: their URLs, and engines of the service that runs on them."""
    engines: list[Engine] = []

    def make(revision: str) -> tuple[str, Engine]:
        url = make_database()
        engines.append(create_engine(url, connect_args={"options": "-c statement_timeout=5000"}))
        with engines[-1].connect() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            upgrade(config, revision)
            assert read_state(connection)[0] == revision
        return url, engines[-1]

    yield make
    for each in engines:
        each.dispose()


def waiting(engine: Engine) -> int:
    """How many statements wait for others' transactions."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with engine.connect() as connection:
        return int(connection.execute(text(statement)).scalar_one())


@pytest.mark.parametrize("before", ["0003", "0004"])
def test_the_service_goes_on_while_a_migration_waits(at: Callable[[str], tuple[str, Engine]], before: str) -> None:
    """However long a transaction takes that is in its way."""
    url, engine = at(before)
    message = {"kind": "test", "payload": {}}
    with ThreadPoolExecutor(1) as pool, engine.connect() as slow:
        slow.execute(insert(outbox).values(id=uuid7(), **message))
        migrating = pool.submit(migrate, settings(url, 60))
        wait_for("the migration", lambda: waiting(engine))
        for _ in range(4):
            with engine.begin() as connection:
                connection.execute(insert(outbox).values(id=uuid7(), **message))
        assert not migrating.done()
        slow.commit()
        assert migrating.result() == needed_revision()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM outbox")).scalar_one() == 5
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_migration_gives_up_in_time(at: Callable[[str], tuple[str, Engine]]) -> None:
    url, engine = at("0003")
    with engine.connect() as slow:
        slow.execute(insert(outbox).values(id=uuid7(), kind="test", payload={}))
        with pytest.raises(DatabaseNotReady, match="other transactions were in a migration's way for 1 s"):
            migrate(settings(url, 1))


def test_an_index_that_was_not_finished_is_built_anew(at: Callable[[str], tuple[str, Engine]]) -> None:
    url, engine = at("0004")
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'outbox_user'::regclass"
    twice = insert(outbox).values(kind="test", payload={"user_id": "1"})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(2):
            connection.execute(twice.values(id=uuid7()))
        with pytest.raises(IntegrityError):  # it ends in the middle, and leaves its beginning
            connection.execute(text("CREATE UNIQUE INDEX CONCURRENTLY outbox_user ON outbox ((payload ->> 'user_id'))"))
        assert not connection.execute(text(valid)).scalar_one()
    migrate(settings(url))
    with engine.connect() as connection:
        assert connection.execute(text(valid)).scalar_one()


def command(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    base = {name: os.environ[name] for name in os.environ if not name.startswith(("SIGNUP_", "AWS_"))}
    program = [sys.executable, "-c", "from signup.schema.migrate import main; main()"]
    return subprocess.run(program, env={**base, **environment}, capture_output=True, text=True, timeout=30, check=False)


def test_the_command_gives_up_with_a_clear_line(gate: Gate) -> None:
    url = f"postgresql://ada:hush-hush@127.0.0.1:{gate.port}/signup"
    done = command({"SIGNUP_DATABASE_URL": url, "SIGNUP_MIGRATE_WAIT_SECONDS": "1"})
    assert done.returncode == 75
    assert "could not be reached for 1 s" in done.stdout
    assert "Connection refused" in done.stdout
    assert "hush-hush" not in done.stdout + done.stderr


def test_the_command_refuses_missing_settings() -> None:
    done = command({})
    assert done.returncode == 78
    assert "SIGNUP_DATABASE_HOST" in done.stderr
    assert "SIGNUP_DATABASE_SECRET_ARN" in done.stderr
    assert "Traceback" not in done.stderr
