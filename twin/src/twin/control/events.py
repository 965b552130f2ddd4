"""What Auto Scaling tells EventBridge.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow

from twin.region.activities import ScalingActivity
from twin.region.members import Member
from twin.region.region import Region

SOURCE = "aws.autoscaling"


def instance_event(region: Region, group: Any, kind: str, activity: ScalingActivity, member: Member | None) -> None:
    """An instance was launched or terminated, or was not."""
    failed = kind.endswith("Unsuccessful")
    detail = {
        "StatusCode": "Failed" if failed else "InProgress",
        "Description": activity.description,
        "AutoScalingGroupName": group.name,
        "ActivityId": activity.activity_id,
        "Details": json.loads(activity.details),
        "RequestId": activity.activity_id,
        "StatusMessage": activity.status_message or "",
        "EndTime": _time(activity.end_time or utcnow()),
        "EC2InstanceId": member.instance.id if member else "",
        "StartTime": _time(activity.start_time),
        "Cause": activity.cause,
    }
    resources = [group.arn]
    if member:
        resources.append(f"arn:aws:ec2:{group.region}:{group.account_id}:instance/{member.instance.id}")
    region.emit(SOURCE, kind, resources, detail)


def refresh_event(region: Region, group: Any, what: str, refresh_id: str, **more: str) -> None:
    """`what` as in "Started": an instance refresh's progress."""
    detail = {"InstanceRefreshId": refresh_id, "AutoScalingGroupName": group.name, **more}
    region.emit(SOURCE, f"EC2 Auto Scaling Instance Refresh {what}", [group.arn], detail)


def lifecycle_event(region: Region, group: Any, detail: dict[str, str]) -> None:
    kind = "launch" if detail["LifecycleTransition"].endswith("LAUNCHING") else "terminate"
    region.emit(SOURCE, f"EC2 Instance-{kind} Lifecycle Action", [group.arn], dict(detail))


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
