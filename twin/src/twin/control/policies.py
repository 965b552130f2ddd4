"""What scaling policies decide when their alarms, or a user, execute them.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-cooldowns.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twin.region.autoscaling import change_capacity
from twin.region.region import Region
from twin.region.scaling_policies import delete, find_by_arn, warmup
from twin.region.target_tracking import alarm_names

# AWS promises that scale-in is more gradual than scale-out, but gives no figures: here at most a tenth of the group, or one
# instance, each time the alarm is heard.
_GRADUAL = 10
_DEFAULT_COOLDOWN = 300


@dataclass(frozen=True)
class Capacity:
    """A group's instances by what counts in a decision: `ready` are in service and warm, `launching` are not yet."""

    desired: int
    ready: int
    launching: int = 0
    terminating: int = 0


def capacity_of(group: Any, warmup_seconds: float, clock: float) -> Capacity:
    """`clock` is the region's."""
    ready = launching = terminating = 0
    for member in group.instance_states:
        state = str(member.lifecycle_state)
        if state.startswith("Terminating"):
            terminating += 1
        elif state.startswith("Pending") or (state == "InService" and warming(member, warmup_seconds, clock)):
            launching += 1
        elif state == "InService":
            ready += 1
    return Capacity(int(group.desired_capacity), ready, launching, terminating)


def warming(member: Any, warmup_seconds: float, clock: float) -> bool:
    """Whether a member in service still warms up, and so counts neither as capacity nor in the group's metrics."""
    since = getattr(member, "in_service_since", None)
    return since is not None and clock - since < warmup_seconds


# Decisions: the capacity wanted, before it is clamped to the group's bounds; None to leave it


def track_out(capacity: Capacity, value: float, target: float) -> int | None:
    """In proportion to the metric, rounded up. Instances that warm up are no capacity yet, but are not asked for twice."""
    wanted = math.ceil(capacity.ready * value / target - 1e-9)
    return wanted if wanted > capacity.desired else None


def track_in(capacity: Capacity, value: float, target: float) -> int | None:
    """Never while a scale-out goes on; what terminates still counts, so that no more goes than need be."""
    if capacity.launching:
        return None
    wanted = math.ceil((capacity.ready + capacity.terminating) * value / target - 1e-9)
    wanted = max(wanted, capacity.desired - max(1, capacity.desired // _GRADUAL))
    return wanted if wanted < capacity.desired else None


def adjust(current: int, kind: str, by: int, least: int = 0) -> int:
    """`current` after an adjustment; percentages round towards 0, but never to 0."""
    if kind == "ExactCapacity":
        return by
    if kind == "ChangeInCapacity":
        return current + by
    change = current * by / 100
    whole = math.copysign(max(1, math.floor(abs(change))), change) if change else 0
    if least and by:
        whole = math.copysign(max(abs(whole), least), by)
    return current + int(whole)


def pick_step(steps: list[dict[str, Any]], difference: float) -> int | None:
    """The adjustment of the step in which the metric lies; `difference` is its distance from the threshold.

    Above the threshold lower bounds belong to the step, below it upper bounds do.
    """
    for step in steps:
        low = float(step["MetricIntervalLowerBound"]) if step.get("MetricIntervalLowerBound") is not None else -math.inf
        high = float(step["MetricIntervalUpperBound"]) if step.get("MetricIntervalUpperBound") is not None else math.inf
        inside = low <= difference < high if difference >= 0 else low < difference <= high
        if inside or (difference == 0 and high == 0):
            return int(step["ScalingAdjustment"])
    return None


def step(capacity: Capacity, policy: Any, by: int) -> int | None:
    """As of the instances that are ready; what warms up or is on its way counts towards what is asked for."""
    kind, least = policy.adjustment_type, int(policy.min_adjustment_magnitude or 0)
    if kind == "ExactCapacity":
        wanted = by
    elif by >= 0:
        wanted = max(capacity.desired, adjust(capacity.ready, kind, by, least))
    else:
        wanted = min(capacity.desired, adjust(capacity.ready + capacity.terminating, kind, by, least))
    if wanted < capacity.desired and capacity.launching:
        return None
    return wanted if wanted != capacity.desired else None


# Execution


def on_alarm(region: Region, policy_arn: str, alarm: Any) -> None:
    """An alarm calls a policy. Raises ValueError when there is no such policy; call with the lock."""
    policy = find_by_arn(region, policy_arn)
    if policy is None:
        raise ValueError(f"there is no scaling policy {policy_arn}")
    group = region.backend("autoscaling").autoscaling_groups.get(policy.auto_scaling_group_name)
    if group is None or not policy.enabled or suspended(group, "AlarmNotification"):
        return
    capacity = capacity_of(group, warmup(group, policy), region.clock())
    values = list(getattr(alarm, "recent_values", []))
    wanted: int | None
    if policy.policy_type == "TargetTrackingScaling":
        wanted = _track(region, group, policy, alarm, capacity, values)
    elif policy.policy_type == "StepScaling":
        value = _aggregate(policy.metric_aggregation_type, values) if values else float(alarm.threshold)
        by = pick_step(policy.step_adjustments, value - float(alarm.threshold))
        wanted = None if by is None else step(capacity, policy, by)
    else:
        wanted = _simple(region, group, policy, capacity)
    if wanted is not None:
        cause = f"a monitor alarm {alarm.name} in state {alarm.state_value} triggered policy {policy.name}"
        _change(region, group, policy, wanted, cause)


def on_request(region: Region, policy: Any, honor_cooldown: bool, value: float | None, threshold: float | None) -> bool:
    """A user executes a policy. False when a cooldown that is to be honored, or no step, stands against it."""
    group = region.backend("autoscaling").autoscaling_groups[policy.auto_scaling_group_name]
    capacity = capacity_of(group, warmup(group, policy), region.clock())
    wanted: int | None
    if policy.policy_type == "StepScaling":
        by = pick_step(policy.step_adjustments, float(value or 0) - float(threshold or 0))
        if by is None:
            return False
        wanted = step(capacity, policy, by)
    else:
        if honor_cooldown and cooling(region, group, capacity):
            return False
        wanted = adjust(capacity.desired, policy.adjustment_type, int(policy.scaling_adjustment), _least(policy))
    if wanted is not None:
        _change(region, group, policy, wanted, f"a user request executed policy {policy.name}")
    return True


def cooling(region: Region, group: Any, capacity: Capacity) -> bool:
    """Whether a simple scaling activity goes on, or its cooldown does."""
    in_progress = any(
        str(member.lifecycle_state).startswith(("Pending", "Terminating")) for member in group.instance_states
    ) or len(group.instance_states) != int(group.desired_capacity)
    if in_progress and hasattr(group, "cooldown_seconds"):
        group.cooldown_until = region.clock() + group.cooldown_seconds  # counts from the end of the activity
    return in_progress or region.clock() < getattr(group, "cooldown_until", -math.inf)


def _simple(region: Region, group: Any, policy: Any, capacity: Capacity) -> int | None:
    if cooling(region, group, capacity):
        return None
    wanted = adjust(capacity.desired, policy.adjustment_type, int(policy.scaling_adjustment), _least(policy))
    return wanted if wanted != capacity.desired else None


def _least(policy: Any) -> int:
    return int(policy.min_adjustment_magnitude or 0)


def _track(region: Region, group: Any, policy: Any, alarm: Any, capacity: Capacity, values: list[float]) -> int | None:
    target = float(policy.target_tracking_configuration.TargetValue)
    names = alarm_names(policy)
    if not values:
        return None
    if alarm.name == names.get("AlarmHigh"):
        return track_out(capacity, values[0], target)
    # Scale in only if every policy that may scale in agrees, and then to the largest capacity that one of them wants.
    wishes = []
    alarms = region.backend("cloudwatch").alarms
    for other in _policies(region, group):
        if other.policy_type != "TargetTrackingScaling" or not other.enabled or "AlarmLow" not in alarm_names(other):
            continue
        low = alarms.get(alarm_names(other)["AlarmLow"])
        recent = list(getattr(low, "recent_values", []))
        if low is None or low.state_value != "ALARM" or not recent:
            return None
        theirs = capacity_of(group, warmup(group, other), region.clock())
        wish = track_in(theirs, recent[0], float(other.target_tracking_configuration.TargetValue))
        wishes.append(capacity.desired if wish is None else wish)
    wanted = max(wishes, default=capacity.desired)
    return wanted if wanted < capacity.desired else None


def _aggregate(kind: str | None, values: list[float]) -> float:
    if kind == "Minimum":
        return min(values)
    return max(values) if kind == "Maximum" else math.fsum(values) / len(values)


def _change(region: Region, group: Any, policy: Any, wanted: int, cause: str) -> None:
    wanted = max(int(group.min_size), min(int(group.max_size), wanted))
    before = int(group.desired_capacity)
    if wanted == before:
        return
    if policy.policy_type == "SimpleScaling":
        given = policy.cooldown if policy.cooldown is not None else group.default_cooldown
        group.cooldown_seconds = float(_DEFAULT_COOLDOWN if given is None else given)
        group.cooldown_until = region.clock() + group.cooldown_seconds
    change_capacity(region, group, wanted, f"{cause} changing the desired capacity from {before} to {wanted}.")


def suspended(group: Any, process: str) -> bool:
    return any(entry["ProcessName"] == process for entry in group.suspended_processes)


def _policies(region: Region, group: Any) -> list[Any]:
    return [each for each in region.backend("autoscaling").policies.values() if each.auto_scaling_group_name == group.name]


def forget_orphans(region: Region) -> None:
    """Policies go with their group, and their own alarms with them."""
    backend = region.backend("autoscaling")
    for policy in list(backend.policies.values()):
        if policy.auto_scaling_group_name not in backend.autoscaling_groups:
            delete(region, policy)
