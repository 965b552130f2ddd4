"""Faults that hold in the region until they are lifted; plain data, which the parts concerned ask for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Faults:
    """`dark` zones have no power: nothing runs or starts there. `no_capacity` zones refuse launches and starts."""

    dark: set[str] = field(default_factory=set)
    no_capacity: set[str] = field(default_factory=set)

    def refuses_launch(self, zone: str, *askers: str) -> bool:
        """Whether EC2 answers InsufficientInstanceCapacity for the zone, by name (us-east-1a), to one of `askers`: ARNs of
        the Auto Scaling group or of the role that launches."""
        return zone in self.dark or zone in self.no_capacity
