"""Scaling activities: what DescribeScalingActivities says of every launch and every departure, in AWS's words.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-verify-scaling-activity.html
"""

from __future__ import annotations

import json
from collections import deque
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random as random

KEPT = 100  # AWS keeps six weeks of them


def said(sentence: str) -> str:
    """A sentence of a cause, dated as AWS dates it."""
    return f"At {utcnow():%Y-%m-%dT%H:%M:%SZ} {sentence}"


class ScalingActivity:
    """One entry of DescribeScalingActivities. `cause` is a sentence, or several that are dated already."""

    def __init__(self, group: Any, description: str, cause: str) -> None:
        self.activity_id = str(random.uuid4())
        self.auto_scaling_group_name = group.name
        self.auto_scaling_group_arn = group.arn
        self.description = description
        self.cause = cause if cause.startswith("At ") else said(cause)
        self.start_time: datetime = utcnow()
        self.end_time: datetime | None = None
        self.status_code = "InProgress"
        self.status_message: str | None = None
        self.progress = 50
        self.details = "{}"

    def locate(self, zone: str, subnet_id: str | None) -> None:
        """Say where it happens."""
        self.details = json.dumps({"Subnet ID": subnet_id or "", "Availability Zone": zone}, separators=(",", ":"))

    def pass_to(self, status: str, progress: int) -> None:
        """Move to another state that is not the end."""
        if self.end_time is None:
            self.status_code, self.progress = status, progress

    def succeed(self) -> None:
        self._end("Successful")

    def fail(self, message: str) -> None:
        self._end("Failed", message)

    def cancel(self, message: str) -> None:
        self._end("Cancelled", message)

    def _end(self, status: str, message: str | None = None) -> None:
        self.status_code, self.progress, self.end_time, self.status_message = status, 100, utcnow(), message


def record(group: Any, description: str, cause: str) -> ScalingActivity:
    """Begin an activity of the group."""
    activity = ScalingActivity(group, description, cause)
    activities(group).appendleft(activity)
    return activity


def activities(group: Any) -> deque[ScalingActivity]:
    """The group's activities, newest first."""
    if not hasattr(group, "scaling_activities"):
        group.scaling_activities = deque(maxlen=KEPT)
    found: deque[ScalingActivity] = group.scaling_activities
    return found


def record_termination(group: Any, member: Any, cause: str) -> ScalingActivity:
    """Begin the activity of a member's termination, once."""
    ended: ScalingActivity | None = getattr(member, "activity_end", None)
    if ended is None:
        ended = record(group, f"Terminating EC2 instance: {member.instance.id}", cause)
        ended.locate(member.instance.placement.zone, member.instance.subnet_id)
        member.activity_end = ended
    return ended


def in_order(found: list[ScalingActivity]) -> list[ScalingActivity]:
    """As AWS lists them: what goes on first, then by start, newest first."""
    return sorted(found, key=lambda entry: (entry.end_time is None, entry.start_time), reverse=True)
