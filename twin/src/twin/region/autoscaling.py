"""Auto Scaling whose API only records what is wanted; the control loop launches and terminates."""

from __future__ import annotations

from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow

from twin.region import group_members, group_parameters, instance_refresh, lifecycle_hooks, traffic_sources
from twin.region.activities import KEPT, ScalingActivity, activities, in_order, record, record_termination
from twin.region.groups import change_capacity, group_of
from twin.region.patch import replace, wrap
from twin.region.region import Region

__all__ = ["ScalingActivity", "activities", "change_capacity", "install", "record", "record_termination"]

PROCESSES = (
    *("Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance"),
    *("HealthCheck", "InstanceRefresh", "ReplaceUnhealthy", "ScheduledActions"),
)


def install(region: Region) -> None:
    _install_capacity(region)
    _install_deletion(region)
    _install_processes(region)
    group_parameters.install(region)
    group_members.install(region)
    lifecycle_hooks.install(region)
    instance_refresh.install(region)
    traffic_sources.install(region)


def _install_capacity(region: Region) -> None:
    @replace(models.FakeAutoScalingGroup, "set_desired_capacity")
    def set_desired_capacity(self: Any, new_capacity: int | None) -> None:
        wanted = self.min_size if new_capacity is None else new_capacity
        before = getattr(self, "desired_capacity", None)
        if before is None:
            what = f"a user request created an AutoScalingGroup changing the desired capacity from 0 to {wanted}."
            self.desired_capacity = 0
        else:
            _check_bounds(self, wanted)
            what = (
                f"a user request explicitly set group desired capacity changing the desired capacity from {before} to {wanted}."
            )
        change_capacity(region, self, wanted, what)

    @replace(models.AutoScalingBackend, "update_attached_target_groups")
    def update_attached_target_groups(self: Any, group_name: str) -> None:
        region.wake("AutoScaling")  # the loop registers instances once they are in service

    @replace(models.AutoScalingBackend, "notify_terminate_instances")
    def notify_terminate_instances(self: Any, instance_ids: list[str]) -> None:
        region.wake("AutoScaling")  # the loop finds them unhealthy, as AWS does

    @wrap(responses.AutoScalingResponse, "set_desired_capacity")
    def set_desired_capacity_of(original: Any, self: Any) -> Any:
        group_of(self, self._get_param("AutoScalingGroupName"))
        return original(self)

    @replace(responses.AutoScalingResponse, "describe_scaling_activities")
    def describe_scaling_activities(self: Any) -> Any:
        name = self._get_param("AutoScalingGroupName")
        wanted = set(self._get_param("ActivityIds", []) or [])
        groups = [group_of(self, name)] if name else list(self.autoscaling_backend.autoscaling_groups.values())
        found = [entry for group in groups for entry in activities(group) if not wanted or entry.activity_id in wanted]
        return ActionResult({"Activities": in_order(found)[: self._get_int_param("MaxRecords") or KEPT]})


def _check_bounds(group: Any, wanted: int) -> None:
    if wanted < group.min_size:
        raise ValidationError(
            f"New SetDesiredCapacity value {wanted} is below min value {group.min_size} for the AutoScalingGroup."
        )
    if wanted > group.max_size:
        raise ValidationError(
            f"New SetDesiredCapacity value {wanted} is above max value {group.max_size} for the AutoScalingGroup."
        )


def _install_deletion(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "delete_auto_scaling_group")
    def delete_auto_scaling_group(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        if group.instance_states and not self._get_bool_param("ForceDelete", False):
            raise AutoscalingClientError(
                "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances still in the group."
            )
        group.status = "Delete in progress"
        backend = self.autoscaling_backend
        for key, hook in list(backend.lifecycle_hooks.items()):
            if hook.auto_scaling_group_name == group.name:
                del backend.lifecycle_hooks[key]
        if not group.instance_states:
            backend.autoscaling_groups.pop(group.name)
        region.wake("AutoScaling")
        return EmptyResult()


def _install_processes(region: Region) -> None:
    def suspended_processes(self: Any) -> list[dict[str, str]]:
        return [{"ProcessName": name, "SuspensionReason": reason} for name, reason in self._suspended_processes.items()]

    def set_suspended_processes(self: Any, processes: list[str]) -> None:
        """moto's constructor sets the list; reasons are kept beside the names here."""
        self._suspended_processes = dict.fromkeys(processes, "")

    changed: Any = property(suspended_processes, set_suspended_processes)
    replace(models.FakeAutoScalingGroup, "suspended_processes")(changed)

    def named(response: Any) -> tuple[Any, list[str]]:
        group = group_of(response, response._get_param("AutoScalingGroupName"))
        names = response._get_param("ScalingProcesses", []) or list(PROCESSES)
        unknown = [name for name in names if name not in PROCESSES]
        if unknown:
            raise ValidationError(f"The following processes are invalid: {', '.join(unknown)}")
        return group, names

    @replace(responses.AutoScalingResponse, "suspend_processes")
    def suspend_processes(self: Any) -> Any:
        group, names = named(self)
        for name in names:
            group._suspended_processes.setdefault(name, f"User suspended at {utcnow():%Y-%m-%dT%H:%M:%SZ}")
        return EmptyResult()

    @replace(responses.AutoScalingResponse, "resume_processes")
    def resume_processes(self: Any) -> Any:
        group, names = named(self)
        for name in names:
            group._suspended_processes.pop(name, None)
        region.wake("AutoScaling")
        return EmptyResult()
