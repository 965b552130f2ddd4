"""What can be done with users."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from signup.database import DATABASE_DOWN
from signup.ids import utc_now, uuid7
from signup.outbox.message import VERIFICATION, verification_message
from signup.outbox.repo import insert_decoy, insert_message
from signup.passwords import HashQueueFull
from signup.services import Services
from signup.users import repo
from signup.users.fields import Change, SignUp, normalize_email
from signup.users.model import Event, User

log = logging.getLogger(__name__)


class NotAuthenticated(Exception):
    """The address or the password is wrong."""


@dataclass(frozen=True)
class Login:
    """A user whose password was right, and the hash that it matches now."""

    user: User
    password_hash: str = field(repr=False)


def sign_up(services: Services, given: SignUp, request_id: str) -> User:
    """Sign a user up in one transaction: user, outbox row, audit row.

    An address that is taken gets the very same answer, after the same hashing and the same statements, so that nobody can
    tell which addresses have accounts. The id in that answer is fresh and stands for nothing. An unverified address gets
    another mail; a verified one does not.
    """
    # Before the transaction: no connection is held while a request waits for its turn to hash.
    password_hash = services.hasher.hash(given.password)
    now = utc_now()
    user = User(
        id=uuid7(),
        first_name=given.first_name,
        last_name=given.last_name,
        email=given.email,
        verified=False,
        account_created=now,
        account_updated=now,
    )
    message_id = uuid7()
    with services.engine.begin() as connection:
        new = repo.insert_user(connection, user, password_hash)
        found = repo.find_by_email(connection, given.email)
        owner = found[0] if found else user
        repo.insert_registration(connection, message_id, owner.id, user, password_hash, wanted=not new and not owner.verified)
        if owner.verified:
            insert_decoy(connection, message_id)
        else:
            message = verification_message(message_id, owner.id, owner.email, request_id, now)
            insert_message(connection, message_id, VERIFICATION, message)
        event = Event.SIGNED_UP if new else Event.SIGNED_UP_AGAIN
        repo.insert_audit(connection, event, owner.id, now, request_id)
    return user


def authenticate(services: Services, email: str, password: str) -> Login:
    """The user with this address and password; raises NotAuthenticated, as slowly for an unknown address."""
    try:
        address = normalize_email(email)
    except ValueError:
        address = None
    found = None
    if address is not None:
        with services.engine.connect() as connection:
            found = repo.find_by_email(connection, address)
    if not services.hasher.verify(found[1] if found else None, password) or found is None:
        raise NotAuthenticated
    login = Login(*found)
    return _with_current_parameters(services, login, password) if services.hasher.is_outdated(login.password_hash) else login


def _with_current_parameters(services: Services, login: Login, password: str) -> Login:
    """The login after its password is hashed anew: only now is it at hand. Raises NotAuthenticated if it has changed."""
    try:
        renewed = services.hasher.hash(password)
        with services.engine.begin() as connection:
            if repo.replace_hash(connection, login.user.id, login.password_hash, renewed):
                return Login(login.user, renewed)
            found = repo.find_by_email(connection, login.user.email)
    except (HashQueueFull, *DATABASE_DOWN):
        log.warning("a password hash could not be renewed")  # the next login tries again
        return login
    # Another login was sooner, or it is another password by now: what was seen is not what a change would find.
    if found is None or not services.hasher.verify(found[1], password):
        raise NotAuthenticated
    return Login(*found)


def change(services: Services, login: Login, wanted: Change, request_id: str) -> None:
    """Change names or password, each with its audit row; raises NotAuthenticated if the password has changed since the login."""
    values = {name: value for name, value in (("first_name", wanted.first_name), ("last_name", wanted.last_name)) if value}
    events = [Event.NAMES_CHANGED] if values else []
    if wanted.password is not None:
        values["password_hash"] = services.hasher.hash(wanted.password)
        events.append(Event.PASSWORD_CHANGED)
    now = utc_now()
    with services.engine.begin() as connection:
        if not repo.update_user(connection, login.user.id, login.password_hash, values, now):
            raise NotAuthenticated
        for event in events:
            repo.insert_audit(connection, event, login.user.id, now, request_id)
