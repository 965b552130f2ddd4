"""The answers that operations have in common."""

from __future__ import annotations

from typing import Any

from signup.reference.schemas import PAGE, REQUEST_ID, named

Answer = dict[str, Any]

_EVERY = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}

HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The request's id: the one it was sent with, or a new one. Quote it when you report a problem.",
        "required": True,
        "schema": REQUEST_ID,
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to authenticate (RFC 7617).", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "Where to go on.", "required": True, "schema": {"type": "string"}},
}

PROBLEMS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("The request can't be understood.", ()),
    401: ("No credentials, or wrong ones.", ("WWW-Authenticate",)),
    403: ("The account's address is not verified yet.", ()),
    404: ("The token is unknown or has expired.", ()),
    408: ("The body came too slowly.", ()),
    413: ("The body is too large.", ()),
    415: ("The body's content type is another one.", ()),
    422: ("Some fields can't be accepted; `errors` names each.", ()),
    429: ("Too many requests of this kind, where limits are set.", ("Retry-After",)),
    503: ("Busy, or a service behind this one is away: try again.", ("Retry-After",)),
}


def answer(description: str, content: dict[str, Any], headers: tuple[str, ...] = ()) -> Answer:
    """An answer with these media types, each with its schema, and with these headers beside those that all have."""
    return {
        "description": description,
        "headers": {**_EVERY, **{name: {"$ref": f"#/components/headers/{name}"} for name in headers}},
        "content": {kind: {"schema": schema} for kind, schema in content.items()},
    }


def json(description: str, schema: str) -> Answer:
    """An answer in JSON."""
    return answer(description, {"application/json": named(schema)})


def page(description: str) -> Answer:
    """An answer in HTML."""
    return answer(description, {"text/html": PAGE})


def problems(*statuses: int, pages: bool = False, told: dict[int, str] | None = None) -> dict[str, Answer]:
    """Error answers by status; `pages`: as a page too, for a browser. `told` describes some in other words."""
    content = {"application/problem+json": named("Problem"), **({"text/html": PAGE} if pages else {})}
    words = {status: description for status, (description, _) in PROBLEMS.items()} | (told or {})
    return {str(status): answer(words[status], content, PROBLEMS[status][1]) for status in statuses}
