"""HTTP for users."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from signup.problems import FieldError, InvalidFields, Problem
from signup.services import services
from signup.users.fields import MAX_PASSWORD, parse_sign_up
from signup.users.model import User
from signup.users.service import NotAuthenticated, authenticate, sign_up

blueprint = Blueprint("users", __name__)

# RFC 7617: the charset tells clients to send user and password in UTF-8.
CHALLENGE = {"WWW-Authenticate": 'Basic realm="signup", charset="UTF-8"'}


@blueprint.post("/v1/user")
def create() -> tuple[Response, int]:
    """Sign up."""
    given = parse_sign_up(_json_object(), services().settings.password_min_length)
    return jsonify(sign_up(services(), given, g.request_id).to_json()), 201


@blueprint.get("/v1/user/self")
def read_self() -> Response:
    """The caller's own account."""
    user = _authenticated()
    if not user.verified:
        raise Problem(403, "This account's email address is not verified yet. Use the link in the mail.")
    return jsonify(user.to_json())


def _authenticated() -> User:
    credentials = request.authorization
    if credentials is None or credentials.type != "basic":
        raise Problem(401, "Send your email address and password with HTTP Basic authentication.", CHALLENGE)
    password = credentials.password or ""
    try:
        if len(password) > MAX_PASSWORD:
            raise NotAuthenticated
        return authenticate(services(), credentials.username or "", password)
    except NotAuthenticated:
        raise Problem(401, "The email address or the password is wrong.", CHALLENGE) from None


def _json_object() -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise Problem(415, "Send JSON with Content-Type: application/json.")
    data = request.get_data()
    # A body sent in chunks has no length to refuse it by; werkzeug stops reading at the limit without a word.
    if request.content_length is None and len(data) >= (request.max_content_length or 0):
        raise RequestEntityTooLarge
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not well-formed JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise InvalidFields([FieldError("", "The body must be a JSON object.")])
    return body
