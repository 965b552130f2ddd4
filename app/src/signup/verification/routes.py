"""HTTP for verification: the API form, which a browser's form posts to as well."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, make_response, render_template, request

from signup.problems import Problem, wants_page
from signup.services import services
from signup.verification.service import TokenMalformed, TokenUnknown, verify

blueprint = Blueprint("verification", __name__)

MALFORMED = "The link is not complete. Copy all of it from the mail, up to its last character."
UNKNOWN = "The link is unknown or has expired. Sign up again to get a new one."


@blueprint.route("/v1/user/verify", methods=["GET", "POST"])
def confirm() -> Response:
    """Verify the user that the token in the query stands for."""
    try:
        user = verify(services(), request.args.get("token", ""), g.request_id)
    except TokenMalformed:
        raise Problem(400, MALFORMED) from None
    except TokenUnknown:
        raise Problem(404, UNKNOWN) from None
    if wants_page():
        return make_response(render_template("verified.html"))
    return jsonify(user.to_json())
