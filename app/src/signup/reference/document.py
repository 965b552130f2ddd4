"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

import signup
from signup.reference.answers import HEADERS
from signup.reference.operations import TAGS, operations
from signup.reference.schemas import schemas

DESCRIPTION = """\
Errors are problem details (RFC 9457). Any operation may answer 500, if something is wrong on our side. A path that is not here
answers 404; a method that is not here, HEAD and OPTIONS too, answers 405 with `Allow`. What a page of another site makes a
browser send, other than GET, answers 403. Every answer has an `X-Request-Id`.\
"""


def build(password_min_length: int) -> dict[str, Any]:
    """The document of a service with these settings."""
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in operations().items():
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Evenkeel signup",
            "version": signup.__version__,
            "summary": "Sign up, confirm your address, and see your account.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(password_min_length),
            "headers": HEADERS,
            "parameters": {
                "X-Request-Id": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "required": False,
                    "description": "An id of your own. What is not fit for a header or a log is left out of it.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Address and password, in UTF-8 (RFC 7617)."}
            },
        },
    }
