"""What trying again won't help: kept in the queue of refused messages, and never raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Function, Items
from stand_ins import SendGrid

from verifier.handler import MailFailedError

Refused = Callable[[], list[dict[str, Any]]]
Message = dict[str, Any]
REFUSED_ONE = {"sent": 0, "duplicate": 0, "refused": 1}


def reason(entry: dict[str, Any]) -> str:
    return str(entry["MessageAttributes"]["Reason"]["StringValue"])


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_what_sendgrid_refuses_is_kept_and_not_raised(
    function: Function, sendgrid: SendGrid, refused: Refused, records: Items, request_message: Message, status: int
) -> None:
    sendgrid.status = status
    assert function(request_message) == REFUSED_ONE
    assert len(sendgrid.requests) == 1
    (entry,) = refused()
    assert reason(entry) == f"sendgrid-{status}"
    assert json.loads(json.loads(entry["Body"])["Message"]) == request_message
    # Nothing says that the message is done: replayed when the cause is mended, it is sent.
    assert records() == []
    sendgrid.status = 202
    assert function(json.loads(entry["Body"])["Message"])["sent"] == 1


def test_a_message_that_does_not_fit_is_kept_without_quoting_it(
    function: Function,
    sendgrid: SendGrid,
    items: Items,
    refused: Refused,
    request_message: Message,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes: list[Message] = [{"version": 2}, {"email": "ada@example.com\n"}, {"added_later": "x" * 8192}]
    bodies = [json.dumps({**request_message, **change}) for change in changes]
    assert function(*bodies, '"\ud800"') == {**REFUSED_ONE, "refused": 4}
    assert sendgrid.requests == items() == []
    kept = sorted((reason(entry), json.loads(entry["Body"])["Message"]) for entry in refused())
    expected = [("version", bodies[0]), ("malformed", bodies[1]), ("oversize", bodies[2][:8193]), ("malformed", '"\ud800"')]
    assert kept == sorted(expected)
    assert "ada@example.com" not in capsys.readouterr().out


def test_unknown_members_are_ignored(function: Function, request_message: Message) -> None:
    assert function({**request_message, "added_later": {"x": 1}})["sent"] == 1


def test_a_poisoned_message_blocks_no_other(
    function: Function, sendgrid: SendGrid, refused: Refused, request_message: Message
) -> None:
    assert function("{", request_message, "x" * 9000) == {"sent": 1, "duplicate": 0, "refused": 2}
    assert sorted(reason(entry) for entry in refused()) == ["malformed", "oversize"]


def test_what_can_not_be_kept_is_raised_for_a_retry(
    function: Function, refused_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFIER_REFUSED_QUEUE_URL", f"{refused_queue}-gone")
    # The library's own words may quote what they were given: they go into Lambda's log, and into the dead letter.
    with pytest.raises(MailFailedError, match=r"^\w+: [\w.]*NonExistentQueue$"):
        function("{")
