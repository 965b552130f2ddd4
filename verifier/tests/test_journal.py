"""The steps of a mail's life, as the person on call reads them."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from conftest import Function, Items
from invocation import Context, event
from stand_ins import SendGrid

from verifier import handler
from verifier.sendgrid_client import MailUndeliveredError

Message = dict[str, Any]


def plain(item: dict[str, Any]) -> dict[str, str]:
    return {name: next(iter(value.values())) for name, value in item.items()}


def test_each_attempt_is_noted_with_what_came_of_it(
    function: Function, sendgrid: SendGrid, journal: Items, request_message: Message
) -> None:
    sendgrid.statuses = [503, 400]
    with pytest.raises(MailUndeliveredError):
        function(request_message)
    (failed,) = map(plain, journal())
    assert (failed["attempts"], failed["failure"]) == ("1", "SendGrid answered 503")
    assert "accepted_at" not in failed
    function(request_message)
    (refused,) = map(plain, journal())
    assert (refused["attempts"], refused["refusal"]) == ("2", "sendgrid-400")
    handler.handle(event(request_message, at="2026-02-01T12:00:00.000Z"), Context(30))  # replayed
    (sent,) = map(plain, journal())
    assert sent["attempts"] == "3"
    assert sent["message_id"] == request_message["message_id"]
    assert sent["user_id"] == request_message["user_id"]
    assert sent["request_id"] == "req-1"
    assert sent["recipient"] == hashlib.sha256(b"ada@example.com").hexdigest()
    assert sent["published_at"] == "2026-01-31T12:00:00.000Z"
    assert sent["queued_at"] < sent["failed_at"] < sent["refused_at"] < sent["accepted_at"]
    assert int(sent["expires_at"]) > time.time() + 37 * 86400
    assert "ada@example.com" not in json.dumps(sent)


def test_no_mail_waits_for_the_journal(
    function: Function, sendgrid: SendGrid, request_message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFIER_MAIL_TABLE", "no-such-table")
    assert function(request_message)["sent"] == 1
    assert len(sendgrid.mails) == 1


def test_an_address_that_can_not_be_noted_keeps_no_mail(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    """Half of a surrogate pair, which JSON can say and UTF-8 can't."""
    assert function({**request_message, "email": "\ud800@example.com"})["sent"] == 1
    assert len(sendgrid.mails) == 1
