"""Auto Scaling groups: keeps each group's desired capacity in service, balanced over its zones, and replaces what fails.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html (distribution over zones)
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG, InstanceState
from moto.core.exceptions import ServiceException

from twin.control.loop import Loop
from twin.region.autoscaling import record, record_termination
from twin.region.region import Region

log = logging.getLogger(__name__)

_DIFFERENCE = "an instance was {} in response to a difference between desired and actual capacity, {} the capacity from {} to {}."
RETRY_SECONDS = (5, 10, 20, 60)  # after failed launches in a row


class AutoScaling(Loop):
    """Only records change here: instances are launched and terminated through EC2's own records."""

    period = 1.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region

    def tick(self) -> None:
        with self.region.records():
            backend = self.region.backend("autoscaling")
            for group in list(backend.autoscaling_groups.values()):
                self._observe(group)
                self._judge(group)
                self._scale(group)
                self._terminate(group)
                if getattr(group, "status", None) and not group.instance_states:
                    backend.autoscaling_groups.pop(group.name)

    def _observe(self, group: Any) -> None:
        """Follow the instances' states: pending ones enter service when they run, terminated ones leave the group."""
        for member in list(group.instance_states):
            state = member.instance.state
            if state == "terminated":
                if member.lifecycle_state == "Pending":
                    self._launch_failed(group, member.instance.state_reason.message)
                    member.activity.fail(member.instance.state_reason.message)
                record_termination(group, member, f"instance {member.instance.id} was terminated.").succeed()
                group.instance_states.remove(member)
            elif member.lifecycle_state == "Pending" and state == "running":
                member.lifecycle_state = "InService"
                member.in_service_since = time.monotonic()
                member.activity.succeed()
                group.failed_launches = 0
                if not _suspended(group, "AddToLoadBalancer"):
                    self._register(group, member)

    def _judge(self, group: Any) -> None:
        """Mark unhealthy what EC2 or the load balancer says has failed, and take it out of service."""
        if _suspended(group, "HealthCheck"):
            return
        for member in group.instance_states:
            if member.lifecycle_state != "InService":
                continue
            check = None
            if member.instance.state != "running":
                check = "an EC2 instance status check failure"
                member.health_status = "Unhealthy"
            elif member.health_status == "Unhealthy":
                check = "a user health-check"
            elif (
                group.health_check_type == "ELB" and self._graced(group, member) and self._failed_at_load_balancer(group, member)
            ):
                check = "an ELB system health check failure"
                member.health_status = "Unhealthy"
            if check and not _suspended(group, "ReplaceUnhealthy"):
                cause = f"an instance was taken out of service in response to {check}."
                if not hasattr(member, "termination_cause"):
                    member.termination_cause = cause
                    record_termination(group, member, cause)

    def _graced(self, group: Any, member: Any) -> bool:
        """Whether the health check grace period, counted from entering service, is over."""
        return bool(time.monotonic() - member.in_service_since >= (group.health_check_grace_period or 0))

    def _failed_at_load_balancer(self, group: Any, member: Any) -> bool:
        balancers: Any = self.region.loops["LoadBalancers"]
        return any(
            target_id == member.instance.id and health.state == "unhealthy"
            for arn in group.target_group_arns
            for (target_id, _), health in balancers.health(arn).items()
        )

    def _scale(self, group: Any) -> None:
        members = [member for member in group.instance_states if not hasattr(member, "termination_cause")]
        wanted = 0 if getattr(group, "status", None) else group.desired_capacity
        if len(members) < wanted and not _suspended(group, "Launch") and time.monotonic() >= getattr(group, "launch_after", 0):
            cause = _DIFFERENCE.format("started", "increasing", len(members), wanted)
            for _ in range(wanted - len(members)):
                if not self._launch(group, cause):
                    break
        elif len(members) > wanted and not _suspended(group, "Terminate"):
            cause = _DIFFERENCE.format("taken out of service", "shrinking", len(members), wanted)
            for _ in range(len(members) - wanted):
                leaving = _default_termination_policy(members)
                if leaving is None:
                    break
                members.remove(leaving)
                leaving.termination_cause = cause
                record_termination(group, leaving, cause)

    def _launch(self, group: Any, cause: str) -> bool:
        """Launch one instance in the zone that has the fewest; False when EC2 refused."""
        ec2 = self.region.ec2
        subnets = (group.vpc_zone_identifier or "").split(",")
        have = Counter(member.instance.subnet_id for member in group.instance_states if not hasattr(member, "termination_cause"))
        subnet_id = min(subnets, key=lambda subnet: (have[subnet], subnets.index(subnet)))
        activity = record(group, "Launching a new EC2 instance", cause)
        try:
            template = group.ec2_launch_template
            version = template.get_version(group.launch_template_version)
            reservation = ec2.run_instances(
                version.image_id,
                1,
                version.user_data,
                [],
                instance_type=version.instance_type,
                is_instance_type_default=False,
                launch_template={"LaunchTemplateId": template.id, "Version": version.number},
                region_name=self.region.settings.region,
                security_group_ids=list(version.data.get("SecurityGroupIds") or []),
                subnet_id=subnet_id,
                tags={"instance": {ASG_NAME_TAG: group.name, **group.get_propagated_tags()}},
            )
        except (ServiceException, KeyError) as error:
            activity.fail(
                f"{getattr(error, 'code', 'InternalError')}: {getattr(error, 'message', error)} Launching EC2 instance failed."
            )
            self._launch_failed(group, activity.status_message or "")
            return False
        instance = reservation.instances[0]
        instance.autoscaling_group = group
        instance.launch_template_version = version.number
        activity.description = f"Launching a new EC2 instance: {instance.id}"
        member = InstanceState(
            instance, lifecycle_state="Pending", protected_from_scale_in=group.new_instances_protected_from_scale_in
        )
        member.activity = activity  # type: ignore[attr-defined]
        group.instance_states.append(member)
        return True

    def _launch_failed(self, group: Any, reason: str) -> None:
        failures = getattr(group, "failed_launches", 0)
        group.failed_launches = failures + 1
        group.launch_after = time.monotonic() + RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
        log.warning("%s: a launch failed: %s", group.name, reason)

    def _terminate(self, group: Any) -> None:
        """Drain what leaves, then terminate it. What does not run any more has nothing to drain."""
        for member in group.instance_states:
            if not hasattr(member, "termination_cause"):
                continue
            instance = member.instance
            if member.lifecycle_state != "Terminating":
                member.lifecycle_state = "Terminating"
                self._deregister(group, member)
            if instance.state in ("terminated", "shutting-down"):
                continue
            if instance.state != "running" or not self._draining(group, instance.id):
                self.region.ec2.terminate_instances([instance.id])

    def _target_groups(self, group: Any) -> list[Any]:
        known = self.region.backend("elbv2").target_groups
        return [known[arn] for arn in group.target_group_arns if arn in known]

    def _register(self, group: Any, member: Any) -> None:
        for target_group in self._target_groups(group):
            self.region.backend("elbv2").register_targets(
                target_group.arn, [{"Id": member.instance.id, "Port": target_group.port}]
            )

    def _deregister(self, group: Any, member: Any) -> None:
        for target_group in self._target_groups(group):
            self.region.backend("elbv2").deregister_targets(
                target_group.arn, [{"Id": member.instance.id, "Port": target_group.port}]
            )

    def _draining(self, group: Any, instance_id: str) -> bool:
        balancers: Any = self.region.loops["LoadBalancers"]
        return any(
            target_id == instance_id and health.state == "draining"
            for target_group in self._target_groups(group)
            for target_id, health in ((key[0], value) for key, value in balancers.health(target_group.arn).items())
        )


def _suspended(group: Any, process: str) -> bool:
    return any(entry["ProcessName"] == process for entry in group.suspended_processes)


def _default_termination_policy(members: list[Any]) -> Any | None:
    """Whom scale-in takes: from the fullest zone, the oldest template version first, then the oldest instance.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html
    """
    open_to_it = [member for member in members if not member.protected_from_scale_in]
    if not open_to_it:
        return None
    zones = Counter(member.instance.placement.zone for member in members)
    return min(
        open_to_it,
        key=lambda member: (
            -zones[member.instance.placement.zone],
            getattr(member.instance, "launch_template_version", 0),
            member.instance.launch_time,
        ),
    )
