"""What the database says about its own state."""

from __future__ import annotations

from sqlalchemy import Engine

from signup.schema.repo import read_state


def schema_state(engine: Engine) -> tuple[str | None, str | None]:
    """Revision and floor of the database's schema, each None where it has none; raises one of DATABASE_DOWN."""
    with engine.connect() as connection:
        return read_state(connection)
