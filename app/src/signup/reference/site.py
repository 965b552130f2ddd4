"""The operations for browsers, for whoever watches the service, and for whoever reads its contract."""

from __future__ import annotations

from signup.reference.answers import answer, json, page, problems
from signup.reference.parts import Operations, body, operation, token
from signup.reference.schemas import PAGE
from signup.web.forms import KIND as FORM

FILE = {"type": "string", "description": "The file's content."}

PRESS = {
    "confirm": {
        "operationId": "confirm_verification",
        "parameters": {"token": "$request.query.token"},
        "description": "What the button does.",
    }
}


def pages() -> Operations:
    return {
        ("/", "get"): operation(
            "Pages", "sign_up_page", "The sign-up form", "A form.", {"200": page("The form."), **problems(503, pages=True)}
        ),
        ("/", "post"): operation(
            "Pages",
            "submit_form",
            "Sign up by form",
            "What the form sends. It comes back with what was typed, but the password, where something is wrong.",
            {
                "303": answer("Signed up; on to what comes next.", {"text/html": PAGE}, ("Location",)),
                "422": page("The form again, with what can't be accepted."),
                **problems(400, 413, 415, 503, pages=True),
            },
            requestBody=body(FORM, "SignUp"),
        ),
        ("/check-your-mail", "get"): operation(
            "Pages",
            "check_your_mail_page",
            "What to do after signing up",
            "The same for new and known addresses.",
            {"200": page("The page."), **problems(503, pages=True)},
        ),
        ("/check-your-mail", "post"): operation(
            "Pages",
            "submit_resend",
            "Have the mail sent again, by form",
            "The same answer for any address.",
            {
                "303": answer("Back to the page, which says what that means.", {"text/html": PAGE}, ("Location",)),
                "422": page("The form again, with what can't be accepted."),
                **problems(400, 413, 415, 503, pages=True),
            },
            requestBody=body(FORM, "Address"),
        ),
        ("/verify", "get"): operation(
            "Pages",
            "confirm_page",
            "The page the mail links to",
            "Asks for a press on a button: mail scanners follow links, but press no buttons.",
            {"200": {**page("The page."), "links": PRESS}, **problems(400, 503, pages=True)},
            parameters=[token()],
        ),
        ("/verify", "post"): operation(
            "Pages",
            "submit_token",
            "Confirm an address by the button",
            "What the button sends: the token in the body, so that no address has it any more.",
            {
                "303": answer("Confirmed; on to the page that says so.", {"text/html": PAGE}, ("Location",)),
                **problems(400, 404, 413, 415, 503, pages=True),
            },
            requestBody=body(FORM, "Token"),
        ),
        ("/confirmed", "get"): operation(
            "Pages",
            "confirmed_page",
            "The result",
            "Where the button leads to.",
            {"200": page("The page."), **problems(503, pages=True)},
        ),
        ("/static/{hashed}", "get"): operation(
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


def health() -> Operations:
    return {
        ("/livez", "get"): operation(
            "Health", "live", "The process answers", "Says nothing of the database.", {"200": json("It does.", "Status")}
        ),
        ("/readyz", "get"): operation(
            "Health",
            "ready",
            "The database can be reached, its schema is current",
            "For people and alarms, not for load balancers.",
            {"200": json("They are.", "Status"), **problems(503)},
        ),
        ("/healthz", "get"): operation(
            "Health",
            "healthy",
            "This instance has been ready once",
            "The load balancer's check. It stays healthy when the database goes away, so that nobody replaces instances "
            "that nothing is wrong with.",
            {"200": json("It has.", "Status"), **problems(503)},
        ),
    }


def reference() -> Operations:
    document = answer("The document.", {"application/json": {"type": "object"}})
    return {
        ("/openapi.json", "get"): operation(
            "Reference", "openapi", "The contract as OpenAPI 3.1", "For programs.", {"200": document, **problems(503)}
        ),
        ("/docs", "get"): operation(
            "Reference", "docs", "The contract as a page", "For people.", {"200": page("The page."), **problems(503, pages=True)}
        ),
    }
