"""Preferences and desired configuration of an instance refresh, checked as AWS checks them.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.exceptions import ServiceException

from twin.region.groups import maintenance_policy, warmup_of
from twin.region.region import Region

TWO_DAYS = 172800
BEHAVIOURS = {"ScaleInProtectedInstances": ("Refresh", "Ignore", "Wait"), "StandbyInstances": ("Terminate", "Ignore", "Wait")}


@dataclass(frozen=True)
class Preferences:
    least: int | None = None
    most: int | None = None
    warmup: int | None = None
    checkpoints: tuple[int, ...] = ()
    checkpoint_delay: int | None = None
    skip_matching: bool = False
    auto_rollback: bool = False
    protected: str = "Wait"
    standby: str = "Wait"
    alarms: tuple[str, ...] = ()
    bake: int = 0

    @property
    def delay(self) -> int:
        return 3600 if self.checkpoint_delay is None else self.checkpoint_delay

    def least_for(self, group: Any) -> int:
        policy = maintenance_policy(group)
        return self.least if self.least is not None else policy[0] if policy else 90

    def most_for(self, group: Any) -> int | None:
        """None when nobody gave an upper bound: then instances are terminated and launched together."""
        policy = maintenance_policy(group)
        return self.most if self.most is not None else policy[1] if policy else None

    def warmup_for(self, group: Any) -> int:
        return warmup_of(group) if self.warmup is None else self.warmup

    def described(self, least: int, most: int | None, warmup: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "MinHealthyPercentage": least,
            "InstanceWarmup": warmup,
            "SkipMatching": self.skip_matching,
            "AutoRollback": self.auto_rollback,
            "ScaleInProtectedInstances": self.protected,
            "StandbyInstances": self.standby,
        }
        if most is not None:
            found["MaxHealthyPercentage"] = most
        if self.checkpoints:
            found |= {"CheckpointPercentages": list(self.checkpoints), "CheckpointDelay": self.delay}
        if self.alarms:
            found["AlarmSpecification"] = {"Alarms": list(self.alarms)}
        if self.bake:
            found["BakeTime"] = self.bake
        return found


def read(region: Region, asked: dict[str, Any], strategy: str | None) -> Preferences:
    """Raises ValidationError for what AWS refuses, and for what the twin does not do."""
    if strategy not in (None, "Rolling"):
        raise ValidationError(f"The strategy {strategy} is not supported by the twin: only Rolling is.")
    least = _within(asked, "MinHealthyPercentage", 0, 100)
    most = _within(asked, "MaxHealthyPercentage", 100, 200)
    if most is not None and least is None:
        raise ValidationError("You must specify MinHealthyPercentage when you specify MaxHealthyPercentage.")
    if most is not None and least is not None and most - least > 100:
        raise ValidationError("The difference between MinHealthyPercentage and MaxHealthyPercentage can't be greater than 100.")
    checkpoints = tuple(int(number) for number in asked.get("CheckpointPercentages") or ())
    if any(not 1 <= number <= 100 for number in checkpoints):
        raise ValidationError("Checkpoint percentages must be between 1 and 100.")
    if list(checkpoints) != sorted(set(checkpoints)):
        raise ValidationError("Checkpoint percentages must be unique and in ascending order.")
    delay = _within(asked, "CheckpointDelay", 0, TWO_DAYS)
    if delay is not None and not checkpoints:
        raise ValidationError("You must specify CheckpointPercentages when you specify CheckpointDelay.")
    for name, allowed in BEHAVIOURS.items():
        if asked.get(name) not in (None, *allowed):
            raise ValidationError(f"Value '{asked[name]}' at '{name}' must be one of: {', '.join(allowed)}")
    alarms = tuple((asked.get("AlarmSpecification") or {}).get("Alarms") or ())
    if len(alarms) > 10:
        raise ValidationError("You can specify up to 10 CloudWatch alarms.")
    missing = [name for name in alarms if name not in region.backend("cloudwatch").alarms]
    if missing:
        raise ValidationError(f"The following CloudWatch alarms do not exist: {', '.join(missing)}")
    return Preferences(
        least=least,
        most=most,
        warmup=_within(asked, "InstanceWarmup", 0, None),
        checkpoints=checkpoints,
        checkpoint_delay=delay,
        skip_matching=_true(asked.get("SkipMatching")),
        auto_rollback=_true(asked.get("AutoRollback")),
        protected=asked.get("ScaleInProtectedInstances") or "Wait",
        standby=asked.get("StandbyInstances") or "Wait",
        alarms=alarms,
        bake=_within(asked, "BakeTime", 0, TWO_DAYS) or 0,
    )


def desired_template(group: Any, desired: dict[str, Any] | None) -> tuple[Any, Any]:
    """Template and version of a desired configuration; (None, None) without one."""
    if desired is None:
        return None, None
    if desired.get("MixedInstancesPolicy"):
        raise ValidationError("A MixedInstancesPolicy in the desired configuration is not supported by the twin.")
    asked = desired.get("LaunchTemplate") or {}
    template_id, name = asked.get("LaunchTemplateId"), asked.get("LaunchTemplateName")
    if bool(template_id) == bool(name):
        raise ValidationError("Valid requests must contain either launchTemplateId or LaunchTemplateName")
    try:
        ec2 = group.ec2_backend
        template = ec2.get_launch_template(template_id) if template_id else ec2.get_launch_template_by_name(name)
        return template, template.get_version(asked.get("Version") or "$Default")
    except (ServiceException, ValueError, AttributeError) as error:
        words = getattr(error, "message", error)
        raise ValidationError(f"You must use a valid fully-formed launch template. {words}") from None


def check_reversible(group: Any, desired: dict[str, Any] | None, code: str) -> None:
    """Raise what AWS raises where a rollback is impossible.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
    """
    if desired is None:
        raise AutoscalingClientError(code, "A rollback is not possible: the Instance Refresh has no desired configuration.")
    template = group.ec2_launch_template
    if template is None:
        return
    version = str(group.launch_template_version)
    if version in ("$Latest", "$Default"):
        raise AutoscalingClientError(
            code, f"A rollback is not possible: the Auto Scaling group uses the launch template version {version}."
        )
    if str(template.get_version(version).image_id).startswith("resolve:ssm:"):
        raise AutoscalingClientError(
            code, "A rollback is not possible: the launch template of the Auto Scaling group uses an AMI alias."
        )


def _within(asked: dict[str, Any], name: str, low: int, high: int | None) -> int | None:
    value = asked.get(name)
    if value is None:
        return None
    if int(value) < low or (high is not None and int(value) > high):
        at = f"preferences.{name[0].lower()}{name[1:]}"
        bound = f"greater than or equal to {low}" if int(value) < low else f"less than or equal to {high}"
        raise ValidationError(
            f"1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: Member must have value {bound}"
        )
    return int(value)


def _true(value: Any) -> bool:
    return str(value).lower() == "true"
