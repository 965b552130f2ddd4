"""SQL for users, their registrations and the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or

from signup.schema.tables import audit, registrations, users
from signup.users.model import Event, User

# What every sign-up runs is built once: building took as long as running it.
_INSERT_USER = insert_or(users).on_conflict_do_nothing(index_elements=[users.c.email]).returning(users.c.id)
_FIND_BY_EMAIL = select(users).where(users.c.email == bindparam("email"))
_REGISTERED = ("message_id", "user_id", "first_name", "last_name", "password_hash")
_INSERT_REGISTRATION = insert(registrations).from_select(
    list(_REGISTERED),
    select(*(bindparam(name, type_=registrations.c[name].type) for name in _REGISTERED)).where(
        bindparam("wanted", type_=Boolean)
    ),
)
_INSERT_AUDIT = insert(audit)


def insert_user(connection: Connection, user: User, password_hash: str) -> bool:
    """Insert a user; False if the address is taken.

    A concurrent sign-up of the same address waits for the other's transaction, then finds it taken.
    """
    values = {
        "id": user.id,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "password_hash": password_hash,
        "account_created": user.account_created,
        "account_updated": user.account_updated,
    }
    return connection.execute(_INSERT_USER, values).first() is not None


def find_by_email(connection: Connection, email: str) -> tuple[User, str] | None:
    """The user with this (normalized) address, and its password hash."""
    row = connection.execute(_FIND_BY_EMAIL, {"email": email}).first()
    return None if row is None else (_user(row), row.password_hash)


def insert_registration(
    connection: Connection, message_id: UUID, user_id: UUID, given: User, password_hash: str, *, wanted: bool
) -> None:
    """Keep what a repeated sign-up asked for, to be put in force when the mail of that message is confirmed.

    Runs for every sign-up and keeps nothing unless it is wanted, so that all take as long.
    """
    values = {
        "message_id": message_id,
        "user_id": user_id,
        "first_name": given.first_name,
        "last_name": given.last_name,
        "password_hash": password_hash,
        "wanted": wanted,
    }
    connection.execute(_INSERT_REGISTRATION, values)


def update_user(connection: Connection, user_id: UUID, seen_hash: str, values: Mapping[str, str], now: datetime) -> bool:
    """Change a user's columns; False if the password is no longer the one whose hash was seen."""
    statement = (
        update(users).where(users.c.id == user_id, users.c.password_hash == seen_hash).values(**values, account_updated=now)
    )
    return connection.execute(statement).rowcount == 1


def lock_user(connection: Connection, user_id: UUID, seen_hash: str) -> bool:
    """Keep others from changing a user until the transaction ends; False if the password is no longer the one seen."""
    statement = select(users.c.id).where(users.c.id == user_id, users.c.password_hash == seen_hash).with_for_update()
    return connection.execute(statement).first() is not None


def replace_hash(connection: Connection, user_id: UUID, old: str, new: str) -> bool:
    """Keep another hash of the same password; False if the password has changed meanwhile."""
    statement = update(users).where(users.c.id == user_id, users.c.password_hash == old).values(password_hash=new)
    return connection.execute(statement).rowcount == 1


def find_for_resend(connection: Connection, email: str, since: datetime) -> User | None:
    """The user with this (normalized) address if it waits for its first mail's confirmation, and signed up since then.

    None where the address was signed up again: whose sign-up another mail should confirm, the address alone doesn't tell.
    """
    again = select(registrations.c.message_id).where(registrations.c.user_id == users.c.id).exists()
    row = connection.execute(
        select(users).where(users.c.email == email, ~users.c.verified, users.c.account_created > since, ~again)
    ).first()
    return None if row is None else _user(row)


def mark_verified(connection: Connection, user_id: UUID, message_id: UUID, now: datetime) -> tuple[User, bool] | None:
    """Mark a user verified; the user, and whether this call did it. None if there is no such user.

    If the message came from a repeated sign-up, its names and password come into force with it.
    """
    found = connection.execute(select(users).where(users.c.id == user_id).with_for_update()).first()
    if found is None:
        return None
    if found.verified:
        return _user(found), False
    values: dict[str, Any] = {"verified": True, "account_updated": now}
    registration = connection.execute(
        select(registrations).where(registrations.c.message_id == message_id, registrations.c.user_id == user_id)
    ).first()
    if registration is not None:
        values["first_name"] = registration.first_name
        values["last_name"] = registration.last_name
        values["password_hash"] = registration.password_hash
    row = connection.execute(update(users).where(users.c.id == user_id).values(values).returning(users)).one()
    connection.execute(delete(registrations).where(registrations.c.user_id == user_id))
    return _user(row), True


def insert_audit(connection: Connection, event: Event, user_id: UUID, occurred_at: datetime, request_id: str) -> None:
    """Record an event in the same transaction as its cause."""
    values = {"event": event, "user_id": user_id, "occurred_at": occurred_at, "request_id": request_id}
    connection.execute(_INSERT_AUDIT, values)


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        first_name=row.first_name,
        last_name=row.last_name,
        email=row.email,
        verified=row.verified,
        account_created=row.account_created,
        account_updated=row.account_updated,
    )
