"""Scaling policies as records: what AWS refuses, what moto forgets, and the alarms that belong to target tracking.

moto keys policies by name alone, forgets whether they are enabled, gives them no alarms, and executes without cooldown.
"""

from __future__ import annotations

import itertools
from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult, EmptyResult

from twin.region.patch import add, replace
from twin.region.region import Region
from twin.region.target_tracking import PREDEFINED, alarm_names, keep_alarms

ADJUSTMENTS = ("ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity")
GROUP_METRICS = (
    *("GroupMinSize", "GroupMaxSize", "GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances"),
    *("GroupStandbyInstances", "GroupTerminatingInstances", "GroupTotalInstances"),
    *("GroupInServiceCapacity", "GroupPendingCapacity", "GroupStandbyCapacity", "GroupTerminatingCapacity", "GroupTotalCapacity"),
)


def find(region: Region, group: str | None, name: str) -> Any | None:
    """A policy by name in a group, or by ARN."""
    found = [
        policy
        for policy in region.backend("autoscaling").policies.values()
        if name in (policy.name, policy.arn) and (not group or policy.auto_scaling_group_name == group)
    ]
    return found[0] if found else None


def find_by_arn(region: Region, arn: str) -> Any | None:
    return find(region, None, arn)


def warmup(group: Any, policy: Any) -> float:
    """Seconds that a new instance takes to count: the policy's, else the group's, else the default cooldown."""
    for value in (policy.estimated_instance_warmup, getattr(group, "default_instance_warmup", None), group.default_cooldown):
        if value is not None:
            return float(value)
    return 300.0


def delete(region: Region, policy: Any) -> None:
    region.backend("cloudwatch").delete_alarms(list(alarm_names(policy).values()))
    policies = region.backend("autoscaling").policies
    for key in [key for key, each in policies.items() if each is policy]:
        del policies[key]


def install(region: Region) -> None:
    _install_policies(region)
    _install_execution(region)
    _install_metrics()


def _install_policies(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "put_scaling_policy")
    def put_scaling_policy(self: Any) -> Any:
        given = dict(self._get_params())
        group, name = given.get("AutoScalingGroupName"), given.get("PolicyName")
        if group not in self.autoscaling_backend.autoscaling_groups:
            raise ValidationError(f"Group {group} not found")
        given.setdefault("PolicyType", "SimpleScaling")
        _check(given)
        before = find(region, group, str(name))
        policy = _record(self.autoscaling_backend, given)
        if before is not None:
            policy.tracking_alarms = alarm_names(before)
        self.autoscaling_backend.policies[f"{group}/{name}"] = policy
        keep_alarms(region, policy)
        return ActionResult({"PolicyARN": policy.arn, "Alarms": _alarms(region, policy)})

    @replace(responses.AutoScalingResponse, "describe_policies")
    def describe_policies(self: Any) -> Any:
        names = set(self._get_param("PolicyNames") or [])
        types = self._get_param("PolicyTypes") or []
        group = self._get_param("AutoScalingGroupName")
        found = [
            policy
            for policy in self.autoscaling_backend.policies.values()
            if (not group or policy.auto_scaling_group_name == group)
            and (not names or names & {policy.name, policy.arn})
            and (not types or policy.policy_type in types)
        ]
        for policy in found:
            policy.alarms = _alarms(region, policy)
        return ActionResult({"ScalingPolicies": found})

    @replace(responses.AutoScalingResponse, "delete_policy")
    def delete_policy(self: Any) -> Any:
        delete(region, _existing(region, self))
        return EmptyResult()


def _existing(region: Region, response: Any) -> Any:
    name = response._get_param("PolicyName")
    policy = find(region, response._get_param("AutoScalingGroupName"), name)
    if policy is None:
        raise ValidationError(f"PolicyName not found - No such policy: {name}")
    return policy


def _record(backend: Any, given: dict[str, Any]) -> Any:
    def number(name: str) -> int | None:
        return None if given.get(name) is None else int(given[name])

    kind = given["PolicyType"]
    policy: Any = models.FakeScalingPolicy(
        name=given["PolicyName"],
        policy_type=kind,
        metric_aggregation_type=given.get("MetricAggregationType") or ("Average" if kind == "StepScaling" else None),  # type: ignore[arg-type]
        adjustment_type=given.get("AdjustmentType"),  # type: ignore[arg-type]
        as_name=given["AutoScalingGroupName"],
        min_adjustment_magnitude=number("MinAdjustmentMagnitude") or number("MinAdjustmentStep"),  # type: ignore[arg-type]
        scaling_adjustment=number("ScalingAdjustment"),
        cooldown=None,
        target_tracking_config=given.get("TargetTrackingConfiguration") or {},
        step_adjustments=given.get("StepAdjustments") or [],  # type: ignore[arg-type]
        estimated_instance_warmup=number("EstimatedInstanceWarmup"),  # type: ignore[arg-type]
        predictive_scaling_configuration=None,  # type: ignore[arg-type]
        autoscaling_backend=backend,
    )
    policy.cooldown = number("Cooldown")
    enabled = given.get("Enabled")
    policy.enabled = str(enabled).lower() != "false" if enabled is not None else True
    return policy


def _alarms(region: Region, policy: Any) -> list[dict[str, str]]:
    """The alarms that call the policy, whoever made them."""
    return [
        {"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn}
        for alarm in region.backend("cloudwatch").alarms.values()
        if policy.arn in (*alarm.alarm_actions, *alarm.ok_actions, *alarm.insufficient_data_actions)
    ]


# What AWS refuses


def _check(given: dict[str, Any]) -> None:
    kind = given["PolicyType"]
    if kind == "PredictiveScaling":
        raise ValidationError("PredictiveScaling is not supported by the twin.")
    if kind not in ("SimpleScaling", "StepScaling", "TargetTrackingScaling"):
        raise ValidationError(f"PolicyType {kind} is not valid.")
    if kind == "TargetTrackingScaling":
        _check_tracking(given.get("TargetTrackingConfiguration") or {})
        return
    if given.get("TargetTrackingConfiguration"):
        raise ValidationError("TargetTrackingConfiguration is only supported for policy type TargetTrackingScaling.")
    if given.get("AdjustmentType") not in ADJUSTMENTS:
        raise ValidationError(f"AdjustmentType must be one of {', '.join(ADJUSTMENTS)}.")
    if kind == "SimpleScaling":
        if given.get("ScalingAdjustment") is None:
            raise ValidationError("ScalingAdjustment must be specified for policy type SimpleScaling.")
        return
    if not given.get("StepAdjustments"):
        raise ValidationError("At least one StepAdjustment must be specified for policy type StepScaling.")
    if given.get("Cooldown") is not None:
        raise ValidationError("Cooldown is not supported for policy type StepScaling.")
    _check_steps(given["StepAdjustments"])


def _check_steps(steps: list[dict[str, Any]]) -> None:
    """https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html#as-scaling-steps"""

    def bound(step: dict[str, Any], name: str) -> float | None:
        return None if step.get(name) is None else float(step[name])

    pairs = [(bound(step, "MetricIntervalLowerBound"), bound(step, "MetricIntervalUpperBound")) for step in steps]
    if any(low is None and high is None for low, high in pairs):
        raise ValidationError("At least one of the bounds must be specified in each StepAdjustment.")
    if any(low is not None and high is not None and low >= high for low, high in pairs):
        raise ValidationError("The lower bound of a StepAdjustment must be less than its upper bound.")
    pairs.sort(key=lambda pair: float("-inf") if pair[0] is None else pair[0])
    for (_, high), (low, _) in itertools.pairwise(pairs):
        if high != low:
            raise ValidationError("StepAdjustments must not overlap or have a gap between them.")
    lowest, highest = pairs[0][0], pairs[-1][1]
    if lowest is not None and lowest < 0:
        raise ValidationError("There must be a StepAdjustment with an unspecified lower bound.")
    if highest is not None and highest > 0:
        raise ValidationError("There must be a StepAdjustment with an unspecified upper bound.")


def _check_tracking(given: dict[str, Any]) -> None:
    predefined, customized = given.get("PredefinedMetricSpecification"), given.get("CustomizedMetricSpecification")
    if bool(predefined) == bool(customized):
        raise ValidationError("Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be specified.")
    if not float(given.get("TargetValue") or 0) > 0:
        raise ValidationError("TargetValue must be greater than 0.")
    if predefined:
        kind, label = predefined.get("PredefinedMetricType"), str(predefined.get("ResourceLabel") or "")
        if kind not in PREDEFINED:
            raise ValidationError(f"PredefinedMetricType {kind} is not valid.")
        parts = label.split("/")
        if kind == "ALBRequestCountPerTarget" and not (len(parts) == 6 and parts[0] == "app" and parts[3] == "targetgroup"):
            raise ValidationError(
                "ResourceLabel must be the final portion of the load balancer's ARN, a slash, and that of the target group's ARN."
            )


# Execution and metrics


def _install_execution(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "execute_policy")
    def execute_policy(self: Any) -> Any:
        from twin.control.policies import on_request  # decisions are the control plane's; it knows this module

        policy = _existing(region, self)
        value, threshold = self._get_param("MetricValue"), self._get_param("BreachThreshold")
        if policy.policy_type == "TargetTrackingScaling":
            raise ValidationError("Policy type TargetTrackingScaling can't be executed by request.")
        if policy.policy_type == "StepScaling" and (value is None or threshold is None):
            raise ValidationError("MetricValue and BreachThreshold must be specified for policy type StepScaling.")
        if not on_request(region, policy, bool(self._get_bool_param("HonorCooldown", False)), value, threshold):
            if policy.policy_type == "StepScaling":
                raise ValidationError(f"No StepAdjustment of the policy matches metric value {value} and threshold {threshold}.")
            raise AutoscalingClientError(
                "ScalingActivityInProgress", "The scaling activity is still in progress or its cooldown has not ended."
            )
        return EmptyResult()


def _install_metrics() -> None:
    @replace(models.AutoScalingBackend, "enable_metrics_collection")
    def enable_metrics_collection(self: Any, group_name: str, metrics: list[str] | None) -> None:
        """Without a list, all of them."""
        unknown = set(metrics or []) - set(GROUP_METRICS)
        if unknown:
            raise ValidationError(f"Metrics {', '.join(sorted(unknown))} are not supported by the twin.")
        group = self.autoscaling_groups[group_name]
        group.metrics = sorted({*group.metrics, *(metrics or GROUP_METRICS)})

    @add(responses.AutoScalingResponse, "disable_metrics_collection")
    def disable_metrics_collection(self: Any) -> Any:
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        dropped = set(self._get_param("Metrics") or GROUP_METRICS)
        group.metrics = [name for name in group.metrics if name not in dropped]
        return EmptyResult()
