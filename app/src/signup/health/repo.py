"""What the database says about its own state."""

from __future__ import annotations

from sqlalchemy import Engine

from signup.schema.revisions import current_revision


def schema_revision(engine: Engine) -> str | None:
    """The revision of the database's schema; raises one of DATABASE_DOWN if it can't be reached."""
    with engine.connect() as connection:
        return current_revision(connection)
