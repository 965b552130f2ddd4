"""A group's member: moto's record of an instance in an Auto Scaling group, and what the control loop remembers of it.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import InstanceState

from twin.region.activities import ScalingActivity, record_termination

# States in which a member counts towards the group's capacity.
PENDING = frozenset({"Pending", "Pending:Wait", "Pending:Proceed"})
ACTIVE = PENDING | {"InService"}
# Where the moves lead that are neither into service nor to the end.
STEADY_AFTER = {"EnteringStandby": "Standby", "Standby": "Standby", "Detaching": "Detached", "Detached": "Detached"}


@dataclass
class LifecycleAction:
    """A hook that an instance waits for; times by the region's clock."""

    hook: str
    token: str
    heartbeat: float
    default: str
    deadline: float
    expires: float  # the global timeout, which no heartbeat moves
    result: str = ""
    reason: str = ""


class Member(InstanceState):
    """An instance in a group.

    `termination_cause` is set once it is to be terminated; `outgoing` says why it is to be replaced ("unhealthy",
    "lifetime", "rebalance", "refresh"), and the instance launched before it may go names it in `replaces`. `generation` is
    the instance refresh, or its rollback, that launched it. `registered` are the target groups it was registered with.
    """

    def __init__(self, instance: Any, group: Any, protected: bool, activity: ScalingActivity | None) -> None:
        instance.autoscaling_group = group
        super().__init__(instance, lifecycle_state="Pending", protected_from_scale_in=protected)
        self.availability_zone: str = instance.placement.zone
        self.activity = activity
        self.activity_end: ScalingActivity | None = None
        self.moving: ScalingActivity | None = None  # into or out of standby, or away
        self.termination_cause: str | None = None
        self.unhealthy_because = ""
        self.in_service_since: float | None = None
        self.registered: set[str] = set()
        self.actions: dict[str, LifecycleAction] = {}
        self.hooked = False  # whether the hooks of the transition under way have begun
        self.outgoing = ""
        self.replaces = ""
        self.generation = ""
        self.template_id = ""

    @property
    def launch_template(self) -> dict[str, Any] | None:
        """The version that the instance was launched from, where moto shows the template's default."""
        template = self.instance.ec2_backend.launch_templates.get(self.template_id)
        if template is None:
            return None
        version = str(self.instance.launch_template_version)  # type: ignore[attr-defined]
        return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}

    @property
    def active(self) -> bool:
        """Whether it counts towards the group's capacity."""
        return self.lifecycle_state in ACTIVE and self.termination_cause is None

    @property
    def target_state(self) -> str:
        """The steady state that the instance is in, or on its way to.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
        """
        if self.lifecycle_state.startswith("Terminat") or self.termination_cause is not None:
            return "Terminated"
        return STEADY_AFTER.get(self.lifecycle_state, "InService")


def leave(group: Any, member: Member, cause: str) -> ScalingActivity:
    """Let the control loop drain and terminate a member; `cause` as in record_termination."""
    if member.termination_cause is None:
        member.termination_cause = cause
    return record_termination(group, member, cause)


def find(backend: Any, instance_id: str) -> tuple[Any, Member]:
    """The group and the member of an instance. Raises ValidationError in AWS's words."""
    for group in backend.autoscaling_groups.values():
        for member in group.instance_states:
            if member.instance.id == instance_id:
                return group, member
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
