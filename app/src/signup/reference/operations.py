"""Every operation of the service, by path and lower-case method."""

from __future__ import annotations

from signup import rates
from signup.reference import api, site
from signup.reference.answers import problems
from signup.reference.parts import Operations
from signup.web.cross_site import SAFE_METHODS

FOREIGN = "A page of another site made a browser send this."

TAGS = {
    "Users": "Sign up, and read your own account.",
    "Pictures": "A picture of yours.",
    "Verification": "Confirm an address by the token that was mailed to it.",
    "Mail": "For SendGrid, which delivers the mails.",
    "Pages": "The same for people, with a browser. They work without JavaScript.",
    "Health": "For load balancers, alarms and people on call.",
    "Reference": "This document.",
}


def operations() -> Operations:
    """All operations by path and lower-case method."""
    made = {
        **api.users(),
        **api.pictures(),
        **api.verification(),
        **api.mail(),
        **site.pages(),
        **site.health(),
        **site.reference(),
    }
    for (path, method), operation in made.items():
        answers = operation["responses"]
        pages = "text/html" in answers.get("503", {}).get("content", ())
        if method.upper() not in SAFE_METHODS:
            answers = {**problems(403, pages=pages, told={403: FOREIGN}), **answers}
        if "requestBody" in operation:
            answers = {**answers, **problems(408, pages=pages)}
        if path in rates.LIMITED and (path not in rates.PAGES or method == "post"):
            answers = {**answers, **problems(429, pages=pages)}
        operation["responses"] = dict(sorted(answers.items()))
    return made
