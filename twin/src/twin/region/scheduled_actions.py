"""Scheduled actions as records: one name a group, with AWS's checks; the loop `Schedules` executes them.

moto keys them by name alone, over all groups, and checks and executes nothing.
"""

from __future__ import annotations

import time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from moto.autoscaling import models
from moto.autoscaling.exceptions import ValidationError

from twin.region import cron
from twin.region.patch import replace
from twin.region.region import Region
from twin.region.timestamps import epoch, moment

_KEPT = ("desired_capacity", "max_size", "min_size", "start_time", "end_time", "recurrence", "time_zone")


def install(region: Region) -> None:
    @replace(models.AutoScalingBackend, "put_scheduled_update_group_action")
    def put_scheduled_update_group_action(
        self: Any,
        name: str,
        desired_capacity: Any,
        max_size: Any,
        min_size: Any,
        scheduled_action_name: str,
        start_time: Any,
        end_time: Any,
        recurrence: str | None,
        timezone: str | None,
    ) -> Any:
        if name not in self.autoscaling_groups:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        action: Any = models.FakeScheduledAction(  # type: ignore[abstract]  # moto's are never asked for what is abstract
            autos_caling_group_name=name,
            desired_capacity=_integer(desired_capacity),
            max_size=_integer(max_size),
            min_size=_integer(min_size),
            scheduled_action_name=scheduled_action_name,
            start_time=_time(start_time),
            end_time=_time(end_time),
            recurrence=recurrence,
            time_zone=timezone,
        )
        action.scheduled_action_arn = (
            f"arn:aws:autoscaling:{self.region_name}:{self.account_id}:scheduledUpdateGroupAction:"
            f"*:autoScalingGroupName/{name}:scheduledActionName/{scheduled_action_name}"
        )
        key = f"{name}/{scheduled_action_name}"
        before = self.scheduled_actions.get(key)
        if before is not None:  # what an update leaves out stays as it is
            for attribute in _KEPT:
                if getattr(action, attribute) is None:
                    setattr(action, attribute, getattr(before, attribute))
        _check(action, before)
        action.next_run = next_run(action, time.time())
        action.time = action.start_time = action.start_time or moment(action.next_run)
        self.scheduled_actions[key] = action
        region.wake("Schedules")
        return action

    @replace(models.AutoScalingBackend, "delete_scheduled_action")
    def delete_scheduled_action(self: Any, auto_scaling_group_name: str, scheduled_action_name: str) -> None:
        if self.scheduled_actions.pop(f"{auto_scaling_group_name}/{scheduled_action_name}", None) is None:
            raise ValidationError("Scheduled action name not found")


def next_run(action: Any, after: float) -> float | None:
    """When the action is due next, in seconds since 1970; None when never again."""
    start = epoch(action.start_time) if action.start_time else None
    end = epoch(action.end_time) if action.end_time else None
    if not action.recurrence:
        due = start if start is not None and start > after - 1 else None
    else:
        zone = ZoneInfo(action.time_zone or "UTC")
        # The start itself may be the first minute.
        earliest = max(after, start - 60) if start is not None else after
        local = moment(earliest).replace(tzinfo=ZoneInfo("UTC")).astimezone(zone)
        found = cron.unix(action.recurrence).following(local.replace(tzinfo=None))
        due = found.replace(tzinfo=zone).timestamp() if found else None
    return due if due is not None and (end is None or due <= end) else None


def _check(action: Any, before: Any) -> None:
    if action.desired_capacity is None and action.min_size is None and action.max_size is None:
        raise ValidationError("At least one of MinSize, MaxSize and DesiredCapacity must be specified.")
    if action.min_size is not None and action.max_size is not None and action.min_size > action.max_size:
        raise ValidationError("MinSize must not be greater than MaxSize.")
    if action.time_zone is not None:
        try:
            ZoneInfo(action.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValidationError(f"Given time zone {action.time_zone} is not a valid IANA time zone.") from None
        if not action.recurrence:
            raise ValidationError("TimeZone can only be specified with Recurrence.")
    if action.recurrence:
        try:
            cron.unix(action.recurrence)
        except cron.InvalidSchedule:
            raise ValidationError(f"Given recurrence string: {action.recurrence} is invalid") from None
    elif action.start_time is None:
        raise ValidationError("StartTime or Recurrence must be specified.")
    unchanged = before is not None and before.start_time == action.start_time
    if action.start_time is not None and not unchanged and epoch(action.start_time) < time.time():
        raise ValidationError("Given start time is in the past")
    if action.end_time is not None:
        if epoch(action.end_time) < time.time():
            raise ValidationError("Given end time is in the past")
        if action.start_time is not None and epoch(action.end_time) <= epoch(action.start_time):
            raise ValidationError("EndTime must be later than StartTime.")


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _time(value: Any) -> Any:
    return None if value is None else moment(epoch(value))
