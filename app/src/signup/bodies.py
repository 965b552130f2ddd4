"""Reading request bodies, and answering without one."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from signup.problems import FieldError, InvalidFields, Problem


def json_object() -> dict[str, Any]:
    """The request's body, which must be a JSON object. Raises Problem or InvalidFields."""
    if request.mimetype != "application/json":
        raise Problem(415, "Send JSON with Content-Type: application/json.")
    body = from_json(whole())
    if not isinstance(body, dict):
        raise InvalidFields([FieldError("", "The body must be a JSON object.")])
    return body


def from_json(data: bytes) -> Any:
    """What a body says in JSON. Raises Problem."""
    try:
        return json.loads(data.decode())  # bytes could be UTF-16 too
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not well-formed JSON in UTF-8.") from None


def whole(limit: int | None = None) -> bytes:
    """The whole of the request's body. Raises RequestEntityTooLarge beyond `limit` bytes, by default the application's."""
    if limit is not None:
        request.max_content_length = limit
    data = request.get_data()
    # A body sent in chunks has no length to refuse it by; werkzeug stops reading at the limit without a word.
    if request.content_length is None and len(data) >= (request.max_content_length or 0):
        raise RequestEntityTooLarge
    return data


def no_content() -> Response:
    """204 without the type that Flask would give to the body that isn't there."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
