"""The schema of published messages, read by our few lines and by a validator of the whole language."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from signup.ids import utc_now, uuid7
from signup.outbox import contract
from signup.outbox.message import verification_message

FULL = jsonschema.Draft202012Validator(contract.SCHEMA)
FIT: dict[str, Any] = verification_message(uuid7(), uuid7(), "ada@example.com", "req-1", utc_now())  # type: ignore[assignment]
VALUES = (
    some.none() | some.booleans() | some.integers(-1, 2) | some.just(1.0) | some.text() | some.text("a@.\n") | some.just({})
    | some.sampled_from(list(FIT.values()))
    | some.from_regex(contract.SCHEMA["properties"]["email"]["pattern"].removesuffix("(?!\\n)"))
)  # fmt: skip


@given(some.dictionaries(some.sampled_from([*FIT, "other"]), VALUES), some.sets(some.sampled_from([*FIT])))
@settings(max_examples=200, deadline=None, database=None)
def test_both_find_the_same_problems(changes: dict[str, Any], left_out: set[str]) -> None:
    message = {name: value for name, value in {**FIT, **changes}.items() if name not in left_out}
    theirs = {f"{error.json_path} fails '{error.validator}'" for error in FULL.iter_errors(message)}
    assert set(contract._problems(contract.SCHEMA, message, "$")) == theirs


def test_what_fits_is_published_as_it_is() -> None:
    assert json.loads(contract.check(FIT)) == FIT
    with pytest.raises(contract.MessageUnfit, match=r"\$\.email fails 'pattern'") as caught:
        contract.check({**FIT, "email": "secret@example.com\n"})
    assert "secret" not in str(caught.value)


def test_an_oversize_message_is_unfit() -> None:
    with pytest.raises(contract.MessageUnfit, match="longer than 8192 bytes"):
        contract.check({**FIT, "other": "x" * 8192})


def test_a_keyword_that_is_not_checked_fails_at_once() -> None:
    with pytest.raises(ValueError, match="minLength"):
        contract._known({"type": "object", "properties": {"email": {"type": "string", "minLength": 3}}})
