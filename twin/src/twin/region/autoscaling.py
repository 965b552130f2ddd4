"""Auto Scaling whose API only records what is wanted; the control loop launches and terminates."""

from __future__ import annotations

from collections import deque
from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random as random

from twin.region.patch import replace, wrap
from twin.region.region import Region

# Parameters of Create- and UpdateAutoScalingGroup that moto does not keep: parameter, attribute, default.
_KEPT = (
    ("DefaultInstanceWarmup", "default_instance_warmup", None),
    ("AvailabilityZoneDistribution", "availability_zone_distribution", {"CapacityDistributionStrategy": "balanced-best-effort"}),
    ("InstanceMaintenancePolicy", "instance_maintenance_policy", None),
    ("MaxInstanceLifetime", "max_instance_lifetime", None),
)
_ACTIVITIES_KEPT = 100  # AWS keeps six weeks of them


class ScalingActivity:
    """One entry of DescribeScalingActivities.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html
    """

    def __init__(self, group: Any, description: str, cause: str) -> None:
        self.activity_id = random.uuid4()
        self.auto_scaling_group_name = group.name
        self.auto_scaling_group_arn = group.arn
        self.description = description
        self.cause = f"At {utcnow():%Y-%m-%dT%H:%M:%SZ} {cause}"
        self.start_time = utcnow()
        self.end_time: Any = None
        self.status_code = "InProgress"
        self.status_message: str | None = None
        self.progress = 50

    def succeed(self) -> None:
        self.status_code, self.progress, self.end_time = "Successful", 100, utcnow()

    def fail(self, message: str) -> None:
        self.status_code, self.progress, self.end_time, self.status_message = "Failed", 100, utcnow(), message


def record(group: Any, description: str, cause: str) -> ScalingActivity:
    """Begin an activity of the group."""
    activity = ScalingActivity(group, description, cause)
    activities(group).appendleft(activity)
    return activity


def activities(group: Any) -> deque[ScalingActivity]:
    """The group's activities, newest first."""
    if not hasattr(group, "scaling_activities"):
        group.scaling_activities = deque(maxlen=_ACTIVITIES_KEPT)
    found: deque[ScalingActivity] = group.scaling_activities
    return found


def change_capacity(region: Region, group: Any, wanted: int, cause: str) -> None:
    """Set the desired capacity on someone's behalf. `cause` is what the activities that follow say of it, in AWS's words,
    as in "a user request explicitly set group desired capacity changing the desired capacity from 1 to 3."."""
    group.desired_capacity = wanted
    group.capacity_cause = f"At {utcnow():%Y-%m-%dT%H:%M:%SZ} {cause}"
    region.wake("AutoScaling")


def install(region: Region) -> None:
    _install_capacity(region)
    _install_membership(region)
    _install_parameters()


def _install_capacity(region: Region) -> None:
    @replace(models.FakeAutoScalingGroup, "set_desired_capacity")
    def set_desired_capacity(self: Any, new_capacity: int | None) -> None:
        wanted = self.min_size if new_capacity is None else new_capacity
        if wanted < self.min_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is below min value {self.min_size} for the AutoScalingGroup."
            )
        if wanted > self.max_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is above max value {self.max_size} for the AutoScalingGroup."
            )
        self.desired_capacity = wanted
        region.wake("AutoScaling")

    @replace(models.AutoScalingBackend, "update_attached_target_groups")
    def update_attached_target_groups(self: Any, group_name: str) -> None:
        region.wake("AutoScaling")  # the loop registers instances once they are in service

    @replace(responses.AutoScalingResponse, "delete_auto_scaling_group")
    def delete_auto_scaling_group(self: Any) -> Any:
        group = _group(self, self._get_param("AutoScalingGroupName"))
        if group.instance_states and not self._get_bool_param("ForceDelete", False):
            raise AutoscalingClientError(
                "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances still in the group."
            )
        group.status = "Delete in progress"
        if not group.instance_states:
            self.autoscaling_backend.autoscaling_groups.pop(group.name)
        region.wake("AutoScaling")
        return EmptyResult()

    @replace(responses.AutoScalingResponse, "describe_scaling_activities")
    def describe_scaling_activities(self: Any) -> Any:
        name = self._get_param("AutoScalingGroupName")
        wanted = set(self._get_param("ActivityIds", []) or [])
        groups = [_group(self, name)] if name else list(self.autoscaling_backend.autoscaling_groups.values())
        found = [entry for group in groups for entry in activities(group) if not wanted or str(entry.activity_id) in wanted]
        found.sort(key=lambda entry: entry.start_time, reverse=True)
        return ActionResult({"Activities": found[: self._get_int_param("MaxRecords") or _ACTIVITIES_KEPT]})


def _install_membership(region: Region) -> None:
    @property  # type: ignore[misc]
    def launch_template(self: Any) -> dict[str, Any] | None:
        """The version that the instance was launched from, where moto shows the template's default."""
        template = self.auto_scaling_group.ec2_launch_template
        if template is None:
            return None
        version = getattr(self.instance, "launch_template_version", template.default_version_number)
        return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": str(version)}

    models.InstanceState.launch_template = launch_template  # type: ignore[method-assign]

    @replace(models.AutoScalingBackend, "terminate_instance")
    def terminate_instance(self: Any, instance_id: str, should_decrement: bool) -> Any:
        for group in self.autoscaling_groups.values():
            for member in group.instance_states:
                if member.instance.id == instance_id:
                    if should_decrement and group.desired_capacity - 1 < group.min_size:
                        raise ValidationError(
                            f"Currently, desiredSize equals minSize ({group.min_size}). "
                            "Terminating instance without replacement will violate group's min size constraint."
                        )
                    if should_decrement:
                        group.desired_capacity -= 1
                    cause = f"instance {instance_id} was taken out of service in response to a user request."
                    member.termination_cause = cause
                    region.wake("AutoScaling")
                    return record_termination(group, member, cause)
        raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")

    @wrap(models.AutoScalingBackend, "set_instance_health")
    def set_instance_health(original: Any, self: Any, *args: Any) -> Any:
        try:
            result = original(self, *args)
        except StopIteration:
            raise ValidationError(f"Instance Id not found - No managed instance found for instance ID {args[0]}") from None
        region.wake("AutoScaling")
        return result


def record_termination(group: Any, member: Any, cause: str) -> ScalingActivity:
    """Begin the activity of a member's termination, once."""
    if not hasattr(member, "activity_end"):
        member.activity_end = record(group, f"Terminating EC2 instance: {member.instance.id}", cause)
    ended: ScalingActivity = member.activity_end
    return ended


def _install_parameters() -> None:
    def keep(self: Any, creating: bool) -> None:
        group = _group(self, self._get_param("AutoScalingGroupName"))
        for parameter, attribute, default in _KEPT:
            value = self._get_params().get(parameter)
            if value is not None:
                setattr(group, attribute, _numbers(value))
            elif creating:
                setattr(group, attribute, default)

    @wrap(responses.AutoScalingResponse, "create_auto_scaling_group")
    def create_auto_scaling_group(original: Any, self: Any) -> Any:
        if self._get_param("AutoScalingGroupName") in self.autoscaling_backend.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name already exists"
            )
        result = original(self)
        keep(self, creating=True)
        return result

    @wrap(responses.AutoScalingResponse, "update_auto_scaling_group")
    def update_auto_scaling_group(original: Any, self: Any) -> Any:
        result = original(self)
        keep(self, creating=False)
        return result


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def _group(response: Any, name: str) -> Any:
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return group
