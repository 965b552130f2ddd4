"""What the application has the database do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import event


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
