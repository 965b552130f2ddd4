"""Calls about single members of a group: standby, attaching and detaching, protection, health, termination.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-detach-attach-instances.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import ASG_NAME_TAG
from moto.core.responses import ActionResult, EmptyResult

from twin.region.activities import ScalingActivity, record, said
from twin.region.groups import group_of
from twin.region.members import Member, find, leave
from twin.region.patch import replace
from twin.region.region import Region


def install(region: Region) -> None:
    _install_standby(region)
    _install_attachment(region)
    _install_termination(region)
    _install_marks(region)


def _named(response: Any, *states: str) -> tuple[Any, list[Member]]:
    """The group of a request and its members that are named, which must be in one of `states`, if any are given."""
    group = group_of(response, response._get_param("AutoScalingGroupName"))
    known = {member.instance.id: member for member in group.instance_states}
    found = []
    for instance_id in response._get_param("InstanceIds", []) or []:
        member = known.get(instance_id)
        if member is None:
            raise ValidationError(f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
        if states and (member.lifecycle_state not in states or member.termination_cause is not None):
            raise ValidationError(f"The instance {instance_id} is not in {' or '.join(states)}.")
        found.append(member)
    return group, found


def _fit(group: Any, number: int, wanted: int, what: str) -> None:
    if not group.min_size <= wanted <= group.max_size:
        sizes = f"min-size={group.min_size}, max-size={group.max_size}, and desired-size={group.desired_capacity}"
        instances = f"{number} instance{'' if number == 1 else 's'}"
        raise ValidationError(
            f"AutoScalingGroup {group.name} has {sizes}. To {what} {instances}, "
            "please update the AutoScalingGroup sizes appropriately."
        )


def _move(group: Any, member: Member, words: str, sentence: str, step: int) -> ScalingActivity:
    """Begin the activity of a move that changes the desired capacity by `step`."""
    before = group.desired_capacity
    group.desired_capacity = before + step
    grows = "increasing" if step > 0 else "shrinking"
    change = f", {grows} the capacity from {before} to {group.desired_capacity}." if step else "."
    activity = record(group, f"{words}: {member.instance_id}", said(f"{sentence}{change}"))
    activity.locate(member.availability_zone, member.instance.subnet_id)
    return activity


def _install_standby(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "enter_standby")
    def enter_standby(self: Any) -> Any:
        group, found = _named(self, "InService")
        decrement = self._get_bool_param("ShouldDecrementDesiredCapacity", False)
        if decrement:
            _fit(group, len(found), group.desired_capacity - len(found), "place into standby")
        moves = []
        for member in found:
            sentence = f"instance {member.instance_id} was moved to standby in response to a user request"
            member.moving = _move(group, member, "Moving EC2 instance to Standby", sentence, -1 if decrement else 0)
            member.lifecycle_state, member.hooked, member.outgoing, member.replaces = "EnteringStandby", False, "", ""
            moves.append(member.moving)
        region.wake("AutoScaling")
        return ActionResult({"Activities": moves})

    @replace(responses.AutoScalingResponse, "exit_standby")
    def exit_standby(self: Any) -> Any:
        group, found = _named(self, "Standby")
        _fit(group, len(found), group.desired_capacity + len(found), "move out of standby")
        moves = []
        for member in found:
            sentence = f"instance {member.instance_id} was moved out of standby in response to a user request"
            member.moving = _move(group, member, "Moving EC2 instance out of Standby", sentence, 1)
            member.moving.pass_to("PreInService", 30)
            member.lifecycle_state, member.hooked = "Pending", False
            moves.append(member.moving)
        region.wake("AutoScaling")
        return ActionResult({"Activities": moves})


def _install_attachment(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "attach_instances")
    def attach_instances(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        instances = [_attachable(region, self, group, each) for each in self._get_param("InstanceIds", []) or []]
        _fit(group, len(instances), group.desired_capacity + len(instances), "attach")
        for instance in instances:
            member = Member(instance, group, bool(group.new_instances_protected_from_scale_in), None)
            sentence = f"an instance was attached in response to a user request. Instance {instance.id} was attached"
            member.moving = member.activity = _move(group, member, "Attaching an existing EC2 instance", sentence, 1)
            region.ec2.create_tags([instance.id], {ASG_NAME_TAG: group.name})
            group.instance_states.append(member)
        region.wake("AutoScaling")
        return EmptyResult()

    @replace(responses.AutoScalingResponse, "detach_instances")
    def detach_instances(self: Any) -> Any:
        group, found = _named(self, "InService", "Standby")
        decrement = self._get_bool_param("ShouldDecrementDesiredCapacity", False)
        counted = [member for member in found if member.lifecycle_state == "InService"]
        if decrement:
            _fit(group, len(counted), group.desired_capacity - len(counted), "detach")
        moves = []
        for member in found:
            sentence = f"instance {member.instance_id} was detached in response to a user request"
            step = -1 if decrement and member in counted else 0
            member.moving = _move(group, member, "Detaching EC2 instance", sentence, step)
            member.lifecycle_state, member.hooked, member.outgoing, member.replaces = "Detaching", False, "", ""
            moves.append(member.moving)
        region.wake("AutoScaling")
        return ActionResult({"Activities": moves})


def _attachable(region: Region, response: Any, group: Any, instance_id: str) -> Any:
    instance = region.ec2.get_instance_by_id(instance_id)
    if instance is None:
        raise ValidationError(f"Invalid Instance ID: {instance_id}")
    if instance.state != "running":
        raise ValidationError(f"Instance {instance_id} is not in correct state. Instance(s) must be in 'running' state.")
    for other in response.autoscaling_backend.autoscaling_groups.values():
        if any(member.instance.id == instance_id for member in other.instance_states):
            raise ValidationError(f"Instance {instance_id} is already part of AutoScalingGroup:{other.name}")
    if instance.placement.zone not in group.availability_zones:
        raise ValidationError(f"Instance {instance_id} is not in an Availability Zone of the AutoScalingGroup {group.name}")
    return instance


def _install_termination(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "terminate_instance_in_auto_scaling_group")
    def terminate_instance_in_auto_scaling_group(self: Any) -> Any:
        if self._get_param("InstanceIds"):
            raise ValidationError("Terminating several instances in one call is not supported by the twin.")
        group, member = find(self.autoscaling_backend, self._get_param("InstanceId"))
        if member.lifecycle_state.startswith("Terminating"):
            raise AutoscalingClientError(
                "ScalingActivityInProgress", f"Activity is in progress: instance {member.instance_id} is being terminated."
            )
        decrement = self._get_bool_param("ShouldDecrementDesiredCapacity", False)
        before, change = group.desired_capacity, "."
        if decrement:
            if before - 1 < group.min_size:
                raise ValidationError(
                    f"Currently, desiredSize equals minSize ({group.min_size}). "
                    "Terminating instance without replacement will violate group's min size constraint. "
                    "Either set shouldDecrementDesiredCapacity flag to false or lower group's min size."
                )
            group.desired_capacity = before - 1
            change = f", shrinking the capacity from {before} to {before - 1}."
        cause = said(f"instance {member.instance_id} was taken out of service in response to a user request{change}")
        activity = leave(group, member, cause)
        region.wake("AutoScaling")
        return ActionResult({"Activity": activity})


def _install_marks(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "set_instance_health")
    def set_instance_health(self: Any) -> Any:
        group, member = find(self.autoscaling_backend, self._get_param("InstanceId"))
        status = self._get_param("HealthStatus")
        if status not in ("Healthy", "Unhealthy"):
            raise ValidationError("Valid instance health states are: [Healthy, Unhealthy].")
        respects = self._get_bool_param("ShouldRespectGracePeriod", True)
        since = member.in_service_since
        graced = since is not None and region.clock() - since >= (group.health_check_grace_period or 0)
        if status == "Healthy" or graced or not respects:
            member.health_status, member.unhealthy_because = status, ""
        region.wake("AutoScaling")
        return EmptyResult()

    @replace(responses.AutoScalingResponse, "set_instance_protection")
    def set_instance_protection(self: Any) -> Any:
        _, found = _named(self)
        for member in found:
            member.protected_from_scale_in = self._get_bool_param("ProtectedFromScaleIn", False)
        region.wake("AutoScaling")
        return EmptyResult()
