"""What the service has kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from signup.schema.tables import audit, metadata


def rows(database: Engine) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with database.connect() as connection:
        return {name: sorted(connection.execute(select(table)).all(), key=str) for name, table in metadata.tables.items()}


def events(database: Engine) -> list[str]:
    """What the audit trail tells, in its order."""
    with database.connect() as connection:
        return list(connection.execute(select(audit.c.event).order_by(audit.c.id)).scalars())
