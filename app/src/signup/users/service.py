"""What can be done with users."""

from __future__ import annotations

from signup.ids import utc_now, uuid7
from signup.outbox.message import VERIFICATION, verification_message
from signup.outbox.repo import insert_message
from signup.services import Services
from signup.users import repo
from signup.users.fields import SignUp, normalize_email
from signup.users.model import User


class NotAuthenticated(Exception):
    """The address or the password is wrong."""


def sign_up(services: Services, given: SignUp, request_id: str) -> User:
    """Sign a user up in one transaction: user, outbox row, audit row.

    An address that is taken gets the very same answer, after the same hashing, so that nobody can ask which addresses
    have accounts. The id in that answer is fresh and stands for nothing. An unverified address gets another mail; a
    verified one does not.
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
        if repo.insert_user(connection, user, password_hash):
            owner, event = user, "user.signed_up"
        else:
            found = repo.find_by_email(connection, given.email)
            owner, event = (found[0] if found else user), "user.signed_up_again"
            if found and not owner.verified:
                repo.insert_registration(connection, message_id, owner.id, user, password_hash)
        if not owner.verified:
            message = verification_message(message_id, owner.id, owner.email, request_id, now)
            insert_message(connection, message_id, VERIFICATION, message)
        repo.insert_audit(connection, event, owner.id, now, request_id)
    return user


def authenticate(services: Services, email: str, password: str) -> User:
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
    return found[0]
