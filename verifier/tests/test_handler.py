"""The function, from the SNS event to the mail."""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from conftest import Function, Items
from stand_ins import SendGrid

from verifier import handler
from verifier.api_key import ApiKeyMissingError
from verifier.handler import MailFailedError
from verifier.sendgrid_client import MailUndeliveredError
from verifier.settings import SettingsError

SENT_ONE = {"sent": 1, "duplicate": 0, "refused": 0}
Message = dict[str, Any]


def token_in(mail: dict[str, Any]) -> str:
    found = re.search(r"http://signup\.example\.com/verify\?token=([\w-]+)\n", mail["content"][0]["value"])
    assert found is not None
    return found[1]


def numbered(request_message: Message, count: int) -> list[Message]:
    return [{**request_message, "message_id": f"019a0000-0000-7000-8000-0000000001{n:02}"} for n in range(count)]


def test_sends_a_link_and_stores_only_the_tokens_hash(
    function: Function, sendgrid: SendGrid, items: Items, request_message: Message
) -> None:
    before = int(time.time())
    assert function(request_message) == SENT_ONE
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


def test_a_links_life_counts_from_the_send_and_not_from_the_signup(
    function: Function, items: Items, request_message: Message
) -> None:
    long_ago = f"{datetime.now(UTC) - timedelta(days=13):%Y-%m-%dT%H:%M:%SZ}"
    assert function({**request_message, "occurred_at": long_ago}) == SENT_ONE
    (item,) = items()
    assert int(item["expires_at"]["N"]) > time.time() + 590


def test_tokens_differ(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    assert function(*numbered(request_message, 2)) == {**SENT_ONE, "sent": 2}
    assert len({token_in(mail) for mail in sendgrid.mails}) == 2


def test_a_message_that_comes_again_sends_no_second_mail(
    function: Function, sendgrid: SendGrid, records: Items, request_message: Message
) -> None:
    assert function(request_message, request_message) == {"sent": 1, "duplicate": 1, "refused": 0}
    handler.services.cache_clear()  # another execution environment
    assert function(request_message) == {"sent": 0, "duplicate": 1, "refused": 0}
    assert len(sendgrid.requests) == 1
    (record,) = records()
    assert record["id"]["S"] == "mail#" + hashlib.sha256(json.dumps(request_message["message_id"]).encode()).hexdigest()
    assert record["status"]["S"] == "COMPLETED"
    assert int(record["expiration"]["N"]) > time.time() + 37 * 86400
    assert "ada@example.com" not in json.dumps(record)


def test_a_message_in_progress_is_locked_until_its_function_would_be_killed(
    function: Function, sendgrid: SendGrid, records: Items, request_message: Message
) -> None:
    seen: list[int] = []

    def meanwhile() -> None:
        (record,) = records()
        seen.append(int(record["in_progress_expiration"]["N"]))
        sendgrid.before = lambda: None
        with pytest.raises(MailFailedError, match="IdempotencyAlreadyInProgressError"):
            function(request_message)

    sendgrid.before = meanwhile
    now = 1000 * time.time()
    assert function(request_message, seconds=20) == SENT_ONE
    assert now + 15_000 < seen[0] <= now + 21_000
    assert len(sendgrid.requests) == 1


@pytest.mark.parametrize("status", [308, 408, 425, 429, 500, 503])
def test_busy_and_failing_is_raised_for_a_retry(
    function: Function, sendgrid: SendGrid, request_message: Message, status: int
) -> None:
    sendgrid.status = status
    with pytest.raises(MailUndeliveredError, match=str(status)):
        function(request_message)
    sendgrid.status = 202
    assert function(request_message) == SENT_ONE


def test_only_202_means_that_the_mail_was_taken(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    sendgrid.status, sendgrid.location = 302, f"{sendgrid.url}/welcome"
    with pytest.raises(MailUndeliveredError, match="200"):
        function(request_message)


def test_one_failing_message_does_not_keep_the_others(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    first, second, third = numbered(request_message, 3)
    sendgrid.statuses = [202, 500]
    with pytest.raises(MailUndeliveredError):
        function(first, second, "{", third)
    assert function(first, second, third) == {"sent": 1, "duplicate": 2, "refused": 0}


def test_the_timeout_reaches_the_socket(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    sendgrid.hangs = True
    started = time.monotonic()
    with pytest.raises(MailUndeliveredError, match="TimeoutError"):
        function(request_message)
    assert 0.4 < time.monotonic() - started < 3
    assert len(sendgrid.requests) == 1


def test_out_of_reach_is_raised_for_a_retry(function: Function, sendgrid: SendGrid, request_message: Message) -> None:
    sendgrid.close()
    with pytest.raises(MailUndeliveredError, match="ConnectionRefusedError"):
        function(request_message)


def test_a_replaced_key_is_read_at_once(function: Function, sendgrid: SendGrid, secret: str, request_message: Message) -> None:
    first, second, third = numbered(request_message, 3)
    function(first)
    boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString="SG.replaced")
    assert function(second) == SENT_ONE  # a key is kept for five minutes, and the old one still works
    sendgrid.statuses = [401]
    assert function(third) == SENT_ONE
    keys = [headers["Authorization"].removeprefix("Bearer ") for _, headers, _ in sendgrid.requests]
    assert keys == ["SG.testing-key", "SG.testing-key", "SG.testing-key", "SG.replaced"]


def test_an_empty_key_is_raised_for_a_retry(
    function: Function, sendgrid: SendGrid, secret: str, request_message: Message
) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=" ")
    with pytest.raises(ApiKeyMissingError):
        function(request_message)
    boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString="SG.stored-later")
    assert function(request_message) == SENT_ONE
    assert sendgrid.requests[0][1]["Authorization"] == "Bearer SG.stored-later"


@pytest.mark.parametrize("variable", ["VERIFIER_TOKEN_TABLE", "VERIFIER_IDEMPOTENCY_TABLE"])
def test_a_missing_table_sends_no_mail(
    function: Function, sendgrid: SendGrid, request_message: Message, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "no-such-table")
    with pytest.raises(MailFailedError, match="ResourceNotFoundException"):
        function(request_message)
    assert sendgrid.requests == []


def test_wrong_settings_fail_the_invocation(
    function: Function, request_message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VERIFIER_TOKEN_TABLE")
    with pytest.raises(SettingsError, match="VERIFIER_TOKEN_TABLE is not set"):
        function(request_message)
