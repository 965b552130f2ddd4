"""One look at one Auto Scaling group: what the steps of a round ask about its members, read once."""

from __future__ import annotations

from typing import Any

from twin.region.groups import warmup_of
from twin.region.instance_refresh import InstanceRefresh, active_refresh
from twin.region.members import Member
from twin.region.region import Region

# States of a target that do not speak against its instance.
SOUND_TARGET = frozenset({"healthy", "unused", "unavailable"})
RETRY_SECONDS = (5, 10, 20, 60)  # after failed launches in a row


class Round:
    """Holds for one tick, under the region's lock."""

    def __init__(self, region: Region, group: Any, now: float) -> None:
        self.region = region
        self.group = group
        self.now = now
        self.deleting = bool(getattr(group, "status", None))
        self.wanted = 0 if self.deleting else int(group.desired_capacity or 0)
        self._suspended = {entry["ProcessName"] for entry in group.suspended_processes}
        self._targets: dict[str, dict[str, str]] = {}
        self._known = region.backend("elbv2").target_groups if group.target_group_arns else {}

    @property
    def members(self) -> list[Member]:
        found: list[Member] = self.group.instance_states
        return found

    @property
    def refresh(self) -> InstanceRefresh | None:
        return active_refresh(self.group)

    def active(self) -> list[Member]:
        return [member for member in self.members if member.active]

    def suspended(self, *processes: str) -> bool:
        return any(process in self._suspended for process in processes)

    # Health

    def target_groups(self) -> list[Any]:
        """The attached target groups that are still there."""
        return [self._known[arn] for arn in self.group.target_group_arns if arn in self._known]

    def targets(self, arn: str) -> dict[str, str]:
        """States of a target group's targets by instance id; asked for once a round."""
        if arn not in self._targets:
            balancers: Any = self.region.loops["LoadBalancers"]
            self._targets[arn] = {target_id: health.state for (target_id, _), health in balancers.health(arn).items()}
        return self._targets[arn]

    @property
    def checks_load_balancer(self) -> bool:
        return "ELB" in (self.group.health_check_type or "")

    def unhealthy_at_load_balancer(self, member: Member) -> bool:
        return any(self.targets(group.arn).get(member.instance.id) == "unhealthy" for group in self.target_groups())

    def draining(self, member: Member) -> bool:
        return any(self.targets(group.arn).get(member.instance.id) == "draining" for group in self.target_groups())

    def graced(self, member: Member) -> bool:
        """Whether the health check grace period, which starts on entering service, is over."""
        return self.now - (member.in_service_since or 0.0) >= (self.group.health_check_grace_period or 0)

    def sound(self, member: Member) -> bool:
        """In service, and every health check of the group passes."""
        if not member.active or member.lifecycle_state != "InService" or member.health_status != "Healthy":
            return False
        if member.instance.state != "running":
            return False
        if not self.checks_load_balancer:
            return True
        return all(self.targets(group.arn).get(member.instance.id, "unused") in SOUND_TARGET for group in self.target_groups())

    def warm(self, member: Member) -> bool:
        """Whether its warmup is over: the refresh's for what that launched, the group's for all others."""
        refresh = self.refresh
        seconds = refresh.warmup if refresh and member.generation == refresh.generation else warmup_of(self.group)
        return member.in_service_since is not None and self.now - member.in_service_since >= seconds

    def ready(self, member: Member) -> bool:
        """In service, healthy and warm: what the lower bound of a replacement counts."""
        return self.sound(member) and self.warm(member)

    # Launching

    @property
    def owed(self) -> list[str]:
        """Why the next launches take place, where it is not for a change of capacity."""
        found: list[str] = vars(self.group).setdefault("owed_causes", [])
        return found

    @property
    def may_launch(self) -> bool:
        return not self.suspended("Launch") and self.now >= getattr(self.group, "launch_after", 0)
