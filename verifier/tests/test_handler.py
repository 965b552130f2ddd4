"""The function, from the SNS event to the mail."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from verifier.message import MessageInvalidError
from verifier.sendgrid_client import MailRefusedError, MailUndeliveredError
from verifier.settings import SettingsError

Function = Callable[..., dict[str, int]]
Items = Callable[[], list[dict[str, Any]]]


def token_in(mail: dict[str, Any]) -> str:
    found = re.search(r"http://signup\.example\.com/verify\?token=([\w-]+)\n", mail["content"][0]["value"])
    assert found is not None
    return found[1]


def test_sends_a_link_and_stores_only_the_tokens_hash(
    function: Function, sendgrid: Any, items: Items, request_message: dict[str, Any]
) -> None:
    before = int(time.time())
    assert function(request_message) == {"sent": 1}
    ((path, headers, mail),) = sendgrid.requests
    assert path == "/v3/mail/send"
    assert headers["Authorization"] == "Bearer SG.testing-key"
    assert mail["personalizations"] == [{"to": [{"email": "ada@example.com"}]}]
    assert mail["from"] == {"email": "hello@example.com", "name": "Evenkeel"}
    assert mail["custom_args"] == {"message_id": request_message["message_id"]}
    assert [part["type"] for part in mail["content"]] == ["text/plain", "text/html"]
    assert mail["tracking_settings"]["click_tracking"] == {"enable": False, "enable_text": False}
    token = token_in(mail)
    assert len(token) == 43
    assert f'href="http://signup.example.com/verify?token={token}"' in mail["content"][1]["value"]
    (item,) = items()
    assert item["token_hash"]["S"] == hashlib.sha256(token.encode()).hexdigest()
    assert item["user_id"]["S"] == request_message["user_id"]
    assert item["message_id"]["S"] == request_message["message_id"]
    assert before + 600 <= int(item["expires_at"]["N"]) <= time.time() + 600
    assert token not in json.dumps(item)


def test_tokens_differ(function: Function, sendgrid: Any, request_message: dict[str, Any]) -> None:
    assert function(request_message, request_message) == {"sent": 2}
    assert len({token_in(mail) for mail in sendgrid.mails}) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_and_failing_is_raised_for_a_retry(
    function: Function, sendgrid: Any, request_message: dict[str, Any], status: int
) -> None:
    sendgrid.status = status
    with pytest.raises(MailUndeliveredError, match=str(status)):
        function(request_message)
    sendgrid.status = 202
    assert function(request_message) == {"sent": 1}


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_refusals_are_told_apart(function: Function, sendgrid: Any, request_message: dict[str, Any], status: int) -> None:
    sendgrid.status = status
    with pytest.raises(MailRefusedError) as caught:
        function(request_message)
    assert caught.value.status == status
    assert caught.value.__suppress_context__
    assert "ada@example.com" not in str(caught.value)


def test_the_timeout_reaches_the_socket(function: Function, sendgrid: Any, request_message: dict[str, Any]) -> None:
    sendgrid.hangs = True
    started = time.monotonic()
    with pytest.raises(MailUndeliveredError, match="TimeoutError"):
        function(request_message)
    assert 0.4 < time.monotonic() - started < 3
    assert len(sendgrid.requests) == 1


def test_out_of_reach_is_raised_for_a_retry(
    function: Function, sendgrid: Any, request_message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sendgrid.close()
    with pytest.raises(MailUndeliveredError, match="ConnectionRefusedError"):
        function(request_message)


def test_a_replaced_key_is_read_after_a_refusal(
    function: Function, sendgrid: Any, secret: str, request_message: dict[str, Any]
) -> None:
    function(request_message)
    boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString="SG.replaced")
    sendgrid.status = 401
    with pytest.raises(MailRefusedError):
        function(request_message)
    sendgrid.status = 202
    function(request_message)
    keys = [headers["Authorization"].removeprefix("Bearer ") for _, headers, _ in sendgrid.requests]
    assert keys == ["SG.testing-key", "SG.testing-key", "SG.replaced"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"email": "ada@example.com\nBcc: eve@example.com"},
        {"email": "Ada <ada@example.com>"},
        {"email": 1},
        {"user_id": "1"},
        {"message_id": None},
        {"request_id": "a b"},
        {"occurred_at": "yesterday"},
        {"locale": "../en"},
    ],
)
def test_a_message_that_does_not_fit_is_refused_without_quoting_it(
    function: Function, sendgrid: Any, items: Items, request_message: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(MessageInvalidError, match=rf"\$\.{next(iter(change))} fails") as caught:
        function({**request_message, **change})
    assert "ada@example.com" not in str(caught.value)
    assert sendgrid.requests == items() == []


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "[" * 100_000])
def test_bodies_that_are_no_messages(function: Function, body: str) -> None:
    with pytest.raises(MessageInvalidError):
        function(body)


def test_unknown_members_are_ignored(function: Function, request_message: dict[str, Any]) -> None:
    assert function({**request_message, "added_later": {"x": 1}}) == {"sent": 1}


def test_a_missing_table_sends_no_mail(
    function: Function, sendgrid: Any, request_message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFIER_TOKEN_TABLE", "no-such-table")
    with pytest.raises(ClientError):
        function(request_message)
    assert sendgrid.requests == []


def test_wrong_settings_fail_the_invocation(
    function: Function, request_message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VERIFIER_TOKEN_TABLE")
    with pytest.raises(SettingsError, match="VERIFIER_TOKEN_TABLE is not set"):
        function(request_message)


def test_logs_name_the_message_and_nothing_secret(
    function: Function, sendgrid: Any, request_message: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("verifier")
    log.handlers.clear()
    function(request_message)
    sendgrid.status = 400
    with pytest.raises(MailRefusedError):
        function(request_message)
    log.handlers.clear()
    output = capsys.readouterr().out
    sent, failed = (json.loads(line) for line in output.splitlines())
    for line in (sent, failed):
        assert line["message_id"] == request_message["message_id"]
        assert line["request_id"] == "req-1"
    assert (failed["level"], failed["error"]) == ("error", "MailRefusedError")
    for secret in ("ada@example.com", "SG.testing-key", *(token_in(mail) for mail in sendgrid.mails)):
        assert secret not in output
