"""The operations for programs: users, their pictures, verification, and mails."""

from __future__ import annotations

from signup.mail_events.signature import SIGNATURE, TIMESTAMP
from signup.pictures.formats import JPEG, PNG
from signup.pictures.routes import PATH
from signup.pictures.upload import MAX_PICTURE
from signup.reference.answers import answer, json, problems
from signup.reference.parts import BASIC, Operations, body, operation, token

RESEND = {
    "resend": {
        "operationId": "send_again",
        "requestBody": {"email": "$request.body#/email"},
        "description": "If no mail arrives.",
    }
}

KEPT = {
    "read": {"operationId": "read_picture", "description": "See it."},
    "remove": {"operationId": "remove_picture", "description": "Take it away again."},
}
LARGEST = f"{MAX_PICTURE // 1024**2} MB"
IMAGES = {
    kind.content_type: {"type": "string", "format": "binary", "description": "The picture's bytes."} for kind in (PNG, JPEG)
}


def users() -> Operations:
    return {
        ("/v1/user", "post"): operation(
            "Users",
            "sign_up",
            "Sign up",
            "Makes an account and mails a link that confirms its address. An address that has an account gets the very same "
            "answer, so that nobody can find out who has one; the `id` in it stands for nothing then.",
            {"201": {**json("The account, not verified yet.", "User"), "links": RESEND}, **problems(400, 413, 415, 422, 503)},
            requestBody=body("application/json", "SignUp"),
        ),
        ("/v1/user/self", "get"): operation(
            "Users",
            "read_self",
            "Read your account",
            "The account whose address and password are sent.",
            {"200": json("The account.", "User"), **problems(401, 403, 503)},
            security=BASIC,
        ),
        ("/v1/user/self", "put"): operation(
            "Users",
            "change_self",
            "Change your account",
            "Names and password; the address stays what was confirmed.",
            {"204": answer("Changed.", {}), **problems(400, 401, 403, 413, 415, 422, 503)},
            requestBody=body("application/json", "Change"),
            security=BASIC,
        ),
    }


def pictures() -> Operations:
    """The user's picture."""
    missing = {404: "There is no picture."}
    refused = {400: "It is neither a PNG nor a JPEG, or not whole.", 413: f"It is larger than {LARGEST}."}
    return {
        (PATH, "post"): operation(
            "Pictures",
            "set_picture",
            "Set your picture",
            f"The body is the picture, {LARGEST} at most: PNG or JPEG by its content, whatever it is declared to be. It takes "
            "the place of the one before.",
            {
                "201": {**json("Kept.", "Picture"), "links": KEPT},
                **problems(400, 401, 403, 413, 503, told=refused),
            },
            requestBody={"required": True, "content": {kind: {"schema": schema} for kind, schema in IMAGES.items()}},
            security=BASIC,
        ),
        (PATH, "get"): operation(
            "Pictures",
            "read_picture",
            "See your picture",
            "As it was sent.",
            {"200": answer("The picture.", IMAGES), **problems(401, 403, 404, 503, told=missing)},
            security=BASIC,
        ),
        (PATH, "delete"): operation(
            "Pictures",
            "remove_picture",
            "Remove your picture",
            "For good.",
            {"204": answer("Removed.", {}), **problems(401, 403, 404, 503, told=missing)},
            security=BASIC,
        ),
    }


def verification() -> Operations:
    answers = {
        "200": json("The verified account.", "User"),
        **problems(400, 404, 503, told={400: "This can't be a token: something of it is missing."}),
    }
    description = "Safe to repeat for as long as the token lives."
    confirm = {
        ("/v1/user/verify", method): operation(
            "Verification", f"{name}_verification", "Confirm an address", description, answers, parameters=[token()]
        )
        for method, name in (("get", "follow"), ("post", "confirm"))
    }
    resend = operation(
        "Verification",
        "send_again",
        "Mail the link again",
        "For an address that has signed up and is not verified yet. The answer is the same for any address. Sent with the "
        "account's password, it says how far the last mail is, and why it came back.",
        {"202": json("Asked for.", "Resent"), **problems(400, 401, 413, 415, 422, 503)},
        requestBody=body("application/json", "Address"),
        security=[{}, *BASIC],
    )
    return {**confirm, ("/v1/user/verify/resend", "post"): resend}


def mail() -> Operations:
    signed = [
        {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}}
        for name, what in ((SIGNATURE, "ECDSA over timestamp and body."), (TIMESTAMP, "Seconds since 1970."))
    ]
    told = {
        400: "The body is no JSON array.",
        403: "Not signed, not by SendGrid, or not in the past 25 hours; or a page of another site made a browser send this.",
        404: "No key is set: no events are taken.",
    }
    event = {"description": "An object of SendGrid's. What is no event of ours is passed over."}
    ids = {"sg_event_id": "ZGVsaXZlcmVk", "message_id": "019a0000-0000-7000-8000-000000000001"}
    events = {"type": "array", "items": event, "examples": [[{"event": "delivered", "timestamp": 1769860800, **ids}]]}
    return {
        ("/v1/mail/events", "post"): operation(
            "Mail",
            "take_mail_events",
            "What became of mails",
            "SendGrid's signed event webhook. Safe to repeat: each event counts once.",
            {"204": answer("Taken.", {}), **problems(400, 403, 404, 413, 415, 503, told=told)},
            parameters=signed,
            requestBody={"required": True, "content": {"application/json": {"schema": events}}},
        )
    }
