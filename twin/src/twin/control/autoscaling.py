"""Auto Scaling groups: keeps each group's desired capacity in service, balanced over its zones, and replaces what fails.

Each round takes every group through the same steps; each step is a module beside this one.
"""

from __future__ import annotations

import logging
from typing import Any

from twin.control import balance, health, hooks, instance_refresh, members, replacement, scaling
from twin.control.group_round import Round
from twin.control.loop import Loop
from twin.region.region import Region

log = logging.getLogger(__name__)


class AutoScaling(Loop):
    """Only records change here: instances are launched and terminated through EC2's own records. What must be remembered
    is in the groups' and members' records, so that nothing is to be found again after a restart."""

    period = 1.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region

    def tick(self) -> None:
        with self.region.records():
            backend = self.region.backend("autoscaling")
            now = self.region.clock()
            for group in list(backend.autoscaling_groups.values()):
                try:
                    self._look(group, now)
                except Exception:
                    # One group that can't be handled must not keep the others from being.
                    log.exception("%s: this round failed; the next one tries again", group.name)
                if getattr(group, "status", None) and not group.instance_states:
                    backend.autoscaling_groups.pop(group.name, None)

    def _look(self, group: Any, now: float) -> None:
        current = Round(self.region, group, now)
        members.observe(current)
        hooks.proceed(current, members.abandon)
        members.register(current)
        health.judge(current)
        health.age(current)
        due = instance_refresh.advance(current)
        balance.rebalance(current)
        replacement.run(current, due)
        scaling.scale(current)
        members.part(current)
