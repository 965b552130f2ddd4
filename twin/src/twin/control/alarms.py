"""CloudWatch's evaluation of alarms, and what they set going: messages to topics, functions, scaling policies.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html
"""

from __future__ import annotations

import json
import logging
from typing import Any

from twin.control import policies
from twin.control.alarm_evaluation import Definition, Point, evaluate, evaluation_range, granularity
from twin.control.loop import WallClockLoop
from twin.region.alarm_messages import event_detail, queries_of, queries_period, state_of
from twin.region.alarm_rules import children, holds
from twin.region.cloudwatch_alarms import Notice, outbox, remember, set_state
from twin.region.metric_queries import aggregates, run
from twin.region.metric_store import is_percentile, store_of
from twin.region.timestamps import epoch, moment, stamp, zulu

log = logging.getLogger(__name__)

# How long after the end of a period it is evaluated: what is published at its end has come in by then.
_SETTLED = {60: 3.0, 10: 1.0}
_REPEAT = 60.0  # seconds between two calls of a scaling policy while the state lasts
# Who acts for an alarm, and what the resource's policy must allow:
# https://repost.aws/knowledge-center/cloudwatch-receive-sns-for-alarm-trigger
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
_ACTIONS = {
    "sns": ("cloudwatch.amazonaws.com", "sns:Publish"),
    "lambda": ("lambda.alarms.cloudwatch.amazonaws.com", "lambda:InvokeFunction"),
}
_DEPTH = 10  # composite alarms above one another


class Alarms(WallClockLoop):
    """Evaluates every alarm when a period has ended, composite ones whenever one of theirs has changed."""

    period = 1.0

    def tick(self) -> None:
        now = self.now()
        with self.region.records():
            policies.forget_orphans(self.region)
            backend = self.region.backend("cloudwatch")
            for alarm in list(backend.alarms.values()):  # what was set by request, before an evaluation changes it
                self._act(alarm, now)
            for alarm in list(backend.alarms.values()):
                if alarm.rule is None and self._due(alarm, now):
                    try:
                        self._evaluate(backend, alarm, now)
                    except Exception:
                        log.exception("alarm %s: this evaluation failed", alarm.name)
            for _ in range(_DEPTH):
                composite = [alarm for alarm in backend.alarms.values() if alarm.rule is not None]
                if not sum(self._compose(backend, alarm, now) for alarm in composite):
                    break
            for alarm in list(backend.alarms.values()):
                self._act(alarm, now)
                self._repeat(alarm, now)

    def _due(self, alarm: Any, now: float) -> bool:
        step = granularity(queries_period(alarm))
        boundary = (now - _SETTLED[step]) // step * step
        if boundary <= getattr(alarm, "evaluated_at", -1.0):
            return False
        alarm.evaluated_at = boundary
        return True

    def _evaluate(self, backend: Any, alarm: Any, now: float) -> None:
        definition = definition_of(alarm)
        start, end = evaluation_range(definition, now)
        store, queries = store_of(backend), queries_of(alarm)
        if len(queries) == 1 and "MetricStat" in queries[0]:
            stat = queries[0]["MetricStat"]
            samples = aggregates(store, stat, start, end)
            values = {at: (sample.statistic(stat["Stat"]), sample.count) for at, sample in samples.items()}
            points = [Point(at, value, count) for at, (value, count) in values.items() if value is not None]
            if alarm.evaluate_low_sample_count_percentile == "ignore" and _too_few(stat["Stat"], points):
                return
        else:
            series = run(store, queries, start, end)
            returned = next(query["Id"] for query in queries if query["ReturnData"])
            points = [Point(at, value) for at, value in series[returned].items()]
        verdict = evaluate(definition, points, now)
        if verdict is None:
            return
        alarm.recent_values = [point.value for point in verdict.points]
        if verdict.state != alarm.state_value:
            set_state(self.region, alarm, verdict.state, verdict.reason, json.dumps(verdict.data), now)

    def _compose(self, backend: Any, alarm: Any, now: float) -> bool:
        """Follow the rule of a composite alarm; True when its state changed."""

        def state(name: str) -> str | None:
            found = backend.alarms.get(name)
            return str(found.state_value) if found is not None else None

        new = "ALARM" if holds(alarm.rule, state) else "OK"
        if new == alarm.state_value:
            return False
        known = [backend.alarms[name] for name in children(alarm.rule) if name in backend.alarms]
        latest = max(known, key=lambda child: child.state_transitioned_timestamp, default=None)
        if latest is None or alarm.state_value == "INSUFFICIENT_DATA":
            reason, triggers = f"{alarm.alarm_arn} was created and its alarm rule evaluates to {new}", known
        else:
            at = moment(epoch(latest.state_transitioned_timestamp))
            reason = f"{latest.alarm_arn} transitioned to {latest.state_value} at {at:%A %d %B, %Y %H:%M:%S} UTC"
            triggers = [latest]
        data = [
            {
                "arn": each.alarm_arn,
                "state": {"value": each.state_value, "timestamp": stamp(epoch(each.state_updated_timestamp))},
            }
            for each in triggers
        ]
        set_state(self.region, alarm, new, reason, json.dumps({"triggeringAlarms": data}), now)
        return True

    # Actions

    def _act(self, alarm: Any, now: float) -> None:
        """Carry out the actions of the changes that have not been told yet."""
        notices = outbox(alarm)
        while notices:
            notice = notices.pop(0)
            alarm.repeated_at = now
            for arn in _actions(alarm, notice.state) if alarm.actions_enabled else []:
                self._perform(alarm, arn, notice, now)

    def _repeat(self, alarm: Any, now: float) -> None:
        """Scaling policies hear of a state again and again while it lasts; nothing else does."""
        if not hasattr(alarm, "repeated_at"):
            alarm.repeated_at = now
        if alarm.actions_enabled and alarm.rule is None and now - alarm.repeated_at >= _REPEAT:
            alarm.repeated_at = now
            for arn in _actions(alarm, alarm.state_value):
                if arn.split(":")[2] == "autoscaling":
                    try:
                        self._scale(alarm, arn)
                    except ValueError as error:
                        log.warning("alarm %s: %s", alarm.name, error)

    def _perform(self, alarm: Any, arn: str, notice: Notice, now: float) -> None:
        error = ""
        service = arn.split(":")[2]
        try:
            if service in _ACTIONS:
                self._check(alarm, arn, *_ACTIONS[service])
            if service == "sns":
                self.region.backend("sns").publish(notice.message, arn=arn, subject=notice.subject)
            elif service == "lambda":
                functions: Any = self.region.loops["Functions"]
                functions.enqueue(arn, None, json.dumps(self._invocation(alarm, now)).encode())
            else:
                self._scale(alarm, arn)
        except Exception as failure:
            error = str(getattr(failure, "message", "") or failure or type(failure).__name__)
            log.warning("alarm %s: its action %s failed: %s", alarm.name, arn, error)
        data = {"actionState": "Failed" if error else "Succeeded", "notificationResource": arn, "error": error or None}
        if service == "sns":
            data["publishedMessage"] = notice.message
        summary = f'Failed to execute action {arn}. Received error: "{error}"' if error else f"Successfully executed action {arn}"
        remember(alarm, "Action", summary, data, now)

    def _check(self, alarm: Any, arn: str, principal: str, action: str) -> None:
        """Raises PermissionError unless the action's resource lets CloudWatch in."""
        if not self.region.allows_service(principal, action, arn, {"aws:SourceArn": alarm.alarm_arn}):
            said = action.replace("sns:", "SNS:")
            raise PermissionError(f"Resource: {alarm.alarm_arn} is not authorized to perform: {said} on resource: {arn}")

    def _scale(self, alarm: Any, arn: str) -> None:
        policies.on_alarm(self.region, arn, alarm)

    def _invocation(self, alarm: Any, now: float) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html"""
        settings = self.region.settings
        detail = event_detail(alarm, {})
        data = {"alarmName": alarm.name, "state": state_of(alarm), "configuration": detail["configuration"]}
        return {
            "source": "aws.cloudwatch",
            "alarmArn": alarm.alarm_arn,
            "accountId": settings.account_id,
            "time": zulu(now),
            "region": settings.region,
            "alarmData": data,
        }


def definition_of(alarm: Any) -> Definition:
    """The evaluation that a metric alarm's record asks for."""
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html: DynamoDB's are ignored always.
    missing = "ignore" if alarm.namespace == "AWS/DynamoDB" else alarm.treat_missing_data or "missing"
    return Definition(
        comparison=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        evaluation_periods=int(alarm.evaluation_periods),
        period=queries_period(alarm),
        to_alarm=int(alarm.datapoints_to_alarm) if alarm.datapoints_to_alarm else None,
        missing=missing,
        statistic=None if alarm.metric_data_queries else (alarm.statistic or alarm.extended_statistic),
    )


def _actions(alarm: Any, state: str) -> list[str]:
    by_state = {"OK": alarm.ok_actions, "ALARM": alarm.alarm_actions, "INSUFFICIENT_DATA": alarm.insufficient_data_actions}
    return list(by_state[state] or [])


def _too_few(statistic: str, points: list[Point]) -> bool:
    """Whether there are too few samples for a percentile to mean anything: fewer than 10 beyond it, on its nearer side."""
    if not is_percentile(statistic) or not points:
        return False
    fraction = float(statistic[1:]) / 100
    beyond = min(fraction, 1 - fraction)
    return beyond == 0 or sum(point.count for point in points) < 10 / beyond
