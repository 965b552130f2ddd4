"""The two CloudWatch alarms that AWS makes for a target tracking policy, and looks after.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html
"""

from __future__ import annotations

import uuid
from typing import Any

from moto.cloudwatch.models import Dimension, Metric, MetricDataQuery, MetricStat

from twin.region.region import Region

# Predefined metrics: namespace, name, statistic. https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PredefinedMetricSpecification.html
PREDEFINED = {
    "ASGAverageCPUUtilization": ("AWS/EC2", "CPUUtilization", "Average"),
    "ASGAverageNetworkIn": ("AWS/EC2", "NetworkIn", "Average"),
    "ASGAverageNetworkOut": ("AWS/EC2", "NetworkOut", "Average"),
    "ALBRequestCountPerTarget": ("AWS/ApplicationELB", "RequestCountPerTarget", "Sum"),
}
# Evaluation periods of the two alarms, as AWS makes them. The lower threshold of its own is not documented; these are the
# ones that AWS's alarms show: 35 % of CPU for a target of 50 %, nine tenths for others.
_HIGH_PERIODS, _LOW_PERIODS = 3, 15
_LOW_SHARE = {"ASGAverageCPUUtilization": 0.7, "ASGAverageNetworkIn": 0.7, "ASGAverageNetworkOut": 0.7}
_OTHER_LOW_SHARE = 0.9


def alarm_names(policy: Any) -> dict[str, str]:
    """Names of target tracking's own alarms, by AlarmHigh and AlarmLow."""
    return dict(getattr(policy, "tracking_alarms", {}))


def request_counts(policy: Any) -> str | None:
    """The target group (targetgroup/NAME/ID) whose request count per target the policy tracks."""
    tracking = policy.target_tracking_configuration
    predefined = getattr(tracking, "PredefinedMetricSpecification", None) or {}
    if predefined.get("PredefinedMetricType") != "ALBRequestCountPerTarget":
        return None
    return "/".join(str(predefined["ResourceLabel"]).split("/")[3:])


def keep_alarms(region: Region, policy: Any) -> None:
    """Make, change or delete the alarms that AWS makes for the policy."""
    cloudwatch = region.backend("cloudwatch")
    names: dict[str, str] = alarm_names(policy)
    if policy.policy_type != "TargetTrackingScaling":
        cloudwatch.delete_alarms(list(names.values()))
        policy.tracking_alarms = {}
        return
    tracking = policy.target_tracking_configuration
    target = float(tracking.TargetValue)
    predefined = getattr(tracking, "PredefinedMetricSpecification", None) or {}
    share = _LOW_SHARE.get(str(predefined.get("PredefinedMetricType")), _OTHER_LOW_SHARE)
    wanted = {"AlarmHigh": ("GreaterThanThreshold", target, _HIGH_PERIODS)}
    if str(getattr(tracking, "DisableScaleIn", False)).lower() != "true":
        wanted["AlarmLow"] = ("LessThanThreshold", target * share, _LOW_PERIODS)
    for side in set(names) - set(wanted):
        cloudwatch.delete_alarms([names.pop(side)])
    for side, (comparison, threshold, periods) in wanted.items():
        names.setdefault(side, f"TargetTracking-{policy.auto_scaling_group_name}-{side}-{uuid.uuid4()}")
        cloudwatch.put_metric_alarm(
            name=names[side],
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy.arn}.",
            comparison_operator=comparison,
            threshold=threshold,
            evaluation_periods=periods,
            alarm_actions=[policy.arn],
            ok_actions=[],
            insufficient_data_actions=[],
            **_watched(policy, tracking, predefined),
        )
    policy.tracking_alarms = names


def _watched(policy: Any, tracking: Any, predefined: dict[str, Any]) -> dict[str, Any]:
    """Which metric the alarms watch, in the parameters of moto's put_metric_alarm."""
    none: dict[str, Any] = {"datapoints_to_alarm": None, "extended_statistic": None, "treat_missing_data": None}
    none |= {"unit": None, "metric_data_queries": None}
    if predefined:
        namespace, name, statistic = PREDEFINED[predefined["PredefinedMetricType"]]
        target_group = request_counts(policy)
        dimensions = [{"Name": "AutoScalingGroupName", "Value": policy.auto_scaling_group_name}]
        if target_group:
            dimensions = [{"Name": "TargetGroup", "Value": target_group}]
        found = {"namespace": namespace, "metric_name": name, "statistic": statistic, "period": 60, "dimensions": dimensions}
        return {**none, **found}
    custom = tracking.CustomizedMetricSpecification
    if not custom.get("Metrics"):
        found = {"namespace": custom["Namespace"], "metric_name": custom["MetricName"], "statistic": custom["Statistic"]}
        found |= {"unit": custom.get("Unit"), "period": int(custom.get("Period") or 60), "dimensions": custom["Dimensions"]}
        return {**none, **found}
    queries = []
    for query in custom["Metrics"]:
        stat = None
        if query.get("MetricStat"):
            given = query["MetricStat"]
            dimensions_ = [Dimension(entry["Name"], entry["Value"]) for entry in given["Metric"].get("Dimensions") or []]
            metric = Metric(given["Metric"]["MetricName"], given["Metric"]["Namespace"], dimensions_)
            stat = MetricStat(metric, str(given.get("Period") or 60), given["Stat"], given.get("Unit"))
        returned, period = query.get("ReturnData", True), query.get("Period")
        queries.append(MetricDataQuery(query["Id"], query.get("Label"), period, returned, query.get("Expression"), stat))
    empty = dict.fromkeys(("namespace", "metric_name", "statistic", "period"))
    return {**none, **empty, "dimensions": [], "metric_data_queries": queries}
