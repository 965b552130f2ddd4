"""`signup-migrate`: brings the database's schema up to what this release needs."""

from __future__ import annotations

import logging
import os
import sys
import time

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from signup.clients.secrets import CredentialsUnavailable
from signup.database import DATABASE_DOWN, make_engine
from signup.logs import configure
from signup.schema.repo import limit_waits, lock_migrations, read_state, unlock_migrations
from signup.schema.revisions import alembic_config, is_beyond, is_current, needed_revision
from signup.settings import MigrationSettings, load_migration_settings, load_or_exit

EX_TEMPFAIL = 75
"""Exit code for a failure worth trying again (sysexits.h)."""

MAX_PAUSE_SECONDS = 2.0
AGAIN_SECONDS = 1.0
"""In between, the service does what has piled up behind a migration that waited."""

IN_THE_WAY = ("55P03", "40P01")
"""PostgreSQL's lock_not_available and deadlock_detected."""

log = logging.getLogger(__name__)


class DatabaseNotReady(Exception):
    """The database could not be reached, or its migration lock not be had, within the time allowed."""


def migrate(settings: MigrationSettings) -> str:
    """Upgrade the schema under an advisory lock and return its revision.

    Waits for the database, and for another instance that is migrating, `wait_seconds` each; raises DatabaseNotReady
    after that. Does nothing where the schema is current, or ahead because a newer release was here.
    """
    engine = make_engine(settings.database, "signup-migrate", statement_timeout_ms=0, pool_size=1)
    try:
        with _connect(engine, settings.wait_seconds) as connection:
            return _upgrade(connection, settings.wait_seconds)
    finally:
        engine.dispose()


def _connect(engine: Engine, wait_seconds: int) -> Connection:
    deadline = time.monotonic() + wait_seconds
    pause = 0.5
    while True:
        try:
            return engine.connect()
        except DATABASE_DOWN as error:
            reason = _reason(error)
            left = deadline - time.monotonic()
            if left <= 0:
                raise DatabaseNotReady(
                    f"the database could not be reached for {wait_seconds} s ({reason}): check that it is available, "
                    "that its host name and port are right and that this instance's security group may reach it"
                ) from error
            log.warning("waiting for the database", extra={"fields": {"reason": reason, "seconds_left": round(left)}})
            time.sleep(min(pause, left))
            pause = min(pause * 2, MAX_PAUSE_SECONDS)


def _upgrade(connection: Connection, wait_seconds: int) -> str:
    deadline = time.monotonic() + wait_seconds
    while True:
        if not lock_migrations(connection, deadline - time.monotonic()):
            raise DatabaseNotReady(
                f"the migration lock could not be had within {wait_seconds} s: another instance is still migrating; "
                "look at its signup-migrate log"
            )
        try:
            return _upgrade_locked(connection)
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in IN_THE_WAY:
                raise
            if time.monotonic() >= deadline:
                raise DatabaseNotReady(
                    f"other transactions were in a migration's way for {wait_seconds} s: look for old ones in pg_stat_activity"
                ) from error
            log.warning("other transactions are in a migration's way: trying again", extra={"fields": {"reason": _reason(error)}})
        finally:
            connection.rollback()
            unlock_migrations(connection)
        time.sleep(min(AGAIN_SECONDS, max(0.0, deadline - time.monotonic())))


def _upgrade_locked(connection: Connection) -> str:
    before, floor = read_state(connection)
    # Ends the transaction that reading the revision began; Alembic begins its own.
    connection.commit()
    if before is not None and is_current(before):
        fields = {"revision": before, "needed": needed_revision(), "floor": floor}
        if is_beyond(floor):
            # Not an error of this command: the service says the same to whoever asks for its health.
            log.error("schema is beyond this release: it will not turn healthy", extra={"fields": fields})
        else:
            log.info("schema is current", extra={"fields": fields})
        return before
    from alembic import command  # a boot that has nothing to do is done sooner without it

    config = alembic_config()
    config.attributes["connection"] = connection
    limit_waits(connection)
    command.upgrade(config, "head")
    connection.commit()
    log.info("schema upgraded", extra={"fields": {"from": before, "revision": needed_revision()}})
    return needed_revision()


def _reason(error: Exception) -> str:
    if isinstance(error, CredentialsUnavailable):
        return str(error)
    # libpq's first line names host, port and cause; it never holds the password.
    original = getattr(error, "orig", None) or error
    return (str(original).strip().splitlines() or [type(error).__name__])[0]


def main() -> None:
    """Console script. Exit codes: 0 done, 75 database not ready (try again), 78 wrong settings."""
    settings = load_or_exit(load_migration_settings)
    configure(settings.log_level)
    try:
        migrate(settings)
    except DatabaseNotReady as error:
        log.error("%s", error)
        sys.exit(EX_TEMPFAIL)
    # All is committed and said, and the service waits for this process's end: taking its modules apart would be a fifth of it.
    sys.stdout.flush()
    os._exit(0)
