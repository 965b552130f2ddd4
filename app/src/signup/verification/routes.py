"""HTTP for verification: the API form. The page that the mail links to is in `web`."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request

from signup.bodies import json_object
from signup.mail_events.events import MailStatus
from signup.mail_events.repo import last_mail
from signup.problems import Problem
from signup.services import services
from signup.users.fields import parse_resend
from signup.users.routes import any_login
from signup.verification.service import TokenMalformed, TokenUnknown, resend, verify

blueprint = Blueprint("verification", __name__)

MALFORMED = "The link is not complete. Copy all of it from the mail, up to its last character."
UNKNOWN = "The link is unknown or has expired. Sign up again to get a new one."

RESENT = (
    "If this address has signed up once in the past seven days and is not verified yet, another mail is on its way. "
    "If none arrives, sign up again."
)


@blueprint.route("/v1/user/verify", methods=["GET", "POST"])
def confirm() -> Response:
    """Verify the user that the token in the query stands for."""
    try:
        user = verify(services(), request.args.get("token", ""), g.request_id)
    except TokenMalformed:
        raise Problem(400, MALFORMED) from None
    except TokenUnknown:
        raise Problem(404, UNKNOWN) from None
    return jsonify(user.to_json())


@blueprint.post("/v1/user/verify/resend")
def send_again() -> tuple[Response, int]:
    """Ask for another mail; the same answer for any address, but to its owner, who sends the password too."""
    email = parse_resend(json_object())
    mail = _mail_of_owner(email)
    resend(services(), email, g.request_id)
    return jsonify(detail=RESENT, **({"mail": mail.to_json()} if mail else {})), 202


def _mail_of_owner(email: str) -> MailStatus | None:
    """How far the last mail to the address is, if whoever asks has its password."""
    if request.authorization is None:
        return None
    user = any_login().user
    with services().engine.connect() as connection:
        return last_mail(connection, user.id) if user.email == email else None
