"""What AWS refuses of an alarm's definition, and what the twin can't do.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
"""

from __future__ import annotations

import time
from typing import Any

from moto.cloudwatch.exceptions import ValidationError

from twin.region.alarm_rules import InvalidRule, alarm_name, children, holds
from twin.region.metric_math import InvalidExpression
from twin.region.metric_queries import Query, run
from twin.region.metric_store import STATISTICS, MetricStore, is_percentile, is_statistic

COMPARISONS = (*("GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"),)
MISSING = ("breaching", "notBreaching", "ignore", "missing")
_SHORT_PERIODS = (10, 20, 30)
_DAY = 86400
_SUPPORTED = ("sns", "autoscaling", "lambda")


def check_actions(arns: list[str], composite: bool = False) -> None:
    for arn in arns:
        parts = str(arn).split(":")
        if len(parts) < 6 or parts[0] != "arn":
            raise ValidationError(f"Invalid arn syntax: {arn}")
        if composite and parts[2] in ("autoscaling", "automate", "swf"):
            raise ValidationError(f"Composite alarms can't perform EC2 or Auto Scaling actions: {arn}")
        if parts[2] not in _SUPPORTED:
            raise ValidationError(f"The action {arn} is not supported by the twin.")


def check_metric_alarm(given: dict[str, Any]) -> None:
    """`given`: the parameters of moto's put_metric_alarm."""
    check_actions([*(given["alarm_actions"] or []), *(given["ok_actions"] or []), *(given["insufficient_data_actions"] or [])])
    if given["comparison_operator"] not in COMPARISONS:
        raise ValidationError(f"The comparison operator {given['comparison_operator']} is not supported by the twin.")
    missing = given["treat_missing_data"]
    if missing is not None and missing not in MISSING:
        raise ValidationError(
            f"Option {missing} is not supported. Supported options for parameter TreatMissingData are {', '.join(MISSING)}."
        )
    if given["threshold"] is None:
        raise ValidationError("The parameter Threshold is required.")
    periods, needed = int(given["evaluation_periods"] or 0), given["datapoints_to_alarm"]
    if periods < 1:
        raise ValidationError("The parameter EvaluationPeriods must be greater than 0.")
    if needed is not None and not 1 <= int(needed) <= periods:
        raise ValidationError("The parameter DatapointsToAlarm must be less than or equal to the parameter EvaluationPeriods.")
    queries = given["metric_data_queries"]
    if queries:
        if given["metric_name"]:
            raise ValidationError("The parameters MetricName and Metrics are mutually exclusive.")
        period = _check_metrics(queries)
    else:
        period = _check_single(given)
    limit = _DAY if period < 3600 else 7 * _DAY
    if period * periods > limit:
        raise ValidationError(
            f"Metrics cannot be checked across more than {'a day' if limit == _DAY else '7 days'} "
            f"(EvaluationPeriods * Period must be <= {limit})."
        )


def _check_single(given: dict[str, Any]) -> int:
    for parameter, attribute in (("MetricName", "metric_name"), ("Namespace", "namespace"), ("Period", "period")):
        if not given[attribute]:
            raise ValidationError(f"The parameter {parameter} is required.")
    statistic, extended = given["statistic"], given["extended_statistic"]
    if bool(statistic) == bool(extended):
        raise ValidationError("Exactly one of the parameters Statistic and ExtendedStatistic must be specified.")
    if statistic and statistic not in STATISTICS:
        raise ValidationError(f"The value {statistic} for parameter Statistic is not supported.")
    if extended and not is_percentile(extended):
        raise ValidationError(f"The value {extended} for parameter ExtendedStatistic is not supported by the twin.")
    return _check_period(given["period"])


def _check_period(given: Any) -> int:
    period = int(given or 0)
    if period not in _SHORT_PERIODS and (period < 60 or period % 60):
        raise ValidationError("Invalid period value. Period must be 10, 20, 30 or a multiple of 60.")
    return period


def _check_metrics(given: list[Any]) -> int:
    """An alarm on an expression: one query is returned, all have the same period, and the expressions can be read."""
    returned = [query.id for query in given if str(query.return_data).lower() != "false"]
    if len(returned) != 1:
        raise ValidationError("Exactly one element of the metrics list should return data.")
    queries: list[Query] = []
    periods = set()
    for query in given:
        if query.metric_stat is not None:
            if not is_statistic(query.metric_stat.stat):
                raise ValidationError(f"The statistic {query.metric_stat.stat} is not supported by the twin.")
            periods.add(_check_period(query.metric_stat.period))
            metric = {"Namespace": "", "MetricName": ""}
            queries.append({"Id": query.id, "MetricStat": {"Metric": metric, "Period": query.metric_stat.period, "Stat": "Sum"}})
        elif query.expression:
            if query.period:
                periods.add(_check_period(query.period))
            queries.append({"Id": query.id, "Expression": query.expression})
        else:
            raise ValidationError("Each element of the metrics list needs a MetricStat or an Expression.")
    if len(periods) > 1:
        raise ValidationError("Period must be consistent across all metrics.")
    if not periods:
        raise ValidationError("Period must be specified for the expression.")
    try:
        run(MetricStore(), queries, time.time() - 60, time.time())
    except InvalidExpression as error:
        raise ValidationError(f"Error in expression: {error}") from None
    return int(periods.pop())


def check_rule(alarms: dict[str, Any], name: str, rule: str) -> None:
    """The rule can be read, the alarms in it exist, and none of them depends on this one."""
    try:
        holds(rule, lambda _: "OK")
        named = children(rule)
    except InvalidRule as error:
        raise ValidationError(f"AlarmRule must contain at least one valid expression: {error}") from None
    unknown = [child for child in named if child not in alarms and child != name]
    if unknown:
        raise ValidationError(
            f"Could not save the composite alarm as alarms [{', '.join(unknown)}] in the alarm rule do not exist"
        )
    seen: set[str] = set()
    waiting = list(named)
    while waiting:
        child = alarm_name(waiting.pop())
        if child == name:
            raise ValidationError("Could not save the composite alarm as its rule would depend on itself")
        if child not in seen and child in alarms and alarms[child].rule is not None:
            waiting.extend(children(alarms[child].rule))
        seen.add(child)
