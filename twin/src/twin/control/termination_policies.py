"""Whom scale-in takes.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow

from twin.region.members import Member

HOUR = 3600


def choose(group: Any, members: list[Member], candidates: list[Member]) -> Member | None:
    """The one of `candidates` to terminate: from the zone with the most of `members` that has any, by the group's policies.

    Protected instances are spared; None when no other is left.
    """
    open_to_it = [member for member in candidates if not member.protected_from_scale_in]
    if not open_to_it:
        return None
    zones = Counter(member.availability_zone for member in members)
    most = max(zones[member.availability_zone] for member in open_to_it)
    left = [member for member in open_to_it if zones[member.availability_zone] == most]
    for policy in [*(group.termination_policies or []), "Default"]:
        for key in _KEYS.get(policy, ()):
            best = min(key(group, member) for member in left)
            left = [member for member in left if key(group, member) == best]
    return min(left, key=lambda member: (_launched(group, member), member.instance_id))


def _launched(group: Any, member: Member) -> float:
    return float(member.instance.launch_time.timestamp())


def _newest(group: Any, member: Member) -> float:
    return -_launched(group, member)


def _template_age(group: Any, member: Member) -> tuple[bool, int]:
    """Another template than the group's first, then the oldest version."""
    template = group.ec2_launch_template
    current = template is not None and member.template_id == template.id
    return current, int(getattr(member.instance, "launch_template_version", 0) or 0)


def _configuration_age(group: Any, member: Member) -> tuple[bool, float]:
    """Instances of launch configurations first, the oldest of them first."""
    return bool(member.template_id), 0.0 if member.template_id else _launched(group, member)


def _next_hour(group: Any, member: Member) -> float:
    """Seconds until the next full hour of running."""
    return HOUR - (utcnow().timestamp() - _launched(group, member)) % HOUR


_KEYS: dict[str, tuple[Callable[[Any, Member], Any], ...]] = {
    "OldestInstance": (_launched,),
    "NewestInstance": (_newest,),
    "OldestLaunchTemplate": (_template_age,),
    "OldestLaunchConfiguration": (_configuration_age,),
    "ClosestToNextInstanceHour": (_next_hour,),
    "AllocationStrategy": (),  # all are On-Demand of one type here, so every instance is in line with it
    "Default": (_template_age, _launched),
}
POLICIES = tuple(_KEYS)
