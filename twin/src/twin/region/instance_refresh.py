"""Instance refresh: its record and its API. What it does is in control/instance_refresh.py.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import AutoscalingClientError
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random as random

from twin.region.groups import group_of
from twin.region.patch import add
from twin.region.refresh_preferences import Preferences, check_reversible, desired_template, read
from twin.region.region import Region

ACTIVE = frozenset({"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"})
REVERSIBLE = frozenset({"Pending", "InProgress", "Baking"})


@dataclass
class RollbackDetails:
    """https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RollbackDetails.html"""

    reason: str
    start: datetime
    percentage: int
    to_update: int

    def described(self) -> dict[str, Any]:
        progress = {"PercentageComplete": self.percentage, "InstancesToUpdate": self.to_update}
        return {
            "RollbackReason": self.reason,
            "RollbackStartTime": self.start,
            "PercentageCompleteOnRollback": self.percentage,
            "InstancesToUpdateOnRollback": self.to_update,
            "ProgressDetailsOnRollback": {"LivePoolProgress": progress},
        }


@dataclass
class InstanceRefresh:
    """One refresh of a group; times without a date are by the region's clock.

    `targets` are the ids of the instances to replace: those of the start, and during a rollback those launched since.
    """

    refresh_id: str
    group_name: str
    preferences: Preferences
    warmup: int
    least: int
    most: int | None
    desired: dict[str, Any] | None
    template_id: str = ""  # of the desired configuration, with its version in numbers
    version: int = 0
    targets: set[str] = field(default_factory=set)
    status: str = "Pending"
    reason: str = ""
    start: datetime = field(default_factory=utcnow)
    end: datetime | None = None
    percentage: int = 0
    to_update: int = 0
    checkpoints_passed: int = 0
    size: int = 0
    wait_until: float | None = None
    bake_until: float | None = None
    hindered_since: float | None = None
    failing_since: float | None = None
    failure: str = ""
    ready_ids: set[str] = field(default_factory=set)
    rollback: RollbackDetails | None = None
    manual_rollback: bool = False
    wait_for_transitions: bool = True

    @property
    def generation(self) -> str:
        """What marks the instances that it launches."""
        return f"{self.refresh_id}/rollback" if self.status == "RollbackInProgress" else self.refresh_id

    def trouble(self, now: float, words: str) -> None:
        """A replacement failed; for an hour others are tried."""
        if self.status in ("InProgress", "RollbackInProgress"):
            self.failing_since = now if self.failing_since is None else self.failing_since
            self.failure = words

    def described(self) -> dict[str, Any]:
        progress = {"PercentageComplete": self.percentage, "InstancesToUpdate": self.to_update}
        found = {
            "InstanceRefreshId": self.refresh_id,
            "AutoScalingGroupName": self.group_name,
            "Status": self.status,
            "StatusReason": self.reason or None,
            "StartTime": self.start if self.status != "Pending" else None,
            "EndTime": self.end,
            "PercentageComplete": self.percentage,
            "InstancesToUpdate": self.to_update,
            "ProgressDetails": {"LivePoolProgress": progress},
            "Preferences": self.preferences.described(self.least, self.most, self.warmup),
            "DesiredConfiguration": self.desired,
            "RollbackDetails": self.rollback.described() if self.rollback else None,
            "Strategy": "Rolling",
        }
        return {name: value for name, value in found.items() if value is not None}


def refreshes(group: Any) -> list[InstanceRefresh]:
    """The group's refreshes, newest first."""
    found: list[InstanceRefresh] = vars(group).setdefault("instance_refreshes", [])
    return found


def active_refresh(group: Any) -> InstanceRefresh | None:
    known = vars(group).get("instance_refreshes")
    return known[0] if known and known[0].status in ACTIVE else None


def launch_source(group: Any) -> tuple[Any, Any, Any, str]:
    """What instances are launched from now: template and version, or else a launch configuration; and the instance type.

    While a refresh goes forward, that is its desired configuration, for scaling out as well.
    """
    refresh = active_refresh(group)
    if refresh and refresh.template_id and refresh.status != "RollbackInProgress":
        template = group.ec2_backend.get_launch_template(refresh.template_id)
        version = template.get_version(refresh.version)
        return template, version, None, version.instance_type
    template = group.ec2_launch_template
    if template is None:
        return None, None, group.launch_config, group.launch_config.instance_type
    version = template.get_version(group.launch_template_version)
    overrides = ((group.mixed_instances_policy or {}).get("LaunchTemplate") or {}).get("Overrides") or [{}]
    return template, version, None, overrides[0].get("InstanceType") or version.instance_type


def install(region: Region) -> None:
    _install_start(region)
    _install_end(region)

    @add(responses.AutoScalingResponse, "describe_instance_refreshes")
    def describe_instance_refreshes(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        wanted = self._get_param("InstanceRefreshIds", []) or []
        found = [entry for entry in refreshes(group) if not wanted or entry.refresh_id in wanted]
        token, most = self._get_param("NextToken"), self._get_int_param("MaxRecords") or 50
        if token and token not in {entry.refresh_id for entry in found}:
            raise AutoscalingClientError("InvalidNextToken", "The NextToken value is not valid.")
        first = next((index for index, entry in enumerate(found) if entry.refresh_id == token), 0)
        page, rest = found[first : first + min(most, 100)], found[first + min(most, 100) :]
        answer: dict[str, Any] = {"InstanceRefreshes": [entry.described() for entry in page]}
        if rest:
            answer["NextToken"] = rest[0].refresh_id
        return ActionResult(answer)


def _install_start(region: Region) -> None:
    @add(responses.AutoScalingResponse, "start_instance_refresh")
    def start_instance_refresh(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        strategy, desired = self._get_param("Strategy"), self._get_param("DesiredConfiguration")
        preferences = read(region, self._get_param("Preferences") or {}, strategy)
        template, version = desired_template(group, desired)
        if preferences.auto_rollback:
            check_reversible(group, desired, "ValidationError")
        if active_refresh(group):
            raise AutoscalingClientError(
                "InstanceRefreshInProgress",
                "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
            )
        refresh = InstanceRefresh(
            refresh_id=str(random.uuid4()),
            group_name=group.name,
            preferences=preferences,
            warmup=preferences.warmup_for(group),
            least=preferences.least_for(group),
            most=preferences.most_for(group),
            desired=desired,
            template_id=template.id if template else "",
            version=version.number if version else 0,
        )
        refreshes(group).insert(0, refresh)
        region.wake("AutoScaling")
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})


def _install_end(region: Region) -> None:
    @add(responses.AutoScalingResponse, "cancel_instance_refresh")
    def cancel_instance_refresh(self: Any) -> Any:
        _, refresh = _active(self)
        refresh.status, refresh.reason = "Cancelling", "Cancelling due to user request."
        refresh.wait_for_transitions = self._get_bool_param("WaitForTransitioningInstances", True)
        region.wake("AutoScaling")
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})

    @add(responses.AutoScalingResponse, "rollback_instance_refresh")
    def rollback_instance_refresh(self: Any) -> Any:
        group, refresh = _active(self)
        check_reversible(group, refresh.desired, "IrreversibleInstanceRefresh")
        if refresh.status not in REVERSIBLE:
            raise AutoscalingClientError(
                "IrreversibleInstanceRefresh", f"The Instance Refresh is in status {refresh.status} and cannot be rolled back."
            )
        refresh.manual_rollback = True
        region.wake("AutoScaling")
        return ActionResult({"InstanceRefreshId": refresh.refresh_id})


def _active(response: Any) -> tuple[Any, InstanceRefresh]:
    group = group_of(response, response._get_param("AutoScalingGroupName"))
    refresh = active_refresh(group)
    if refresh is None:
        raise AutoscalingClientError(
            "ActiveInstanceRefreshNotFound",
            f"No in progress or pending Instance Refresh found for Auto Scaling group {group.name}",
        )
    return group, refresh
