"""HTTP for users."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request

from signup.bodies import json_object, no_content
from signup.mail_events.repo import last_mail
from signup.problems import Problem, problem
from signup.services import services
from signup.users.fields import MAX_PASSWORD, parse_change, parse_sign_up
from signup.users.service import Login, NotAuthenticated, authenticate, change, sign_up

blueprint = Blueprint("users", __name__)

# RFC 7617: the charset tells clients to send user and password in UTF-8.
CHALLENGE = {"WWW-Authenticate": 'Basic realm="signup", charset="UTF-8"'}
WRONG = "The email address or the password is wrong."
UNVERIFIED = "This account's email address is not verified yet. Use the link in the mail."
CAME_BACK = "This account's email address is not verified yet, and the last mail to it came back. Sign up with another address."


@blueprint.app_errorhandler(NotAuthenticated)
def not_authenticated(_error: NotAuthenticated) -> Response:
    """A wrong password, or one that has changed since."""
    return problem(401, WRONG, headers=CHALLENGE)


@blueprint.post("/v1/user")
def create() -> tuple[Response, int]:
    """Sign up."""
    given = parse_sign_up(json_object(), services().settings.password_min_length)
    return jsonify(sign_up(services(), given, g.request_id).to_json()), 201


@blueprint.get("/v1/user/self")
def read_self() -> Response:
    """The caller's own account."""
    return jsonify(verified_login().user.to_json())


@blueprint.put("/v1/user/self")
def change_self() -> Response:
    """Change the caller's names or password."""
    login = verified_login()
    wanted = parse_change(json_object(), login.user, services().settings.password_min_length)
    change(services(), login, wanted, g.request_id)
    return no_content()


def verified_login() -> Login:
    """Who calls, by HTTP Basic authentication; 401 for anybody else, and 403 while their address is not verified."""
    found = any_login()
    if found.user.verified:
        return found
    with services().engine.connect() as connection:
        mail = last_mail(connection, found.user.id)
    raise Problem(403, CAME_BACK if mail and mail.status == "bounced" else UNVERIFIED)


def any_login() -> Login:
    """Who calls, by HTTP Basic authentication, verified or not; 401 for anybody else."""
    credentials = request.authorization
    if credentials is None or credentials.type != "basic":
        raise Problem(401, "Send your email address and password with HTTP Basic authentication.", CHALLENGE)
    password = credentials.password or ""
    if len(password) > MAX_PASSWORD:
        raise NotAuthenticated
    return authenticate(services(), credentials.username or "", password)
