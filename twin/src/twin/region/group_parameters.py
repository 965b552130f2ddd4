"""Parameters of Create- and UpdateAutoScalingGroup: those that moto forgets, and what AWS refuses.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateAutoScalingGroup.html
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError

from twin.control.termination_policies import POLICIES
from twin.region.groups import change_capacity, group_of
from twin.region.lifecycle_hooks import put_hook
from twin.region.patch import wrap
from twin.region.region import Region

# Parameter, attribute, default of what moto does not keep, or not when it is 0.
_KEPT = (
    ("DefaultInstanceWarmup", "default_instance_warmup", None),
    ("AvailabilityZoneDistribution", "availability_zone_distribution", {"CapacityDistributionStrategy": "balanced-best-effort"}),
    ("InstanceMaintenancePolicy", "instance_maintenance_policy", None),
    ("MaxInstanceLifetime", "max_instance_lifetime", None),
    ("HealthCheckGracePeriod", "health_check_grace_period", 0),
    ("TerminationPolicies", "termination_policies", ["Default"]),
    ("DefaultCooldown", "default_cooldown", models.DEFAULT_COOLDOWN),
)
STRATEGIES = ("balanced-best-effort", "balanced-only")
LIFETIME = (86400, 31536000)


def install(region: Region) -> None:
    def keep(self: Any, creating: bool) -> None:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        for parameter, attribute, default in _KEPT:
            value = self._get_params().get(parameter)
            if value is not None and value != []:
                setattr(group, attribute, _numbers(value))
            elif creating:
                setattr(group, attribute, default)
        policy = group.instance_maintenance_policy
        if policy and -1 in policy.values():
            group.instance_maintenance_policy = None
        if group.default_instance_warmup == -1:
            group.default_instance_warmup = None
        if group.max_instance_lifetime == 0:
            group.max_instance_lifetime = None

    @wrap(responses.AutoScalingResponse, "create_auto_scaling_group")
    def create_auto_scaling_group(original: Any, self: Any) -> Any:
        name = self._get_param("AutoScalingGroupName")
        if name in self.autoscaling_backend.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name already exists"
            )
        asked = _numbers(self._get_params())
        check(asked, int(asked["MinSize"]), int(asked["MaxSize"]), asked.get("DesiredCapacity"))
        result = original(self)
        keep(self, creating=True)
        group = group_of(self, name)
        try:
            for hook in self._get_param("LifecycleHookSpecificationList") or []:
                put_hook(self.autoscaling_backend, group, hook)
        except AutoscalingClientError:
            del self.autoscaling_backend.autoscaling_groups[name]
            raise
        return result

    @wrap(responses.AutoScalingResponse, "update_auto_scaling_group")
    def update_auto_scaling_group(original: Any, self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        asked = _numbers(self._get_params())
        least, most = asked.get("MinSize", group.min_size), asked.get("MaxSize", group.max_size)
        check(asked, int(least), int(most), asked.get("DesiredCapacity"))
        result = original(self)
        keep(self, creating=False)
        region.wake("AutoScaling")
        return result

    @wrap(models.FakeAutoScalingGroup, "update")
    def update(original: Any, self: Any, **options: Any) -> None:
        """Without a desired capacity, the present one is only moved into the bounds."""
        before, asked = self.desired_capacity, options.pop("desired_capacity", None)
        least, most = options.pop("min_size"), options.pop("max_size")
        mixed = self.mixed_instances_policy
        original(self, desired_capacity=None, min_size=None, max_size=None, **options)
        self.min_size = self.min_size if least is None else least
        self.max_size = self.max_size if most is None else most
        if options.get("launch_template") or options.get("launch_config_name"):
            _use_one_source(self, options)
        elif not options.get("mixed_instances_policy"):
            self.mixed_instances_policy = mixed  # moto forgets it with every update
        wanted = max(self.min_size, min(self.max_size, before if asked is None else asked))
        change_capacity(
            region,
            self,
            wanted,
            f"a user request update of AutoScalingGroup constraints to min: {self.min_size}, max: {self.max_size}, "
            f"desired: {wanted} changing the desired capacity from {before} to {wanted}.",
        )


def _use_one_source(group: Any, options: dict[str, Any]) -> None:
    """A launch template takes the place of a launch configuration, and the other way round."""
    if options.get("launch_template"):
        group.launch_config = group.launch_configuration_name = None
    else:
        group.ec2_launch_template = None


def check(asked: dict[str, Any], least: int, most: int, desired: int | None) -> None:
    """Raise ValidationError in AWS's words for what the bounds, policies and times of a request break."""
    if least > most:
        raise ValidationError(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    if desired is not None and not least <= int(desired) <= most:
        raise ValidationError(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")
    for policy in asked.get("TerminationPolicies") or []:
        if str(policy).startswith("arn:"):
            raise ValidationError("A termination policy that is a Lambda function is not supported by the twin.")
        if policy not in POLICIES:
            raise ValidationError(f"Termination policy {policy} is not valid. Valid policies are: {', '.join(POLICIES)}")
    lifetime = asked.get("MaxInstanceLifetime")
    if lifetime and not LIFETIME[0] <= lifetime <= LIFETIME[1]:
        raise ValidationError(
            f"Max instance lifetime must be 0 or between {LIFETIME[0]} and {LIFETIME[1]} seconds, but is {lifetime}."
        )
    if asked.get("HealthCheckGracePeriod", 0) < 0:
        raise ValidationError("Health check grace period must be 0 or greater.")
    kinds = [kind.strip() for kind in str(asked.get("HealthCheckType") or "EC2").split(",")]
    for kind in kinds:
        if kind not in ("EC2", "ELB"):
            known = kind in ("EBS", "VPC_LATTICE")
            raise ValidationError(
                f"The health check type {kind} is not supported by the twin." if known else f"Invalid health check type: {kind}"
            )
    strategy = (asked.get("AvailabilityZoneDistribution") or {}).get("CapacityDistributionStrategy")
    if strategy is not None and strategy not in STRATEGIES:
        raise ValidationError(f"The capacity distribution strategy {strategy} is not supported by the twin.")
    _check_policy(asked.get("InstanceMaintenancePolicy") or {})


def _check_policy(policy: dict[str, Any]) -> None:
    if not policy:
        return
    least, most = policy.get("MinHealthyPercentage"), policy.get("MaxHealthyPercentage")
    if least is None or most is None:
        raise ValidationError("Both MinHealthyPercentage and MaxHealthyPercentage must be specified.")
    if least == most == -1:
        return
    if not 0 <= least <= 100 or not 100 <= most <= 200:
        raise ValidationError(
            "MinHealthyPercentage must be between 0 and 100, and MaxHealthyPercentage must be between 100 and 200."
        )
    if most - least > 100:
        raise ValidationError("The difference between MinHealthyPercentage and MaxHealthyPercentage can't be greater than 100.")


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
