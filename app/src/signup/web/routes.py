"""HTTP for the web pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from signup.problems import FieldError, InvalidFields, use_page
from signup.services import services
from signup.users.fields import NAMES, parse_resend, parse_sign_up
from signup.users.service import sign_up
from signup.verification.service import TokenMalformed, TokenUnknown, check_form, resend, verify
from signup.web.forms import read_form

blueprint = Blueprint("web", __name__, template_folder="templates")

MISSING = {
    "first_name": "Enter your first name.",
    "last_name": "Enter your last name.",
    "email": "Enter your email address.",
    "password": "Choose a password.",
}


@blueprint.before_request
def keep_what_was_typed() -> None:
    """Read a form before anything can refuse it: a limit, a full queue and an outage give it back, without the password."""
    if request.method != "POST":
        return
    given, _ = g.form = read_form()
    if request.endpoint == "web.submit":
        use_page("sign_up.html", **_sign_up_fields(given))
    elif request.endpoint == "web.send_again":
        use_page("check_your_mail.html", email=given.get("email", ""))
    else:
        use_page("confirm.html", token=given.get("token", ""))


@blueprint.get("/")
def home() -> Response:
    """The sign-up form."""
    return _page("sign_up.html", **_sign_up_fields({}))


@blueprint.post("/")
def submit() -> BaseResponse:
    """Sign up by form; the form comes back with what is wrong, or the browser goes on to 'check your mail'."""
    given, errors = g.form
    try:
        parsed = parse_sign_up(given, services().settings.password_min_length)
        if not errors:
            sign_up(services(), parsed, g.request_id)
    except InvalidFields as error:
        errors += error.errors
    if errors:
        return _page("sign_up.html", 422, **_sign_up_fields(given), errors=_shown(errors, given))
    # A redirect, so that loading the page again doesn't sign up again.
    return redirect(url_for("web.check_your_mail"), 303)


@blueprint.get("/check-your-mail")
def check_your_mail() -> Response:
    """What to do after signing up; the same for a new address and a known one."""
    return _page("check_your_mail.html", sent="sent" in request.args)


@blueprint.post("/check-your-mail")
def send_again() -> BaseResponse:
    """Have another mail sent; the same answer for any address."""
    given, errors = g.form
    try:
        address = parse_resend(given)
        if not errors:
            resend(services(), address, g.request_id)
    except InvalidFields as error:
        errors += error.errors
    if errors:
        return _page("check_your_mail.html", 422, email=given.get("email", ""), errors=_shown(errors, given))
    return redirect(url_for("web.check_your_mail", sent=""), 303)


@blueprint.get("/verify")
def confirm() -> Response:
    """The page the mail links to. It only asks: mail scanners follow links, but press no buttons."""
    try:
        return _page("confirm.html", token=check_form(request.args.get("token", "")))
    except TokenMalformed:
        return _page("dead_link.html", 400, cut=True)


@blueprint.post("/verify")
def press() -> BaseResponse:
    """Confirm the token; what the button of the page sends."""
    given, _ = g.form
    try:
        verify(services(), given.get("token", ""), g.request_id)
    except TokenMalformed:
        return _page("dead_link.html", 400, cut=True)
    except TokenUnknown:
        return _page("dead_link.html", 404)
    return redirect(url_for("web.confirmed"), 303)


@blueprint.get("/confirmed")
def confirmed() -> Response:
    """The end of the way."""
    return _page("confirmed.html")


@blueprint.after_request
def name_the_origin(response: Response) -> Response:
    """Pages with forms keep addresses from other sites, as `no-referrer` would; but with that they'd post `Origin: null`."""
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def _page(template: str, status: int = 200, /, **values: object) -> Response:
    return make_response(render_template(template, **values), status)


def _sign_up_fields(given: Mapping[str, str]) -> dict[str, object]:
    return {
        "given": {name: given.get(name, "") for name in NAMES if name != "password"},
        "min_password": services().settings.password_min_length,
    }


def _shown(errors: Iterable[FieldError], given: Mapping[str, str]) -> dict[str, str]:
    """The first message of each field, in the order of the form, with a sentence for what was left empty."""
    found: dict[str, str] = {}
    for error in errors:
        empty = error.field in MISSING and not given.get(error.field, "-").strip()
        found.setdefault(error.field, MISSING[error.field] if empty else error.detail)
    return {name: found[name] for name in (*NAMES, *found) if name in found}
