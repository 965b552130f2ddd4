"""What the function says about itself."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Function
from stand_ins import SendGrid
from test_handler import token_in

from verifier.sendgrid_client import MailUndeliveredError
from verifier.telemetry import logger

Message = dict[str, Any]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that returns the lines said since the last call: logs, and metrics by name."""
    kept, logs = logger.handlers[0].stream, io.StringIO()
    logger.handlers[0].stream = logs

    def said() -> tuple[list[dict[str, Any]], dict[str, list[float]], str]:
        text = logs.getvalue() + capsys.readouterr().out
        logs.seek(logs.truncate(0))
        lines = [json.loads(line) for line in text.splitlines()]
        found: dict[str, list[float]] = {}
        for line in lines:
            for group in line.get("_aws", {}).get("CloudWatchMetrics", []):
                assert group["Namespace"] == "tests/verification"
                assert group["Dimensions"] == [["service"]]
                found |= {metric["Name"]: line[metric["Name"]] for metric in group["Metrics"]}
        return [line for line in lines if "_aws" not in line], found, text

    yield said
    logger.handlers[0].stream = kept


def test_metrics_count_what_became_of_messages(
    function: Function, sendgrid: SendGrid, request_message: Message, output: Any
) -> None:
    signed_up = f"{datetime.now(UTC) - timedelta(seconds=90):%Y-%m-%dT%H:%M:%S.123456789Z}"
    function({**request_message, "occurred_at": signed_up})
    _, found, _ = output()
    assert found["MailSent"] == [1]
    assert 88 < found["MailAge"][0] < 120
    function(request_message, "{")
    assert output()[1] == {"MailDuplicate": [1], "MailRefused": [1]}
    sendgrid.status = 500
    with pytest.raises(MailUndeliveredError):
        function({**request_message, "message_id": request_message["user_id"]})
    assert output()[1] == {"MailRetried": [1]}


def test_logs_name_the_message_and_nothing_secret(
    function: Function, sendgrid: SendGrid, request_message: Message, output: Any
) -> None:
    function(request_message)
    sendgrid.status = 400
    function({**request_message, "message_id": request_message["user_id"]})
    sendgrid.status = 503
    with pytest.raises(MailUndeliveredError):
        function({**request_message, "message_id": request_message["user_id"]})
    (sent, refused, failed), _, text = output()
    for line in (sent, refused, failed):
        assert line["request_id"] == "req-1"
        assert line["user_id"] == request_message["user_id"]
        assert line["function_request_id"] == "lambda-1"
        assert line["service"] == "verifier"
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    assert sent["message_id"] == request_message["message_id"]
    assert (sent["level"], sent["message"]) == ("INFO", "mail sent")
    assert (refused["level"], refused["refusal"]) == ("ERROR", "sendgrid-400")
    assert (failed["level"], failed["error"]) == ("ERROR", "MailUndeliveredError")
    for secret in ("ada@example.com", "SG.testing-key", *(token_in(mail) for mail in sendgrid.mails)):
        assert secret not in text
