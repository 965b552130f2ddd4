"""Every operation of the service, by path and method."""

from __future__ import annotations

from typing import Any

from signup import rates
from signup.reference.answers import answer, json, page, problems
from signup.reference.schemas import PAGE, TOKEN_TEXT, named
from signup.users.fields import MAX_EMAIL
from signup.web.cross_site import SAFE_METHODS

Operation = dict[str, Any]

BASIC: list[dict[str, list[str]]] = [{"basic": []}]
FORM = "application/x-www-form-urlencoded"
FOREIGN = "A page of another site made a browser send this."
FILE = {"type": "string", "description": "The file's content."}

PRESS = {
    "confirm": {
        "operationId": "confirm_verification",
        "parameters": {"token": "$request.query.token"},
        "description": "What the button does.",
    }
}

RESEND = {
    "resend": {
        "operationId": "send_again",
        "requestBody": {"email": "$request.body#/email"},
        "description": "If no mail arrives.",
    }
}

TAGS = {
    "Users": "Sign up, and read your own account.",
    "Verification": "Confirm an address by the token that was mailed to it.",
    "Pages": "The same for people, with a browser. They work without JavaScript.",
    "Health": "For load balancers, alarms and people on call.",
    "Reference": "This document.",
}


def _operation(tag: str, name: str, summary: str, description: str, answers: dict[str, Any], **more: Any) -> Operation:
    parameters = [{"$ref": "#/components/parameters/X-Request-Id"}, *more.pop("parameters", [])]
    return {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        "description": description,
        "parameters": parameters,
        **more,
        "responses": answers,
    }


def _body(kind: str, schema: str) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": named(schema)}}}


def _token() -> dict[str, Any]:
    return {"name": "token", "in": "query", "required": True, "description": "The mailed token.", "schema": TOKEN_TEXT}


def _users() -> dict[tuple[str, str], Operation]:
    return {
        ("/v1/user", "post"): _operation(
            "Users",
            "sign_up",
            "Sign up",
            "Makes an account and mails a link that confirms its address. An address that has an account gets the very same "
            "answer, so that nobody can find out who has one; the `id` in it stands for nothing then.",
            {"201": {**json("The account, not verified yet.", "User"), "links": RESEND}, **problems(400, 413, 415, 422, 503)},
            requestBody=_body("application/json", "SignUp"),
        ),
        ("/v1/user/self", "get"): _operation(
            "Users",
            "read_self",
            "Read your account",
            "The account whose address and password are sent.",
            {"200": json("The account.", "User"), **problems(401, 403, 503)},
            security=BASIC,
        ),
        ("/v1/user/self", "put"): _operation(
            "Users",
            "change_self",
            "Change your account",
            "Names and password; the address stays what was confirmed.",
            {"204": answer("Changed.", {}), **problems(400, 401, 403, 413, 415, 422, 503)},
            requestBody=_body("application/json", "Change"),
            security=BASIC,
        ),
    }


def _verification() -> dict[tuple[str, str], Operation]:
    answers = {
        "200": json("The verified account.", "User"),
        **problems(400, 404, 503, told={400: "This can't be a token: something of it is missing."}),
    }
    description = "Safe to repeat for as long as the token lives."
    confirm = {
        ("/v1/user/verify", method): _operation(
            "Verification", f"{name}_verification", "Confirm an address", description, answers, parameters=[_token()]
        )
        for method, name in (("get", "follow"), ("post", "confirm"))
    }
    resend = _operation(
        "Verification",
        "send_again",
        "Mail the link again",
        "For an address that has signed up and is not verified yet. The answer is the same for any address.",
        {"202": json("Asked for.", "Message"), **problems(400, 413, 415, 422, 503)},
        requestBody=_body("application/json", "Address"),
    )
    return {**confirm, ("/v1/user/verify/resend", "post"): resend}


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"required": True, "content": {FORM: {"schema": schema}}}


def _pages() -> dict[tuple[str, str], Operation]:
    return {
        ("/", "get"): _operation(
            "Pages", "sign_up_page", "The sign-up form", "A form.", {"200": page("The form."), **problems(503, pages=True)}
        ),
        ("/", "post"): _operation(
            "Pages",
            "submit_form",
            "Sign up by form",
            "What the form sends. It comes back with what was typed, but the password, where something is wrong.",
            {
                "303": answer("Signed up; on to what comes next.", {"text/html": PAGE}, ("Location",)),
                "422": page("The form again, with what can't be accepted."),
                **problems(400, 413, 415, 503, pages=True),
            },
            requestBody=_body(FORM, "SignUpForm"),
        ),
        ("/check-your-mail", "get"): _operation(
            "Pages",
            "check_your_mail_page",
            "What to do after signing up",
            "The same for new and known addresses.",
            {"200": page("The page."), **problems(503, pages=True)},
        ),
        ("/check-your-mail", "post"): _operation(
            "Pages",
            "submit_resend",
            "Have the mail sent again, by form",
            "The same answer for any address.",
            {
                "303": answer("Back to the page, which says what that means.", {"text/html": PAGE}, ("Location",)),
                "422": page("The form again, with what can't be accepted."),
                **problems(400, 413, 415, 503, pages=True),
            },
            requestBody=_form({"email": {"type": "string", "format": "email", "maxLength": MAX_EMAIL}}),
        ),
        ("/verify", "get"): _operation(
            "Pages",
            "confirm_page",
            "The page the mail links to",
            "Asks for a press on a button: mail scanners follow links, but press no buttons.",
            {"200": {**page("The page."), "links": PRESS}, **problems(400, 503, pages=True)},
            parameters=[_token()],
        ),
        ("/verify", "post"): _operation(
            "Pages",
            "submit_token",
            "Confirm an address by the button",
            "What the button sends: the token in the body, so that no address has it any more.",
            {
                "303": answer("Confirmed; on to the page that says so.", {"text/html": PAGE}, ("Location",)),
                **problems(400, 404, 413, 415, 503, pages=True),
            },
            requestBody=_form({"token": TOKEN_TEXT}),
        ),
        ("/confirmed", "get"): _operation(
            "Pages",
            "confirmed_page",
            "The result",
            "Where the button leads to.",
            {"200": page("The page."), **problems(503, pages=True)},
        ),
        ("/static/{hashed}", "get"): _operation(
            "Pages",
            "static_file",
            "The pages' style and pictures",
            "The name holds a hash of the content, so that it can be kept for good.",
            {
                "200": answer("The file.", {"text/css": FILE, "image/svg+xml": FILE}),
                **problems(404, 503, told={404: "There is no such file."}),
            },
            parameters=[{"name": "hashed", "in": "path", "required": True, "description": "Name.", "schema": {"type": "string"}}],
        ),
    }


def _health() -> dict[tuple[str, str], Operation]:
    return {
        ("/livez", "get"): _operation(
            "Health", "live", "The process answers", "Says nothing of the database.", {"200": json("It does.", "Status")}
        ),
        ("/readyz", "get"): _operation(
            "Health",
            "ready",
            "The database can be reached, its schema is current",
            "For people and alarms, not for load balancers.",
            {"200": json("They are.", "Status"), **problems(503)},
        ),
        ("/healthz", "get"): _operation(
            "Health",
            "healthy",
            "This instance has been ready once",
            "The load balancer's check. It stays healthy when the database goes away, so that nobody replaces instances "
            "that nothing is wrong with.",
            {"200": json("It has.", "Status"), **problems(503)},
        ),
    }


def _reference() -> dict[tuple[str, str], Operation]:
    document = answer("The document.", {"application/json": {"type": "object"}})
    return {
        ("/openapi.json", "get"): _operation(
            "Reference", "openapi", "The contract as OpenAPI 3.1", "For programs.", {"200": document, **problems(503)}
        ),
        ("/docs", "get"): _operation(
            "Reference", "docs", "The contract as a page", "For people.", {"200": page("The page."), **problems(503, pages=True)}
        ),
    }


def operations() -> dict[tuple[str, str], Operation]:
    """All operations by path and lower-case method."""
    made = {**_users(), **_verification(), **_pages(), **_health(), **_reference()}
    for (path, method), operation in made.items():
        answers = operation["responses"]
        pages = "text/html" in answers.get("503", {}).get("content", ())
        if method.upper() not in SAFE_METHODS:
            answers = {**problems(403, pages=pages, told={403: FOREIGN}), **answers}
        if path in rates.LIMITED and (path not in rates.PAGES or method == "post"):
            answers = {**answers, **problems(429, pages=pages)}
        operation["responses"] = dict(sorted(answers.items()))
    return made
