"""What happens by the wall clock: Auto Scaling's scheduled actions and EventBridge's scheduled rules.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
"""

from __future__ import annotations

import logging
from typing import Any

from twin.control.loop import WallClockLoop
from twin.control.policies import suspended
from twin.region import cron, events
from twin.region.autoscaling import change_capacity
from twin.region.scheduled_actions import next_run
from twin.region.timestamps import moment

log = logging.getLogger(__name__)

_LATE = 120.0  # a run that was missed by more than this, because no twin ran, is not made up for


class Schedules(WallClockLoop):
    """Carries out scheduled actions and EventBridge's scheduled rules when they are due."""

    period = 1.0

    def tick(self) -> None:
        now = self.now()
        with self.region.records():
            self._actions(now)
            for bus in self.region.backend("events").event_buses.values():
                for rule in list(bus.rules.values()):
                    if rule.scheduled_expression:
                        self._rule(rule, now)

    def _actions(self, now: float) -> None:
        backend = self.region.backend("autoscaling")
        for key, action in list(backend.scheduled_actions.items()):
            group = backend.autoscaling_groups.get(action.auto_scaling_group_name)
            due = getattr(action, "next_run", None)
            if group is None or due is None:  # its group, or its time, is gone
                del backend.scheduled_actions[key]
                continue
            if due > now:
                continue
            action.next_run = next_run(action, now)
            if action.next_run is None:
                del backend.scheduled_actions[key]
            else:
                action.time = action.start_time = moment(action.next_run)
            if now - due <= _LATE and not suspended(group, "ScheduledActions"):
                self._execute(group, action)

    def _execute(self, group: Any, action: Any) -> None:
        """What the action leaves out stays; a desired capacity that no longer fits moves to the nearer bound."""
        low = group.min_size if action.min_size is None else action.min_size
        high = group.max_size if action.max_size is None else action.max_size
        if low > high:
            log.error("%s: its minimum would be above its maximum", action.scheduled_action_name)
            return
        group.min_size, group.max_size = low, high
        before = int(group.desired_capacity)
        wanted = max(low, min(high, before if action.desired_capacity is None else action.desired_capacity))
        if wanted != before:
            cause = (
                f"a scheduled action update of AutoScalingGroup constraints to min: {low}, max: {high}, desired: {wanted} "
                f"changing the desired capacity from {before} to {wanted}."
            )
            change_capacity(self.region, group, wanted, cause)

    def _rule(self, rule: Any, now: float) -> None:
        if rule.state != "ENABLED":
            rule.next_run = None
            return
        due = getattr(rule, "next_run", None)
        if due is None:  # new, or enabled again
            rule.next_run = _next(rule.scheduled_expression, now)
            return
        if due > now:
            return
        rule.next_run = _next(rule.scheduled_expression, max(due, now - _LATE))
        events.run_scheduled(self.region, rule, due)


def _next(expression: str, after: float) -> float | None:
    if expression.startswith("rate("):
        return after + cron.rate(expression)
    found = cron.eventbridge(expression).following(moment(after))
    return (found - moment(0)).total_seconds() if found else None
