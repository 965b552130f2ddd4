"""What operations are made of."""

from __future__ import annotations

from typing import Any

from signup.reference.schemas import TOKEN_TEXT, named

Operation = dict[str, Any]
Operations = dict[tuple[str, str], Operation]

BASIC: list[dict[str, list[str]]] = [{"basic": []}]


def operation(tag: str, name: str, summary: str, description: str, answers: dict[str, Any], **more: Any) -> Operation:
    """An operation; `more` holds parameters, body and security, where it has any."""
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


def body(kind: str, schema: str) -> dict[str, Any]:
    """A body of this media type, which is required."""
    return {"required": True, "content": {kind: {"schema": named(schema)}}}


def token() -> dict[str, Any]:
    """The parameter of links in mails."""
    return {"name": "token", "in": "query", "required": True, "description": "The mailed token.", "schema": TOKEN_TEXT}
