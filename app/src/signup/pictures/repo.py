"""SQL for pictures."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from signup.pictures.model import Picture
from signup.schema.tables import pictures


def find(connection: Connection, user_id: UUID) -> Picture | None:
    """The user's picture."""
    columns = (pictures.c.object_key, pictures.c.content_type, pictures.c.size, pictures.c.created_at)
    row = connection.execute(select(*columns).where(pictures.c.user_id == user_id)).first()
    return None if row is None else Picture(*row)


def replace(connection: Connection, user_id: UUID, picture: Picture) -> str | None:
    """Set the user's picture; the key of the one before. Lock the user first, or that key may be another by now."""
    before = find(connection, user_id)
    values = {
        "object_key": picture.object_key,
        "content_type": picture.content_type,
        "size": picture.size,
        "created_at": picture.created_at,
    }
    statement = insert(pictures).values(user_id=user_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[pictures.c.user_id], set_=values))
    return before.object_key if before else None


def remove(connection: Connection, user_id: UUID) -> str | None:
    """Remove the user's picture; its key, None where there was none."""
    statement = delete(pictures).where(pictures.c.user_id == user_id).returning(pictures.c.object_key)
    return connection.execute(statement).scalar_one_or_none()
