"""Fault Injection Service whose experiments start: validated templates, states moved by the control loop.

https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session
from moto.core.utils import unix_time
from moto.fis import models
from moto.fis.exceptions import FISException

from twin.region.patch import replace, wrap
from twin.region.region import Region

TERMINAL = ("completed", "stopped", "failed", "cancelled")
DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
SELECTION = re.compile(r"ALL|(?:COUNT|PERCENT)\((\d+)\)")
MAX_SECONDS = 12 * 3600
# The paths of a resource's description that a filter may name.
FILTERS = {
    "aws:ec2:instance": ("State.Name", "Placement.AvailabilityZone", "VpcId", "SubnetId", "InstanceType", "ImageId"),
    "aws:ec2:subnet": ("AvailabilityZone", "VpcId", "CidrBlock"),
    "aws:ec2:autoscaling-group": ("AutoScalingGroupName",),
    "aws:rds:db": ("DBInstanceIdentifier", "AvailabilityZone", "DBSubnetGroup.VpcId"),
    "aws:iam:role": (),
}


@dataclass(frozen=True)
class ActionKind:
    """What an action acts on, as (key in the action's targets, resource type), and its parameters."""

    target: tuple[str, str] | None = None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_CAPACITY = ("availabilityZoneIdentifiers", "duration", "percentage")
ACTIONS = {
    "aws:fis:wait": ActionKind(None, ("duration",)),
    "aws:ec2:stop-instances": ActionKind(
        ("Instances", "aws:ec2:instance"), (), ("startInstancesAfterDuration", "completeIfInstancesTerminated")
    ),
    "aws:ec2:reboot-instances": ActionKind(("Instances", "aws:ec2:instance")),
    "aws:ec2:terminate-instances": ActionKind(("Instances", "aws:ec2:instance")),
    "aws:ec2:asg-insufficient-instance-capacity-error": ActionKind(
        ("AutoScalingGroups", "aws:ec2:autoscaling-group"), _CAPACITY[:2], _CAPACITY[2:]
    ),
    "aws:ec2:api-insufficient-instance-capacity-error": ActionKind(("Roles", "aws:iam:role"), _CAPACITY),
    "aws:network:disrupt-connectivity": ActionKind(
        ("Subnets", "aws:ec2:subnet"), ("scope",), ("duration", "prefixListIdentifier")
    ),
    "aws:rds:reboot-db-instances": ActionKind(("DBInstances", "aws:rds:db"), (), ("forceFailover",)),
    "aws:cloudwatch:assert-alarm-state": ActionKind(None, ("alarmArns", "alarmStates")),
    # Not AWS's: the loss of a zone, or of a service, at once, as no API call can cause it there. See docs/twin.md.
    "twin:zone:power-loss": ActionKind(None, ("availabilityZoneIdentifier", "duration")),
    "twin:service:unavailable": ActionKind(None, ("service", "duration")),
}
_SCOPES = ("all", "availability-zone", "dynamodb", "prefix-list", "s3", "s3express", "vpc")


@dataclass
class Progress:
    """A started action: its targets' ARNs, when it began and when it ends by itself, in seconds of the region's clock."""

    targets: list[str]
    began: float
    until: float | None = None
    # What the action remembers of its targets.
    notes: dict[str, Any] = field(default_factory=dict)


class ValidationException(FISException):
    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


def seconds_of(duration: str) -> int:
    """Seconds of an ISO 8601 duration such as PT5M. Raises ValueError."""
    found = DURATION.fullmatch(duration)
    if not found or not any(found.groups()):
        raise ValueError(f"{duration!r} is not an ISO 8601 duration such as PT5M")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def move(experiment: Any, status: str, reason: str, code: str = "") -> None:
    """Bring an experiment to a state; `code` is the error's, of one that fails."""
    experiment.status_now, experiment.reason = status, reason
    experiment.error_code = code
    if status in TERMINAL:
        experiment.end_time = unix_time()


def move_action(action: dict[str, Any], status: str, reason: str = "") -> None:
    """Bring one action of an experiment to a state."""
    action["state"] = {"status": status, "reason": reason or f"Action is {status}."}
    if status in ("running", "initiating"):
        action.setdefault("startTime", unix_time())
    if status in (*TERMINAL, "skipped"):
        action["endTime"] = unix_time()


def install(region: Region) -> None:
    for name in ("create_experiment_template", "update_experiment_template"):

        @wrap(models.FISBackend, name)
        def check(original: Any, self: Any, *args: Any, **options: Any) -> Any:
            known = self.experiment_templates.get(options.get("id"))
            now = {key: options[key] for key in ("targets", "actions", "stop_conditions") if options.get(key) is not None}
            kept = {key: getattr(known, key) for key in ("targets", "actions", "stop_conditions")} if known else {}
            _check_template(**{"targets": {}, "actions": {}, "stop_conditions": [], **kept, **now})
            return original(self, *args, **options)

    @wrap(models.FISBackend, "start_experiment")
    def start_experiment(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        before = set(self.experiments)
        result = original(self, *args, **options)
        for experiment_id in set(self.experiments) - before:
            experiment = self.experiments[experiment_id]
            move(experiment, "initiating", "Experiment is initiating.")
            result = self.get_experiment(experiment_id)
        region.wake("Experiments")
        return result

    @wrap(models.FISBackend, "stop_experiment")
    def stop_experiment(original: Any, self: Any, id: str) -> Any:
        experiment = self.experiments.get(id)
        if experiment is not None and experiment.status_now in TERMINAL:
            raise ValidationException(f"The experiment {id} has ended already: it is {experiment.status_now}.")
        original(self, id)
        move(self.experiments[id], "stopping", "Experiment is stopping.")
        region.wake("Experiments")
        return self.get_experiment(id)

    def status(self: Any) -> str:
        return str(getattr(self, "status_now", "pending"))

    def ignore(self: Any, value: str) -> None:
        """moto's own transitions; the control loop moves experiments here."""

    models.Experiment.status = property(status, ignore)  # type: ignore[assignment]

    @replace(models.Experiment, "advance")
    def advance(self: Any) -> None:
        """As above."""

    replace(models.Experiment, "_sync_state")(status)

    for name in ("to_dict", "to_summary_dict"):

        @wrap(models.Experiment, name)
        def describe(original: Any, self: Any, *args: Any, **options: Any) -> dict[str, Any]:
            result: dict[str, Any] = original(self, *args, **options)
            result["state"] = {"status": self.status, "reason": getattr(self, "reason", "")}
            if getattr(self, "error_code", ""):
                result["state"]["error"] = {"accountId": self.account_id, "code": self.error_code}
            return result

    @replace(models.Experiment, "resolved_targets")
    def resolved_targets(self: Any) -> list[Any]:
        return [
            models.ResolvedTarget(resource_type=self.targets[name]["resourceType"], target_name=name, resource_arn=arn)
            for name, arns in getattr(self, "resolved", {}).items()
            for arn in arns
        ]


def _check_template(targets: dict[str, Any], actions: dict[str, Any], stop_conditions: list[dict[str, Any]]) -> None:
    """Refuse, as CreateExperimentTemplate does, what could not be carried out."""
    if not actions:
        raise ValidationException("At least one action is required.")
    if not stop_conditions:
        raise ValidationException('At least one stop condition is required; use the source "none" for none.')
    for condition in stop_conditions:
        if condition.get("source") not in ("none", "aws:cloudwatch:alarm"):
            raise ValidationException(f"Stop condition source {condition.get('source')!r} is not valid.")
        if condition["source"] != "none" and ":alarm:" not in (condition.get("value") or ""):
            raise ValidationException("A stop condition on an alarm needs the alarm's ARN as its value.")
    for name, target in targets.items():
        _check_target(name, target)
    used = set()
    for name, action in actions.items():
        _check_action(name, action, actions, targets)
        used |= set((action.get("targets") or {}).values())
    if idle := set(targets) - used:
        raise ValidationException(f"Target {sorted(idle)[0]} is not used by any action.")
    _check_order(actions)


def _check_target(name: str, target: dict[str, Any]) -> None:
    kind = target.get("resourceType")
    if kind not in FILTERS:
        raise ValidationException(f"Target {name}: resource type {kind} is not supported by the twin.")
    if not SELECTION.fullmatch(target.get("selectionMode") or ""):
        raise ValidationException(f"Target {name}: selectionMode must be ALL, COUNT(n) or PERCENT(n).")
    if target.get("resourceArns") and (target.get("resourceTags") or target.get("filters") or target.get("parameters")):
        raise ValidationException(f"Target {name}: give resourceArns, or tags, filters and parameters, not both.")
    if not any(target.get(key) for key in ("resourceArns", "resourceTags", "filters", "parameters")):
        raise ValidationException(f"Target {name}: resourceArns or resourceTags are required.")
    for entry in target.get("filters") or []:
        if entry["path"] not in FILTERS[kind]:
            raise ValidationException(f"Target {name}: a filter on {entry['path']} of {kind} is not supported by the twin.")


def _check_action(name: str, action: dict[str, Any], actions: dict[str, Any], targets: dict[str, Any]) -> None:
    kind = ACTIONS.get(action["actionId"])
    if kind is None:
        raise ValidationException(f"Action {name}: {action['actionId']} is not supported by the twin.")
    parameters = action.get("parameters") or {}
    if missing := set(kind.required) - set(parameters):
        raise ValidationException(f"Action {name}: {action['actionId']} requires the parameter {sorted(missing)[0]}.")
    if unknown := set(parameters) - set(kind.required) - set(kind.optional):
        raise ValidationException(f"Action {name}: {action['actionId']} has no parameter {sorted(unknown)[0]}.")
    for key in ("duration", "startInstancesAfterDuration"):
        if key in parameters:
            try:
                seconds = seconds_of(parameters[key])
            except ValueError as error:
                raise ValidationException(f"Action {name}: {key}: {error}.") from None
            if not 0 < seconds <= MAX_SECONDS:
                raise ValidationException(f"Action {name}: {key} must be more than nothing and at most 12 hours.")
    if "percentage" in parameters and not 1 <= int(parameters["percentage"]) <= 100:
        raise ValidationException(f"Action {name}: percentage must be from 1 to 100.")
    if "scope" in parameters and parameters["scope"] not in _SCOPES:
        raise ValidationException(f"Action {name}: scope must be one of {', '.join(_SCOPES)}.")
    if "service" in parameters and parameters["service"] not in _services():
        raise ValidationException(f"Action {name}: {parameters['service']} is no service that boto3 knows.")
    if (parameters.get("scope") == "prefix-list") != ("prefixListIdentifier" in parameters):
        raise ValidationException(f"Action {name}: prefixListIdentifier goes with the scope prefix-list, and that scope with it.")
    chosen = action.get("targets") or {}
    if kind.target is None:
        if chosen:
            raise ValidationException(f"Action {name}: {action['actionId']} takes no targets.")
    else:
        key, resource_type = kind.target
        if set(chosen) != {key}:
            raise ValidationException(f"Action {name}: {action['actionId']} takes one target, under the key {key}.")
        if chosen[key] not in targets:
            raise ValidationException(f"Action {name}: there is no target {chosen[key]}.")
        if targets[chosen[key]].get("resourceType") != resource_type:
            raise ValidationException(f"Action {name}: target {chosen[key]} must be of the type {resource_type}.")
    for before in action.get("startAfter") or []:
        if before not in actions:
            raise ValidationException(f"Action {name}: startAfter names {before}, which is no action of the template.")


@cache
def _services() -> frozenset[str]:
    return frozenset(botocore.session.get_session().get_available_services())


def _check_order(actions: dict[str, Any]) -> None:
    """Every action must come to its turn."""
    placed: set[str] = set()
    while len(placed) < len(actions):
        ready = {name for name, action in actions.items() if set(action.get("startAfter") or []) <= placed} - placed
        if not ready:
            raise ValidationException("startAfter: the actions wait for each other in a circle.")
        placed |= ready
