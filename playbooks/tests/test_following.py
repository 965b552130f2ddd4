"""How a refresh is followed when AWS does not answer: with answers made up, since no network is lost on purpose here."""

from __future__ import annotations

from typing import Any

import botocore.exceptions as botocore
import pytest
from test_filters import load

plugin = load("instance_refresh", "action_plugins")
view = load("refresh_view", "module_utils")

AWAY = {"failed": True, "lost": "connection", "msg": "Could not connect"}


def state(status: str, percentage: int = 0) -> dict[str, Any]:
    refresh = {"status": status, "percentage_complete": percentage, "instance_refresh_id": "r-1", "elapsed_seconds": 65}
    return {"changed": False, "active": status == "InProgress", "refresh": refresh, "zones": {"a": {"old": 1, "new": 2}}}


def follow(
    answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, patience: float = 5, asked: str = "started"
) -> tuple[dict[str, Any], list[str]]:
    """What a task returns, and shows, when its looks are answered so, the last answer for ever."""
    shown: list[str] = []
    monkeypatch.setattr(plugin.display, "display", shown.append)
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action.asked = {"name": "fleet", "state": asked, "poll_seconds": 0.01, "patience_seconds": patience}
    action.task_vars = {}
    rest = iter(answers[1:])
    monkeypatch.setattr(action, "_look", lambda arguments, task_vars: next(rest, answers[-1]))
    return action._follow(answers[0]), shown


def test_a_lost_network_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, shown = follow([state("InProgress"), AWAY, AWAY, state("InProgress"), state("Successful", 100)], monkeypatch)
    assert not ended.get("failed")
    assert ended["msg"] == "Successful after 65 s."
    assert shown == [
        "  1:05  InProgress 0 %  a 1 old, 2 new",
        "       no answer from AWS; the refresh goes on there, and is asked for again",
        "  1:05  InProgress 0 %  a 1 old, 2 new",
        "  1:05  Successful 100 %  a 1 old, 2 new",
    ]


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _ = follow([state("InProgress"), AWAY], monkeypatch, patience=0.1)
    assert ended["failed"]
    assert "AWS does not answer, so refresh r-1 can't be followed. It goes on by itself" in ended["msg"]
    assert "Could not connect" in ended["msg"]


def test_what_can_not_pass_by_itself_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = {"failed": True, "lost": "", "msg": "AccessDenied"}
    ended, _ = follow([state("InProgress"), denied], monkeypatch, patience=3600)
    assert "AWS refuses to say how far it is" in ended["msg"]


def test_what_was_not_asked_for_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow([state("Cancelled")], monkeypatch)[0]["failed"]
    assert follow([state("RollbackSuccessful")], monkeypatch)[0]["failed"]
    assert not follow([state("RollbackSuccessful")], monkeypatch, asked="rolled_back")[0].get("failed")
    assert follow([state("RollbackFailed")], monkeypatch, asked="rolled_back")[0]["failed"]


def test_a_release_whose_instances_fail_is_taken_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin.display, "display", lambda words: None)
    asked: list[dict[str, Any]] = []
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action.asked = {"name": "fleet", "state": "started", "poll_seconds": 0.01, "failures_allowed": 1}
    action.task_vars = {}
    failing = [state("InProgress") | {"failed_replacements": ["i-1", "i-2", "i-3"][:count]} for count in (0, 1, 2, 3)]
    answers = iter([*failing[1:3], {}, failing[3], state("RollbackInProgress"), *[state("RollbackSuccessful")] * 2])

    def look(arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        asked.append(arguments)
        return next(answers)

    monkeypatch.setattr(action, "_look", look)
    ended = action._follow(failing[0])
    assert ended["failed"]
    assert "rolling back: 2 of the new instances failed their health checks (i-1, i-2)" in ended["msg"]
    assert [each.get("state") for each in asked].count("rolled_back") == 1


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (botocore.EndpointConnectionError(endpoint_url="http://a"), "connection"),
        (botocore.ConnectTimeoutError(endpoint_url="http://a"), "connection"),
        (botocore.ReadTimeoutError(endpoint_url="http://a"), "connection"),
        (botocore.NoCredentialsError(), "credentials"),
        (botocore.ClientError({"Error": {"Code": "ExpiredToken"}}, "a"), "credentials"),
        (botocore.ClientError({"Error": {"Code": "Throttling"}}, "a"), "connection"),
        (
            botocore.ClientError({"Error": {"Code": "InternalFailure"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "a"),
            "connection",
        ),
        (botocore.ClientError({"Error": {"Code": "AccessDenied"}}, "a"), ""),
        (ValueError("a"), ""),
    ],
    ids=lambda value: getattr(value, "__class__", type(value)).__name__,
)
def test_what_a_failure_has_lost(error: Exception, lost: str) -> None:
    assert view.lost(error) == lost
