"""The message that asks for a verification mail."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = json.loads((Path(__file__).parent / "message.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MAX_BYTES: int = SCHEMA["x-maxBytes"]
VERSION = SCHEMA["properties"]["version"]["const"]


class MessageInvalidError(Exception):
    """The message doesn't fit the schema; the text names the members, never their values.

    `kind` says in one word what is wrong: oversize, malformed or version.
    """

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


@dataclass(frozen=True)
class Message:
    """A valid message, version 1."""

    message_id: str
    user_id: str
    email: str = field(repr=False)
    locale: str
    request_id: str
    occurred_at: datetime


def parse(body: str) -> Message:
    """Parse and validate the body of an SNS message; raises MessageInvalidError."""
    if len(body) > MAX_BYTES or len(body.encode(errors="replace")) > MAX_BYTES:
        raise MessageInvalidError("oversize", f"the message is longer than {MAX_BYTES} bytes")
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise MessageInvalidError("malformed", "the message is not JSON") from None
    problems = sorted(f"{error.json_path} fails '{error.validator}'" for error in VALIDATOR.iter_errors(content))
    if problems:
        version = content.get("version") if isinstance(content, dict) else None
        kind = "version" if isinstance(version, int) and version != VERSION else "malformed"
        raise MessageInvalidError(kind, f"the message does not fit message.schema.json: {', '.join(problems[:10])}")
    return Message(
        message_id=content["message_id"],
        user_id=content["user_id"],
        email=content["email"],
        locale=content["locale"],
        request_id=content["request_id"],
        occurred_at=_time(content["occurred_at"]),
    )


def _time(text: str) -> datetime:
    """A time that the schema's pattern let through; the 31st of February is none."""
    try:
        whole = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise MessageInvalidError("malformed", "$.occurred_at is no time") from None
    return whole.replace(microsecond=int(text[20:-1].ljust(6, "0")[:6])) if "." in text else whole
