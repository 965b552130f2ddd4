"""HTTP for the web pages."""

from __future__ import annotations

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from signup.problems import FieldError, InvalidFields, Problem
from signup.services import services
from signup.users.fields import MAX_NAME, MAX_PASSWORD, NAMES, parse_sign_up
from signup.users.service import sign_up
from signup.verification.routes import MALFORMED
from signup.verification.service import TokenMalformed, check_form

blueprint = Blueprint("web", __name__, template_folder="templates")


@blueprint.get("/")
def home() -> Response:
    """The sign-up form."""
    return _form({}, [], 200)


@blueprint.post("/")
def submit() -> BaseResponse:
    """Sign up by form; the form comes back with what is wrong, or the browser goes on to 'check your mail'."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise Problem(415, "Send the form as application/x-www-form-urlencoded, or JSON to /v1/user.")
    given = {name: request.form[name] for name in NAMES if name in request.form}
    try:
        sign_up(services(), parse_sign_up(given, services().settings.password_min_length), g.request_id)
    except InvalidFields as error:
        return _form(given, error.errors, 422)
    # A redirect, so that loading the page again doesn't sign up again.
    return redirect(url_for("web.check_your_mail"), 303)


@blueprint.get("/check-your-mail")
def check_your_mail() -> Response:
    """What to do after signing up; the same for a new address and a known one."""
    return make_response(render_template("check_your_mail.html"))


@blueprint.get("/verify")
def confirm() -> Response:
    """The page the mail links to. It only asks: mail scanners follow links, but press no buttons."""
    try:
        token = check_form(request.args.get("token", ""))
    except TokenMalformed:
        raise Problem(400, MALFORMED) from None
    return make_response(render_template("confirm.html", token=token))


def _form(given: dict[str, str], errors: list[FieldError], status: int) -> Response:
    page = render_template(
        "sign_up.html",
        given={name: given.get(name, "") for name in NAMES if name != "password"},
        errors={error.field: error.detail for error in errors},
        max_name=MAX_NAME,
        max_password=MAX_PASSWORD,
        min_password=services().settings.password_min_length,
    )
    return make_response(page, status)
