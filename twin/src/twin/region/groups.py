"""Finding a group by name, and changing its capacity."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.exceptions import ValidationError

from twin.region.activities import said
from twin.region.region import Region


def group_of(response: Any, name: str) -> Any:
    """The group that a request names. Raises ValidationError in AWS's words."""
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return group


def change_capacity(region: Region, group: Any, wanted: int, cause: str) -> None:
    """Set the desired capacity on someone's behalf. `cause` is what the activities that follow say of it, in AWS's words,
    as in "a user request explicitly set group desired capacity changing the desired capacity from 1 to 3."."""
    if wanted != group.desired_capacity:
        group.capacity_cause = said(cause)
    group.desired_capacity = wanted
    region.wake("AutoScaling")


def warmup_of(group: Any) -> int:
    """The default instance warmup, else the health check grace period:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html"""
    default = getattr(group, "default_instance_warmup", None)
    return int(group.health_check_grace_period or 0) if default is None or default < 0 else int(default)


def maintenance_policy(group: Any) -> tuple[int, int] | None:
    """Lower and upper percentage of the instance maintenance policy; None without one."""
    policy = getattr(group, "instance_maintenance_policy", None) or {}
    least, most = int(policy.get("MinHealthyPercentage", -1)), int(policy.get("MaxHealthyPercentage", -1))
    return None if least < 0 or most < 0 else (least, most)
