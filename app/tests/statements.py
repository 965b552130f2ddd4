"""What the application has the database do, and a database that fails at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event, text


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """What the application has the database do, without names of columns and values; COMMIT included."""
    seen: list[str] = []
    engine = app.extensions["signup"].engine

    def executed(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found = re.match(r"(SELECT|INSERT INTO \w+|UPDATE \w+)", statement)
        seen.append(found[0] if found else statement)

    def committed(_connection: Any) -> None:
        seen.append("COMMIT")

    event.listen(engine, "before_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    yield seen
    event.remove(engine, "before_cursor_execute", executed)
    event.remove(engine, "commit", committed)


@contextmanager
def commits_fail(database: Engine) -> Iterator[None]:
    """The database goes away at the end of each transaction that wrote an audit row."""
    with database.begin() as connection:
        connection.execute(
            text("""
            CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'going away' USING ERRCODE = 'admin_shutdown'; END $$
            """)
        )
        connection.execute(
            text("""
            CREATE CONSTRAINT TRIGGER go_away AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION go_away()
            """)
        )
    try:
        yield
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP FUNCTION go_away CASCADE"))
