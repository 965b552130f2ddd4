"""Launching members, taking them into service, and letting them go.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from __future__ import annotations

import logging
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG
from moto.core.exceptions import ServiceException

from twin.control import balance, health, hooks
from twin.control.events import instance_event
from twin.control.group_round import RETRY_SECONDS, Round
from twin.region.activities import ScalingActivity, record, record_termination
from twin.region.ec2 import InsufficientInstanceCapacity
from twin.region.instance_refresh import launch_source
from twin.region.lifecycle_hooks import LAUNCHING, TERMINATING
from twin.region.members import PENDING, Member, leave

log = logging.getLogger(__name__)


# Launch


def launch(current: Round, cause: str, replaces: Member | None = None, zones: set[str] | None = None) -> Member | None:
    """Launch one instance in the best zone that has capacity; None when EC2 refused everywhere."""
    tried = False
    for place in balance.choices(current, zones, replaces):
        tried = True
        activity = record(current.group, "Launching a new EC2 instance", cause)
        activity.locate(place.zone, place.subnet_id)
        activity.pass_to("PreInService", 30)
        try:
            member = _run(current, place, activity)
        except InsufficientInstanceCapacity as error:
            activity.fail(f"Could not launch On-Demand Instances. {error.code} - {error.message} Launching EC2 instance failed.")
            balance.refused(current, place.zone)
            _failed(current, activity, None, back_off=False)
            continue
        except (ServiceException, KeyError, AttributeError) as error:
            code, words = getattr(error, "code", "InternalError"), getattr(error, "message", error)
            activity.fail(f"{code}: {words} Launching EC2 instance failed.")
            _failed(current, activity, None)
            return None
        balance.troubles(current.group).pop(place.zone, None)
        if replaces:
            member.replaces = replaces.instance_id
        return member
    if not tried:
        log.debug("%s: no zone to launch in", current.group.name)
    return None


def _run(current: Round, place: balance.Place, activity: ScalingActivity) -> Member:
    group = current.group
    template, version, configuration, instance_type = launch_source(group)
    options: dict[str, Any] = {}
    if template is not None:
        image_id, user_data = version.image_id, version.user_data
        options["launch_template"] = {"LaunchTemplateId": template.id, "Version": version.number}
        options["security_group_ids"] = list(version.data.get("SecurityGroupIds") or [])
        names: list[str] = []
    else:
        image_id, user_data, names = configuration.image_id, configuration.user_data, configuration.security_groups
        options["iam_instance_profile"] = configuration.iam_instance_profile
        options["key_name"] = configuration.key_name
    reservation = current.region.ec2.run_instances(
        image_id,
        1,
        user_data,
        names,
        instance_type=instance_type,
        is_instance_type_default=False,
        region_name=current.region.settings.region,
        **({"subnet_id": place.subnet_id} if place.subnet_id else {"placement": place.zone}),
        asker=group.arn,
        tags={"instance": {ASG_NAME_TAG: group.name, **group.get_propagated_tags()}},
        **options,
    )
    instance = reservation.instances[0]
    activity.description = f"Launching a new EC2 instance: {instance.id}"
    member = Member(instance, group, bool(group.new_instances_protected_from_scale_in), activity)
    if template is not None:
        instance.launch_template_version = version.number
        member.template_id = template.id
    refresh = current.refresh
    member.generation = refresh.generation if refresh else ""
    current.members.append(member)
    return member


def _failed(current: Round, activity: ScalingActivity, member: Member | None, back_off: bool = True) -> None:
    """What follows from a launch that failed: an event, a pause, and a refresh that knows of it."""
    group = current.group
    if back_off:
        failures = getattr(group, "failed_launches", 0)
        group.failed_launches = failures + 1
        group.launch_after = current.now + RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
    if current.refresh:
        current.refresh.trouble(current.now, f"Failed to launch instance: {activity.status_message}")
    instance_event(current.region, group, "EC2 Instance Launch Unsuccessful", activity, member)
    log.warning("%s: a launch failed: %s", group.name, activity.status_message)


# Into service


def observe(current: Round) -> None:
    """Follow the instances' states."""
    for member in list(current.members):
        state = member.instance.state
        if member.lifecycle_state in PENDING and state in ("shutting-down", "terminated", "stopping", "stopped"):
            _died_before_service(current, member)
        if state == "terminated":
            if member.active:
                member.unhealthy_because = health.why_gone(member.instance)
                leave(current.group, member, health.cause(member))
                current.owed.append(health.LAUNCHED_FOR_UNHEALTHY)
            _gone(current, member)
        elif member.lifecycle_state == "Pending" and state == "running" and member.termination_cause is None:
            if not hooks.begin(current, member, LAUNCHING):
                enter_service(current, member)
        elif member.lifecycle_state == "Pending:Proceed" and member.termination_cause is None:
            enter_service(current, member)


def enter_service(current: Round, member: Member) -> None:
    member.lifecycle_state = "InService"
    member.in_service_since = current.now
    member.hooked = False
    current.group.failed_launches = 0
    activity = member.moving or member.activity
    member.moving = None
    if activity and activity.end_time is None:
        instance_event(current.region, current.group, "EC2 Instance Launch Successful", activity, member)
        activity.succeed()


def _died_before_service(current: Round, member: Member) -> None:
    reason = getattr(member.instance.state_reason, "message", "") or "the instance was terminated"
    activity = member.activity
    if activity and activity.end_time is None:
        activity.fail(
            f"Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: {reason}"
        )
        _failed(current, activity, member)
    leave(current.group, member, "an instance was taken out of service in response to a launch that failed.")


def abandon(current: Round, member: Member, token: str, why: str) -> None:
    """End a launch whose lifecycle action was abandoned."""
    activity = member.activity
    if activity and activity.end_time is None:
        activity.cancel(
            f"Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {token} was abandoned: {why}"
        )
        _failed(current, activity, member)
    leave(
        current.group,
        member,
        f"an instance was taken out of service in response to its lifecycle action being abandoned: {why}.",
    )


# Registration


def register(current: Round) -> None:
    """Register what is in service with every attached target group, once."""
    if current.suspended("AddToLoadBalancer"):
        return
    groups = current.target_groups()
    arns = {group.arn for group in groups}
    for member in current.members:
        if member.lifecycle_state != "InService" or member.termination_cause is not None or not arns - member.registered:
            continue
        if member.instance.state != "running":
            continue
        for group in groups:
            if group.arn not in member.registered:
                target = {"Id": member.instance.id, "Port": group.port}
                try:
                    current.region.backend("elbv2").register_targets(group.arn, [target])
                except ServiceException as error:
                    log.warning("%s: %s was not registered: %s", current.group.name, member.instance.id, error)
                member.registered.add(group.arn)


def deregister(current: Round, member: Member) -> None:
    for group in current.target_groups():
        target = {"Id": member.instance.id, "Port": group.port}
        current.region.backend("elbv2").deregister_targets(group.arn, [target])
    current._targets.clear()  # its state has changed with that
    member.registered = set()


# Away


def part(current: Round) -> None:
    """Take those that leave through draining and hooks to their end."""
    for member in list(current.members):
        if member.termination_cause is not None:
            _terminate(current, member)
        elif member.lifecycle_state in ("EnteringStandby", "Detaching"):
            if not member.hooked:
                member.hooked = True
                deregister(current, member)
            if current.draining(member):
                _say(member.moving, "WaitingForELBConnectionDraining", 60)
            elif member.lifecycle_state == "EnteringStandby":
                member.lifecycle_state, member.hooked = "Standby", False
                _end(member.moving)
                member.moving = None
            else:
                _detach(current, member)


def _detach(current: Round, member: Member) -> None:
    member.lifecycle_state = "Detached"
    _end(member.moving)
    current.region.ec2.delete_tags([member.instance.id], {ASG_NAME_TAG: current.group.name})
    current.members.remove(member)
    del member.instance.autoscaling_group  # type: ignore[attr-defined]
    member.instance.was_detached = True  # type: ignore[attr-defined]


def _terminate(current: Round, member: Member) -> None:
    """Drain first, then let the hooks wait, then terminate: how-lifecycle-hooks-work in the user guide.

    What does not run any more has nothing to drain.
    """
    instance = member.instance
    if not member.lifecycle_state.startswith("Terminating"):
        never_served = member.in_service_since is None
        member.lifecycle_state, member.hooked = "Terminating", never_served
        if never_served and member.activity and member.activity.end_time is None:
            member.activity.cancel("The instance was terminated before it was in service.")
        deregister(current, member)
    forced = current.deleting
    if member.lifecycle_state == "Terminating":
        if instance.state == "running" and current.draining(member) and not forced:
            _say(member.activity_end, "WaitingForELBConnectionDraining", 60)
            return
        if not forced and hooks.begin(current, member, TERMINATING):
            return
    elif member.lifecycle_state == "Terminating:Wait" and not forced:
        return
    if instance.state not in ("terminated", "shutting-down"):
        _say(member.activity_end, "InProgress", 80)
        try:
            current.region.ec2.terminate_instances([instance.id])
        except ServiceException as error:
            log.warning("%s: %s was not terminated: %s", current.group.name, instance.id, error)


def _gone(current: Round, member: Member) -> None:
    activity = record_termination(
        current.group, member, member.termination_cause or f"instance {member.instance.id} was terminated."
    )
    instance_event(current.region, current.group, "EC2 Instance Terminate Successful", activity, member)
    activity.succeed()
    member.lifecycle_state = "Terminated"
    current.members.remove(member)


def _say(activity: ScalingActivity | None, status: str, progress: int) -> None:
    if activity:
        activity.pass_to(status, progress)


def _end(activity: ScalingActivity | None) -> None:
    if activity:
        activity.succeed()
