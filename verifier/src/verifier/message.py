"""The message that asks for a verification mail."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = json.loads((Path(__file__).parent / "message.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


class MessageInvalidError(Exception):
    """The message doesn't fit the schema; the text names the members, never their values."""


@dataclass(frozen=True)
class Message:
    """A valid message, version 1."""

    message_id: str
    user_id: str
    email: str = field(repr=False)
    locale: str
    request_id: str


def parse(body: str) -> Message:
    """Parse and validate the body of an SNS message; raises MessageInvalidError."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise MessageInvalidError("the message is not JSON") from None
    problems = sorted(f"{error.json_path} fails '{error.validator}'" for error in VALIDATOR.iter_errors(content))
    if problems:
        raise MessageInvalidError(f"the message does not fit message.schema.json: {', '.join(problems[:10])}")
    return Message(
        message_id=content["message_id"],
        user_id=content["user_id"],
        email=content["email"],
        locale=content["locale"],
        request_id=content["request_id"],
    )
