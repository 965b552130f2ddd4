"""How far an instance refresh, or its rollback, has come: which members are old, which are new, and what is left."""

from __future__ import annotations

from twin.control import replacement
from twin.control.group_round import Round
from twin.region.instance_refresh import InstanceRefresh
from twin.region.members import PENDING, Member


class Progress:
    """Of one round. `olds` are yet to be replaced, `replaceable` those that may be; `hindering` are protected or in standby
    and waited for; `fresh` were launched by the refresh."""

    def __init__(self, current: Round, refresh: InstanceRefresh) -> None:
        self.current = current
        self.refresh = refresh
        forward = refresh.status != "RollbackInProgress"
        protected_as = refresh.preferences.protected if forward else "Refresh"
        active = current.active()
        targets = [member for member in active if member.instance_id in refresh.targets]
        protected = [member for member in targets if member.protected_from_scale_in and protected_as != "Refresh"]
        self.standby = [
            member
            for member in current.members
            if forward
            and member.instance_id in refresh.targets
            and member.lifecycle_state in ("Standby", "EnteringStandby")
            and member.termination_cause is None
        ]
        waited_for = self.standby if refresh.preferences.standby == "Wait" else []
        self.hindering = [*(protected if protected_as == "Wait" else []), *waited_for]
        ignored = protected if protected_as == "Ignore" else []
        self.links = replacement.links(current)
        self.replaceable = [member for member in targets if member not in protected and member.instance_id not in self.links]
        self.olds = [*(member for member in targets if member not in ignored), *waited_for]
        self.fresh = [member for member in active if member.generation == refresh.generation]
        self.unready = [member for member in self.fresh if not current.ready(member)]
        kept = len(active) - len(targets) - len(self.fresh)
        self.size = max(0, current.wanted - len(ignored) - kept + len(waited_for))
        self.to_update = min(self.size, max(len(self.olds), self.size - (len(self.fresh) - len(self.unready))))

    @property
    def percentage(self) -> int:
        return 100 * (self.size - self.to_update) // self.size if self.size else 100

    @property
    def started(self) -> int:
        """How many replacements have begun, done ones included."""
        return max(0, self.size - sum(1 for member in self.olds if member.instance_id not in self.links))

    @property
    def reached(self) -> int:
        """How many checkpoints are behind: replaced and warm instances count."""
        done = self.size - self.to_update
        return sum(1 for point in self.refresh.preferences.checkpoints if point * self.size <= 100 * done)

    def allowed(self, passed: int) -> int:
        """How many replacements may have begun before the next checkpoint."""
        points = self.refresh.preferences.checkpoints
        point = points[min(passed, len(points) - 1)] if points else 100
        return -(-point * self.size // 100)

    def complete(self, passed: int) -> bool:
        """Whether all is replaced, or as much as the last checkpoint asks for."""
        points = self.refresh.preferences.checkpoints
        return not self.links and (passed == len(points) if points else self.to_update == 0)

    def next(self, most: int) -> list[Member]:
        """Those to replace next: from the zone that has the most left, the oldest first."""
        zones: dict[str, list[Member]] = {}
        for member in sorted(self.replaceable, key=lambda member: (member.in_service_since or 0.0, member.instance_id)):
            zones.setdefault(member.availability_zone, []).append(member)
        found: list[Member] = []
        while len(found) < most and any(zones.values()):
            fullest = max(sorted(zones), key=lambda zone: len(zones[zone]))
            found.append(zones[fullest].pop(0))
        return found

    def waiting_for(self) -> str:
        """The status reason, in AWS's words."""
        if not self.unready:
            return ""
        first = self.unready[0]
        if first.lifecycle_state in PENDING:
            return f"Waiting for instances to be in service before continuing. For example: {first.instance_id} is pending."
        if self.current.sound(first):
            return f"Waiting for instances to warm up before continuing. For example: {first.instance_id} is warming up."
        return (
            "Waiting for remaining instances to be available before continuing. "
            f"For example: {first.instance_id} has not passed its health checks."
        )
