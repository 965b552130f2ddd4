"""SQL around migrations."""

from __future__ import annotations

import time

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from signup.schema.tables import schema_floor

# Any constant will do, as long as nothing else in this database uses it: "signup" in ASCII.
LOCK = 0x7369676E7570
ASK_SECONDS = 0.25


def lock_migrations(connection: Connection, wait_seconds: float) -> bool:
    """Take the session's advisory lock for migrations; False if it is not to be had within `wait_seconds`.

    Asks again and again: a statement that waited would be one more that an index built concurrently waits for, while whoever
    builds it holds the lock.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        got = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar_one()
        connection.commit()
        if got or time.monotonic() >= deadline:
            return bool(got)
        time.sleep(ASK_SECONDS)


def limit_waits(connection: Connection) -> None:
    """From here on a statement that waits for the service's transactions gives up, before requests pile up behind it."""
    connection.execute(text("SELECT set_config('lock_timeout', '2s', false)"))
    connection.commit()


def unlock_migrations(connection: Connection) -> None:
    """Give the advisory lock back."""
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})
    connection.commit()


def read_state(connection: Connection) -> tuple[str | None, str | None]:
    """The schema's revision and its floor; None for what no run of migrations has left yet."""
    return _read(connection, "alembic_version", "version_num"), _read(connection, "schema_floor", "floor")


def _read(connection: Connection, table: str, column: str) -> str | None:
    if connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar_one() is None:
        return None
    found = connection.execute(text(f"SELECT {column} FROM {table}")).scalar_one_or_none()  # noqa: S608 (names from above)
    return None if found is None else str(found)


def write_floor(connection: Connection, floor: str) -> None:
    """Keep the floor with the schema, in the transaction that changes it; the first migration has no place for it yet."""
    if connection.execute(text("SELECT to_regclass('schema_floor')")).scalar_one() is None:
        return
    statement = insert(schema_floor).values(floor=floor)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"floor": statement.excluded.floor}))
