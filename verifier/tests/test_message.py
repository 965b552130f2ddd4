"""What is a message, and what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from verifier.message import MessageInvalidError, parse


def test_a_message_is_read(request_message: dict[str, Any]) -> None:
    read = parse(json.dumps({**request_message, "occurred_at": "2026-02-28T23:59:59.1234567Z"}))
    assert (read.message_id, read.user_id) == (request_message["message_id"], request_message["user_id"])
    assert read.occurred_at == datetime(2026, 2, 28, 23, 59, 59, 123456, UTC)
    assert "ada@example.com" not in repr(read)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": 2}, "version"),
        ({"version": 0}, "version"),
        ({"version": None}, "malformed"),
        ({"email": "ada@example.com\nBcc: eve@example.com"}, "malformed"),
        ({"email": "ada@example.com\n"}, "malformed"),
        ({"email": "Ada <ada@example.com>"}, "malformed"),
        ({"email": f"{'a' * 250}@example.com"}, "malformed"),
        ({"email": 1}, "malformed"),
        ({"user_id": "1"}, "malformed"),
        ({"message_id": None}, "malformed"),
        ({"message_id": "019a0000-0000-7000-8000-000000000001\n"}, "malformed"),
        ({"request_id": "a b"}, "malformed"),
        ({"occurred_at": "yesterday"}, "malformed"),
        ({"occurred_at": "2026-02-31T00:00:00Z"}, "malformed"),
        ({"locale": "../en"}, "malformed"),
        ({"added_later": "x" * 8192}, "oversize"),
        ({"added_later": "\N{SNOWMAN}" * 2800}, "oversize"),
    ],
)
def test_what_does_not_fit_is_named_and_not_quoted(request_message: dict[str, Any], change: dict[str, Any], kind: str) -> None:
    with pytest.raises(MessageInvalidError) as caught:
        parse(json.dumps({**request_message, **change}, ensure_ascii=False))
    assert caught.value.kind == kind
    assert kind == "oversize" or f"$.{next(iter(change))} " in str(caught.value)
    assert "ada@example.com" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "true", "[" * 8000, '"\ud800"', '"\\ud800"'])
def test_bodies_that_are_no_messages(body: str) -> None:
    with pytest.raises(MessageInvalidError) as caught:
        parse(body)
    assert caught.value.kind == "malformed"
