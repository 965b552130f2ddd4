"""What CloudWatch says of an alarm's change: the message to SNS, and the event for EventBridge.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
"""

from __future__ import annotations

import functools
import json
from typing import Any

import botocore.session

from twin.region.metric_queries import Query
from twin.region.timestamps import epoch, stamp


def queries_of(alarm: Any) -> list[Query]:
    """A metric alarm's data as queries in AWS's own structure; the one with ReturnData is what it watches."""
    if not alarm.metric_data_queries:
        dimensions = [{"Name": entry.name, "Value": entry.value} for entry in alarm.dimensions]
        metric = {"Namespace": alarm.namespace, "MetricName": alarm.metric_name, "Dimensions": dimensions}
        stat = {"Metric": metric, "Period": int(alarm.period), "Stat": alarm.statistic or alarm.extended_statistic}
        if alarm.unit:
            stat["Unit"] = alarm.unit
        return [{"Id": "m1", "MetricStat": stat, "ReturnData": True}]
    queries = []
    for query in alarm.metric_data_queries:
        found: Query = {"Id": query.id, "ReturnData": str(query.return_data).lower() != "false"}
        if query.label:
            found["Label"] = query.label
        if query.expression:
            found["Expression"] = query.expression
            if query.period:
                found["Period"] = int(query.period)
        else:
            inner = query.metric_stat
            dimensions = [{"Name": entry.name, "Value": entry.value} for entry in inner.metric.dimensions]
            metric = {"Namespace": inner.metric.namespace, "MetricName": inner.metric.metric_name, "Dimensions": dimensions}
            found["MetricStat"] = {"Metric": metric, "Period": int(inner.period), "Stat": inner.stat}
            if inner.unit:
                found["MetricStat"]["Unit"] = inner.unit
        queries.append(found)
    return queries


@functools.cache
def region_title(region_name: str) -> str:
    """As in US East (N. Virginia)."""
    for partition in botocore.session.get_session().get_data("endpoints")["partitions"]:
        if region_name in partition["regions"]:
            return str(partition["regions"][region_name]["description"])
    return region_name


def subject(alarm: Any) -> str:
    return f'{alarm.state_value}: "{alarm.name}" in {region_title(alarm.region_name)}'[:100]


def message(alarm: Any, account_id: str, old_state: str) -> str:
    """The body of the message that an action on a topic publishes."""
    content: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": account_id,
        "AlarmConfigurationUpdatedTimestamp": stamp(epoch(alarm.configuration_updated_timestamp)),
        "NewStateValue": alarm.state_value,
        "NewStateReason": alarm.state_reason,
        "StateChangeTime": stamp(epoch(alarm.state_updated_timestamp)),
        "Region": region_title(alarm.region_name),
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": old_state,
        "OKActions": list(alarm.ok_actions or []),
        "AlarmActions": list(alarm.alarm_actions or []),
        "InsufficientDataActions": list(alarm.insufficient_data_actions or []),
    }
    if alarm.rule is not None:
        triggers = json.loads(alarm.state_reason_data or "{}").get("triggeringAlarms", [])
        content["AlarmRule"] = alarm.rule
        content["TriggeringChildren"] = [
            {"Arn": entry["arn"], "State": {"Value": entry["state"]["value"], "Timestamp": entry["state"]["timestamp"]}}
            for entry in triggers
        ]
    else:
        content["Trigger"] = _trigger(alarm)
    return json.dumps(content)


def _trigger(alarm: Any) -> dict[str, Any]:
    common: dict[str, Any] = {
        "Period": int(alarm.period or queries_period(alarm)),
        "EvaluationPeriods": int(alarm.evaluation_periods),
    }
    if alarm.datapoints_to_alarm:
        common["DatapointsToAlarm"] = int(alarm.datapoints_to_alarm)
    common |= {
        "ComparisonOperator": alarm.comparison_operator,
        "Threshold": float(alarm.threshold),
        "TreatMissingData": alarm.treat_missing_data or "missing",
        "EvaluateLowSampleCountPercentile": alarm.evaluate_low_sample_count_percentile or "",
    }
    if alarm.metric_data_queries:
        metrics = queries_of(alarm)
        for query in metrics:
            metric = (query.get("MetricStat") or {}).get("Metric")
            if metric:
                metric["Dimensions"] = [{"value": entry["Value"], "name": entry["Name"]} for entry in metric["Dimensions"]]
        return {**common, "Metrics": metrics}
    extended = bool(alarm.extended_statistic)
    return {
        "MetricName": alarm.metric_name,
        "Namespace": alarm.namespace,
        "StatisticType": "ExtendedStatistic" if extended else "Statistic",
        "ExtendedStatistic" if extended else "Statistic": alarm.extended_statistic
        if extended
        else ("SAMPLE_COUNT" if alarm.statistic == "SampleCount" else alarm.statistic.upper()),
        "Unit": alarm.unit,
        "Dimensions": [{"value": entry.value, "name": entry.name} for entry in alarm.dimensions],
        **common,
    }


def queries_period(alarm: Any) -> int:
    """The period of a metric alarm, whether it watches a metric or an expression."""
    if alarm.period:
        return int(alarm.period)
    return max(int((query.get("MetricStat") or query).get("Period") or 0) for query in queries_of(alarm)) or 60


def state_of(alarm: Any) -> dict[str, Any]:
    """The alarm's state as events and the history write it."""
    state = {"value": alarm.state_value, "reason": alarm.state_reason, "timestamp": stamp(epoch(alarm.state_updated_timestamp))}
    if alarm.state_reason_data and alarm.state_reason_data != "{}":
        state["reasonData"] = alarm.state_reason_data
    return state


def event_detail(alarm: Any, previous: dict[str, Any]) -> dict[str, Any]:
    """The detail of "CloudWatch Alarm State Change"."""
    configuration: dict[str, Any] = {}
    if alarm.description:
        configuration["description"] = alarm.description
    if alarm.rule is not None:
        configuration["alarmRule"] = alarm.rule
    else:
        configuration["metrics"] = [_metric(query) for query in queries_of(alarm)]
    return {"alarmName": alarm.name, "configuration": configuration, "previousState": previous, "state": state_of(alarm)}


def _metric(query: Query) -> dict[str, Any]:
    found: dict[str, Any] = {"id": query["Id"], "returnData": query["ReturnData"]}
    if query.get("Label"):
        found["label"] = query["Label"]
    if query.get("Expression"):
        return {**found, "expression": query["Expression"]}
    stat = query["MetricStat"]
    metric = {
        "namespace": stat["Metric"]["Namespace"],
        "name": stat["Metric"]["MetricName"],
        "dimensions": {entry["Name"]: entry["Value"] for entry in stat["Metric"]["Dimensions"]},
    }
    return {**found, "metricStat": {"metric": metric, "period": stat["Period"], "stat": stat["Stat"]}}
