"""SQL around migrations."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Any constant will do, as long as nothing else in this database uses it: "signup" in ASCII.
LOCK = 0x7369676E7570


def lock_migrations(connection: Connection, wait_seconds: int) -> None:
    """Take the session's advisory lock for migrations; OperationalError after `wait_seconds`."""
    connection.execute(text("SELECT set_config('lock_timeout', :wait, false)"), {"wait": f"{max(1, wait_seconds)}s"})
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
    # From here on a statement that waits for the service's own transactions gives up before requests pile up.
    connection.execute(text("SELECT set_config('lock_timeout', '10s', false)"))
    connection.commit()


def unlock_migrations(connection: Connection) -> None:
    """Give the advisory lock back."""
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})
    connection.commit()
