"""Confirming a token, and asking for another one."""

from __future__ import annotations

import re
from uuid import UUID

from signup.clients.tokens import TokenClaim
from signup.ids import utc_now, uuid7
from signup.outbox.message import VERIFICATION, verification_message
from signup.outbox.repo import KEEP, insert_decoy, insert_message
from signup.services import Services
from signup.users import repo
from signup.users.model import Event, User

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 random bytes in URL-safe base64 without padding."""


NOBODY = TokenClaim(UUID(int=0), UUID(int=0))


class TokenMalformed(Exception):
    """The text can't be a token."""


class TokenUnknown(Exception):
    """The token was never issued, has expired, or its user is gone."""


def check_form(token: str) -> str:
    """The token, if it looks like one; raises TokenMalformed."""
    if not TOKEN.fullmatch(token):
        raise TokenMalformed
    return token


def verify(services: Services, token: str, request_id: str) -> User:
    """Consume a token and mark its user verified. Safe to repeat within the token's life.

    The token is consumed first; should the database fail then, trying again succeeds. Raises TokenMalformed,
    TokenUnknown, TokensUnavailable or one of DATABASE_DOWN.
    """
    # The same statements for a token that nobody issued: by its time, an answer tells no more than by its words.
    claim = services.tokens.consume(check_form(token)) or NOBODY
    now = utc_now()
    with services.engine.begin() as connection:
        marked = repo.mark_verified(connection, claim.user_id, claim.message_id, now)
        if marked is None:
            raise TokenUnknown
        user, changed = marked
        if changed:
            repo.insert_audit(connection, Event.VERIFIED, user.id, now, request_id)
    return user


def resend(services: Services, email: str, request_id: str) -> None:
    """Send the mail of an address's only sign-up again, in one transaction: outbox row, audit row.

    Any other address, unknown, verified or signed up again, gets nothing; the same statements run for it, so that nobody
    can tell which it is. The id in its audit row is fresh and stands for nobody.
    """
    now = utc_now()
    message_id = uuid7()
    with services.engine.begin() as connection:
        # Registrations are kept so long: of an older sign-up nobody knows whether there was another.
        user = repo.find_for_resend(connection, email, now - KEEP)
        if user is None:
            insert_decoy(connection, message_id)
            repo.insert_audit(connection, Event.RESEND_UNANSWERED, message_id, now, request_id)
        else:
            message = verification_message(message_id, user.id, user.email, request_id, now)
            insert_message(connection, message_id, VERIFICATION, message)
            repo.insert_audit(connection, Event.VERIFICATION_RESENT, user.id, now, request_id)
