"""Faults that hold in the region; plain data, which the parts concerned ask for.

The running actions of experiments decide what is in here (control/experiments.py), so a restarted twin finds it again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CapacityFault:
    """Launches in `zones` are refused, `percentage` of them, where one of `targets` asks: ARNs of Auto Scaling groups or
    of roles."""

    zones: frozenset[str]
    targets: frozenset[str]
    percentage: int = 100


@dataclass
class Faults:
    """`dark` zones have no power: nothing runs or starts there. `no_capacity` zones refuse every launch and start.

    `disrupted` subnets, by id, are cut off in a scope of aws:network:disrupt-connectivity. `unavailable` services, by the names
    that boto3 knows, answer no request.
    """

    dark: set[str] = field(default_factory=set)
    no_capacity: set[str] = field(default_factory=set)
    capacity: list[CapacityFault] = field(default_factory=list)
    disrupted: dict[str, str] = field(default_factory=dict)
    unavailable: set[str] = field(default_factory=set)

    def refuses_launch(self, zone: str, *askers: str) -> bool:
        """Whether EC2 answers InsufficientInstanceCapacity for the zone, by name (us-east-1a), to one of `askers`: ARNs of
        the Auto Scaling group or of the role that launches."""
        if zone in self.dark or zone in self.no_capacity:
            return True
        return any(
            zone in fault.zones and not fault.targets.isdisjoint(askers) and random.randrange(100) < fault.percentage  # noqa: S311
            for fault in self.capacity
        )
