"""CloudWatch alarms as records: created without data, composite ones too, with a history. The loop `Alarms` evaluates them.

moto creates alarms in the state OK, has no composite ones, keeps no history to ask for, and evaluates nothing.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from moto.cloudwatch import models, responses
from moto.cloudwatch.exceptions import InvalidFormat, InvalidParameterValue, ResourceNotFound, ValidationError
from moto.core.responses import ActionResult, EmptyResult

from twin.region import alarm_messages
from twin.region.alarm_checks import check_actions, check_metric_alarm, check_rule
from twin.region.alarm_rules import children
from twin.region.patch import add, replace, wrap
from twin.region.region import Region
from twin.region.timestamps import epoch, moment

STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")
_HISTORY_KEPT = 500  # entries an alarm; AWS keeps 30 days
_PAGE = 50  # alarms or history entries in one answer
# Parameters that AWS knows and the twin does not; what they ask for must not be dropped in silence.
_UNSUPPORTED = (
    *("EvaluationCriteria", "EvaluationInterval", "EvaluationWindow", "WarmUpConfiguration", "ActionConfiguration"),
    *("ActionsSuppressor", "ThresholdMetricId"),
)


@dataclass
class Notice:
    """A change of state whose actions have still to be carried out."""

    state: str
    subject: str
    message: str


@dataclass
class HistoryItem:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_AlarmHistoryItem.html"""

    alarm_name: str
    alarm_type: str
    timestamp: Any
    history_item_type: str
    history_summary: str
    history_data: str


def history(alarm: Any) -> deque[HistoryItem]:
    """What happened to the alarm, newest first."""
    if not hasattr(alarm, "history_items"):
        alarm.history_items = deque(maxlen=_HISTORY_KEPT)
    kept: deque[HistoryItem] = alarm.history_items
    return kept


def outbox(alarm: Any) -> list[Notice]:
    """Changes whose actions the loop has still to carry out."""
    if not hasattr(alarm, "outbox"):
        alarm.outbox = []
    kept: list[Notice] = alarm.outbox
    return kept


def remember(alarm: Any, kind: str, summary: str, data: dict[str, Any], at: float) -> None:
    type_ = "MetricAlarm" if alarm.rule is None else "CompositeAlarm"
    history(alarm).appendleft(HistoryItem(alarm.name, type_, moment(at), kind, summary, json.dumps({"version": "1.0", **data})))


def set_state(region: Region, alarm: Any, state: str, reason: str, data: str, at: float) -> None:
    """Move an alarm to a state: its history, EventBridge's event, and the notice for its actions."""
    previous = alarm_messages.state_of(alarm)
    old = alarm.state_value
    alarm.state_value, alarm.state_reason, alarm.state_reason_data = state, reason, data
    alarm.state_updated_timestamp = moment(at)
    if state == old:
        return
    alarm.state_transitioned_timestamp = moment(at)
    changed = {"oldState": _brief(previous), "newState": _brief(alarm_messages.state_of(alarm))}
    remember(alarm, "StateUpdate", f"Alarm updated from {old} to {state}", changed, at)
    text = alarm_messages.message(alarm, region.settings.account_id, old)
    outbox(alarm).append(Notice(state, alarm_messages.subject(alarm), text))
    detail = alarm_messages.event_detail(alarm, previous)
    region.emit("aws.cloudwatch", "CloudWatch Alarm State Change", [alarm.alarm_arn], detail)
    region.wake("Alarms")


def _brief(state: dict[str, Any]) -> dict[str, Any]:
    found = {"stateValue": state["value"], "stateReason": state["reason"]}
    if "reasonData" in state:
        found["stateReasonData"] = json.loads(state["reasonData"])
    return found


def put_alarm(backend: Any, parameters: dict[str, Any], original: Any) -> Any:
    """Create or replace an alarm; what is replaced keeps its state and its history."""
    before = backend.alarms.get(parameters["name"])
    now = time.time()
    alarm = original(backend, **parameters)
    # One statistic is what moto gives an alarm that has none; AWS shows none.
    alarm.history = []  # moto's own, which nothing reads and nothing bounds
    if before is None:
        alarm.state_value, alarm.state_reason, alarm.state_reason_data = (
            "INSUFFICIENT_DATA",
            "Unchecked: Initial alarm creation",
            "",
        )
        alarm.state_updated_timestamp = alarm.state_transitioned_timestamp = moment(now)
        remember(alarm, "ConfigurationUpdate", f'Alarm "{alarm.name}" created', {"type": "Create"}, now)
        return alarm
    kept = ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "state_transitioned_timestamp")
    for name in (*kept, "history_items", "outbox", "recent_values", "repeated_at"):
        if hasattr(before, name):
            setattr(alarm, name, getattr(before, name))
    remember(alarm, "ConfigurationUpdate", f'Alarm "{alarm.name}" updated', {"type": "Update"}, now)
    return alarm


def install(region: Region) -> None:
    _install_writing(region)
    _install_states(region)
    _install_reading()


def _install_writing(region: Region) -> None:
    @wrap(responses.CloudWatchResponse, "put_metric_alarm")
    def answer_put_metric_alarm(original: Any, self: Any) -> Any:
        _refuse_unsupported(self)
        return original(self)

    @wrap(models.CloudWatchBackend, "put_metric_alarm")
    def put_metric_alarm(original: Any, self: Any, **parameters: Any) -> Any:
        if parameters.get("rule") is None:
            check_metric_alarm(parameters)
        alarm = put_alarm(self, parameters, original)
        region.wake("Alarms")
        return alarm

    @add(responses.CloudWatchResponse, "put_composite_alarm")
    def put_composite_alarm(self: Any) -> Any:
        _refuse_unsupported(self)
        backend, name, rule = self.cloudwatch_backend, self._get_param("AlarmName"), self._get_param("AlarmRule")
        check_rule(backend.alarms, name, rule)
        actions = {
            attribute: list(self._get_param(parameter) or [])
            for attribute, parameter in (
                ("alarm_actions", "AlarmActions"),
                ("ok_actions", "OKActions"),
                ("insufficient_data_actions", "InsufficientDataActions"),
            )
        }
        check_actions([arn for found in actions.values() for arn in found], composite=True)
        enabled = self._get_param("ActionsEnabled")
        none = dict.fromkeys(("namespace", "metric_name", "comparison_operator", "evaluation_periods", "period", "threshold"))
        backend.put_metric_alarm(
            name=name,
            rule=rule,
            description=self._get_param("AlarmDescription"),
            dimensions=[],
            statistic=None,
            actions_enabled=True if enabled is None else enabled,
            tags=self._get_param("Tags") or [],
            **none,
            **actions,
        )
        return EmptyResult()

    @wrap(models.CloudWatchBackend, "delete_alarms")
    def delete_alarms(original: Any, self: Any, alarm_names: list[str]) -> None:
        for name in alarm_names:
            parents = [each.name for each in self.alarms.values() if each.rule is not None and name in children(each.rule)]
            if name in self.alarms and set(parents) - set(alarm_names):
                raise ValidationError(f"Cannot delete {name} as there are composite alarm(s) depending on it.")
        original(self, alarm_names)


def _refuse_unsupported(response: Any) -> None:
    for name in _UNSUPPORTED:
        if response._get_param(name):
            raise ValidationError(f"The parameter {name} is not supported by the twin.")


def _install_states(region: Region) -> None:
    @replace(models.CloudWatchBackend, "set_alarm_state")
    def set_alarm_state(self: Any, alarm_name: str, reason: str, reason_data: str | None, state_value: str) -> None:
        """Holds until the next evaluation; actions are carried out."""
        if reason_data is not None:
            try:
                json.loads(reason_data)
            except ValueError:
                raise InvalidFormat("StateReasonData is not valid JSON") from None
        if alarm_name not in self.alarms:
            raise ResourceNotFound(f"Alarm {alarm_name} does not exist")
        if state_value not in STATES:
            raise ValidationError(
                f"1 validation error detected: Value '{state_value}' at 'stateValue' failed to satisfy constraint: "
                "Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]"
            )
        set_state(region, self.alarms[alarm_name], state_value, reason, reason_data or "", time.time())


def _install_reading() -> None:
    @replace(responses.CloudWatchResponse, "describe_alarms")
    def describe_alarms(self: Any) -> Any:
        alarms = list(self.cloudwatch_backend.alarms.values())
        # Without AlarmTypes, AWS shows metric alarms only.
        types = self._get_param("AlarmTypes") or ["MetricAlarm"]
        alarms = [alarm for alarm in alarms if ("MetricAlarm" if alarm.rule is None else "CompositeAlarm") in types]
        if names := self._get_param("AlarmNames"):
            alarms = [alarm for alarm in alarms if alarm.name in names]
        if prefix := self._get_param("AlarmNamePrefix"):
            alarms = [alarm for alarm in alarms if alarm.name.startswith(prefix)]
        if state := self._get_param("StateValue"):
            alarms = [alarm for alarm in alarms if alarm.state_value == state]
        if prefix := self._get_param("ActionPrefix"):
            alarms = [alarm for alarm in alarms if any(arn.startswith(prefix) for arn in alarm.alarm_actions)]
        if parent := self._get_param("ChildrenOfAlarmName"):
            rule = getattr(self.cloudwatch_backend.alarms.get(parent), "rule", None) or ""
            alarms = [alarm for alarm in alarms if alarm.name in children(rule)]
        if child := self._get_param("ParentsOfAlarmName"):
            alarms = [alarm for alarm in alarms if alarm.rule is not None and child in children(alarm.rule)]
        page, token = _page(self, sorted(alarms, key=lambda alarm: alarm.name), "MaxRecords")
        metric = [alarm for alarm in page if alarm.rule is None]
        composite = [alarm for alarm in page if alarm.rule is not None]
        return ActionResult({"MetricAlarms": metric, "CompositeAlarms": composite, "NextToken": token})

    @add(responses.CloudWatchResponse, "describe_alarm_history")
    def describe_alarm_history(self: Any) -> Any:
        name, types = self._get_param("AlarmName"), self._get_param("AlarmTypes") or ["MetricAlarm"]
        alarms = [alarm for alarm in self.cloudwatch_backend.alarms.values() if not name or alarm.name == name]
        items = [item for alarm in alarms for item in history(alarm) if item.alarm_type in types]
        if kind := self._get_param("HistoryItemType"):
            items = [item for item in items if item.history_item_type == kind]
        for parameter, sign in (("StartDate", 1), ("EndDate", -1)):
            if limit := self._get_param(parameter):
                items = [item for item in items if sign * (epoch(item.timestamp) - epoch(limit)) >= 0]
        items.sort(key=lambda item: item.timestamp, reverse=self._get_param("ScanBy") != "TimestampAscending")
        page, token = _page(self, items, "MaxRecords")
        return ActionResult({"AlarmHistoryItems": page, "NextToken": token})


def _page(response: Any, found: list[Any], limit: str) -> tuple[list[Any], str | None]:
    token = response._get_param("NextToken")
    if token and not str(token).isdigit():
        raise InvalidParameterValue("Request parameter NextToken is invalid")
    start, size = int(token or 0), int(response._get_param(limit) or _PAGE)
    return found[start : start + size], str(start + size) if len(found) > start + size else None
