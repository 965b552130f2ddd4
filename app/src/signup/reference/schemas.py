"""JSON Schemas of what is sent and answered. Every limit comes from the module that enforces it."""

from __future__ import annotations

from typing import Any

from signup.pictures.formats import JPEG, PNG
from signup.pictures.upload import MAX_PICTURE
from signup.request_id import ALLOWED, MAX_LENGTH
from signup.users.fields import CHANGEABLE, MAX_EMAIL, MAX_NAME, MAX_PASSWORD, NAMES, TEXT, VISIBLE
from signup.verification.service import TOKEN

Schema = dict[str, Any]


def named(name: str) -> Schema:
    """A reference to one of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def whole(pattern: str) -> str:
    """A pattern for the whole of a text; JSON Schema's match anywhere in it."""
    return f"^{pattern}$"


PAGE: Schema = {"type": "string", "description": "A page in HTML."}
TOKEN_TEXT: Schema = {"type": "string", "pattern": whole(TOKEN.pattern), "description": "The token that was mailed."}
REQUEST_ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": whole(f"[{ALLOWED}]+")}
EXAMPLE = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@example.com",
    "password": "the tide turns at six this evening",
}


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, **more}


def _name(what: str) -> Schema:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_NAME,
        "pattern": whole(VISIBLE),
        "description": f"{what}. No control characters, and not only spaces; spaces around it are dropped.",
    }


def schemas(password_min_length: int) -> dict[str, Schema]:
    """The document's schemas by name."""
    given: dict[str, Schema] = {
        "first_name": _name("First name"),
        "last_name": _name("Last name"),
        "email": {
            "type": "string",
            "format": "email",
            "maxLength": MAX_EMAIL,
            "description": "An address that mail can be sent to. It is kept in lower case.",
        },
        "password": {
            "type": "string",
            "format": "password",
            "minLength": password_min_length,
            "maxLength": MAX_PASSWORD,
            "pattern": whole(TEXT),
            "description": "No control characters; anything else, spaces too. Not a password that is common, or made of the "
            "names or the address.",
        },
    }
    moment: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339 in UTC."}
    sign_up = _object({name: given[name] for name in NAMES}, description="Whom to sign up.", examples=[EXAMPLE])
    return {
        "SignUp": sign_up,
        "Change": _object(
            {name: given[name] for name in CHANGEABLE},
            optional=CHANGEABLE,
            minProperties=1,
            description="What to change; the rest stays.",
            examples=[{"last_name": EXAMPLE["last_name"]}],
        ),
        "Address": _object({"email": given["email"]}, description="Whom to mail.", examples=[{"email": EXAMPLE["email"]}]),
        "Token": _object({"token": TOKEN_TEXT}, additionalProperties=True, description="What was mailed."),
        "Resent": _object(
            {
                "detail": {"type": "string"},
                "mail": _object(
                    {
                        "status": {"type": "string", "enum": ["queued", "published", "accepted", "delivered", "bounced"]},
                        "at": moment,
                        "reason": {"type": "string", "description": "Of the receiving server."},
                    },
                    optional=("reason",),
                    description="The last mail before this one; only where the account's password was sent.",
                ),
            },
            optional=("mail",),
            description="A sentence for people, and what its owner may know.",
        ),
        "User": _object(
            {
                "id": {"type": "string", "format": "uuid", "description": "UUID version 7 (RFC 9562)."},
                "first_name": {"type": "string"},
                "last_name": {"type": "string"},
                "email": {"type": "string", "format": "email", "maxLength": MAX_EMAIL},
                "account_created": moment,
                "account_updated": moment,
                "verified": {"type": "boolean", "description": "Whether the address was confirmed."},
            },
            description="An account. No answer holds its password.",
        ),
        "Picture": _object(
            {
                "content_type": {"type": "string", "enum": [PNG.content_type, JPEG.content_type]},
                "size": {"type": "integer", "minimum": 1, "maximum": MAX_PICTURE, "description": "In bytes."},
                "created": moment,
            },
            description="What is kept of a picture.",
        ),
        "Problem": _object(
            {
                "type": {"type": "string", "const": "about:blank"},
                "title": {"type": "string", "description": "The status in words."},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "description": "A sentence for people."},
                "errors": {"type": "array", "minItems": 1, "items": named("FieldError")},
                "request_id": REQUEST_ID,
            },
            optional=("errors",),
            description="What went wrong (RFC 9457).",
        ),
        "FieldError": _object(
            {
                "field": {"type": "string", "description": "The field's name; empty for the body as a whole."},
                "detail": {"type": "string", "minLength": 1},
            },
            description="What is wrong with one field.",
        ),
        "Status": _object(
            {
                "status": {"type": "string", "enum": ["live", "ready", "healthy"]},
                "database": {"type": "string", "const": "reachable"},
                "schema": {"type": "string", "description": "The newest migration that was run."},
            },
            optional=("database", "schema"),
            description="A health check that passed.",
        ),
    }
