"""Targets and their health, as records: who is registered, who drains, and what their checks have said.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from typing import Any, cast

from moto.elbv2 import models
from moto.elbv2.exceptions import ELBClientError, TargetGroupNotFoundError, TargetNotRunning

from twin.region.patch import replace
from twin.region.region import Region


@dataclass(frozen=True)
class TargetHealth:
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html"""

    state: str
    reason: str | None = None
    description: str | None = None


HEALTHY = TargetHealth("healthy")
REGISTERING = TargetHealth("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
CHECKING = TargetHealth("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
DRAINING = TargetHealth("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")
NOT_REGISTERED = TargetHealth("unused", "Target.NotRegistered", "Target is not registered to the target group")
NOT_IN_USE = TargetHealth("unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer")
ZONE_NOT_ENABLED = TargetHealth(
    "unused", "Target.NotInUse", "Target is in an Availability Zone that is not enabled for the load balancer"
)


@dataclass
class Verdict:
    """What a target's checks say so far; `failing_since` by the region's clock. Kept on the target group's record, so that
    it outlives the twin's process."""

    health: TargetHealth = CHECKING
    failing_since: float | None = None


@dataclass(frozen=True)
class Deregistered:
    """A target that drains; `since` by the monotonic clock."""

    id: str
    port: int
    since: float


def load_balancers_of(backend: Any, target_group_arn: str) -> list[Any]:
    """Load balancers with a listener or a rule that forwards to the target group."""
    return [
        balancer
        for balancer in backend.load_balancers.values()
        if any(
            target_group_arn in target_groups_of(action)
            for listener in balancer.listeners.values()
            for rule in listener.rules.values()
            for action in rule.actions
        )
    ]


def target_groups_of(action: Any) -> dict[str, int]:
    """Weights of the target groups that an action forwards to, by ARN."""
    groups = (action.data.get("ForwardConfig") or {}).get("TargetGroups") or []
    if groups:
        return {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
    arn = action.data.get("TargetGroupArn")
    return {arn: 1} if arn else {}


def draining(group: Any) -> dict[str, Deregistered]:
    """The target group's draining targets, by id; they stay for the deregistration delay."""
    return cast("dict[str, Deregistered]", vars(group).setdefault("draining_targets", {}))


def verdicts(group: Any) -> dict[tuple[str, int], Verdict]:
    """What the checks say of the target group's targets, by id and port."""
    return cast("dict[tuple[str, int], Verdict]", vars(group).setdefault("target_verdicts", {}))


def serving(region: Region) -> set[str]:
    """Ids of the targets that are healthy in any target group."""
    groups = region.backend("elbv2").target_groups.values()
    return {key[0] for group in groups for key, verdict in verdicts(group).items() if verdict.health == HEALTHY}


def instances(region: Region) -> dict[str, Any]:
    """All instances by id; moto's own look-up goes through all of them each time."""
    return {instance.id: instance for found in region.ec2.reservations.values() for instance in found.instances}


def zone_of(region: Region, group: Any, target_id: str, known: dict[str, Any]) -> str | None:
    """The zone of a target, None for an address outside the VPC's subnets."""
    if group.target_type == "instance":
        instance = known.get(target_id)
        return str(instance.placement.zone) if instance else None
    for subnets in region.ec2.subnets.values():
        for subnet in subnets.values():
            if subnet.vpc_id == group.vpc_id and ipaddress.ip_address(target_id) in ipaddress.ip_network(subnet.cidr_block):
                return str(subnet.availability_zone)
    return None


def health_of(region: Region, group: Any) -> dict[tuple[str, int], TargetHealth]:
    """Health of the target group's registered and draining targets, by id and port."""
    known = instances(region)
    balancers = load_balancers_of(region.backend("elbv2"), group.arn)
    zones = {subnet.availability_zone for balancer in balancers for subnet in balancer.subnets}
    judged = verdicts(group)
    found = {}
    for target in group.targets.values():
        key = (str(target["Id"]), int(target["Port"]))
        if not balancers:
            found[key] = NOT_IN_USE
            continue
        state = known[key[0]].state if key[0] in known else "terminated"
        if group.target_type == "instance" and state != "running":
            found[key] = TargetHealth("unused", "Target.InvalidState", f"Target is in the {state} state")
        elif (zone_of(region, group, key[0], known) or "") not in {*zones, ""}:
            found[key] = ZONE_NOT_ENABLED
        else:
            found[key] = judged[key].health if key in judged else REGISTERING
    found.update({(target.id, target.port): DRAINING for target in draining(group).values()})
    return found


def forget_gone_targets(group: Any, known: dict[str, Any]) -> None:
    """Let draining targets go after the deregistration delay, and those of terminated instances at once."""
    delay = int(group.attributes["deregistration_delay.timeout_seconds"])
    now = time.monotonic()
    if group.target_type == "instance":
        for target_id in [*group.targets, *draining(group)]:
            instance = known.get(target_id)
            if instance is None or instance.state == "terminated":
                group.targets.pop(target_id, None)
                draining(group).pop(target_id, None)
            elif instance.state == "shutting-down" and target_id in group.targets:
                group.deregister([{"Id": target_id}])
    for target in list(draining(group).values()):
        if now - target.since >= delay:
            del draining(group)[target.id]


def install(region: Region) -> None:
    group = models.FakeTargetGroup

    @replace(group, "register")
    def register(self: Any, targets: list[dict[str, Any]]) -> None:
        if self.target_type == "instance":
            _refuse_unfit_instances(region, self, [target["Id"] for target in targets])
        elif self.target_type == "ip":
            _refuse_names([target["Id"] for target in targets])
        for target in targets:
            port = int(target.get("Port") or self.port)
            if target["Id"] not in self.targets:
                verdicts(self).pop((target["Id"], port), None)
            self.targets[target["Id"]] = {"Id": target["Id"], "Port": port}
            draining(self).pop(target["Id"], None)

    @replace(group, "deregister")
    def deregister(self: Any, targets: list[dict[str, Any]]) -> None:
        """Unknown targets are no error: so says DeregisterTargets' reference."""
        for target in targets:
            registered = self.targets.pop(target["Id"], None)
            if registered and self.load_balancer_arns:
                draining(self)[target["Id"]] = Deregistered(target["Id"], int(registered["Port"]), time.monotonic())

    @replace(group, "deregister_terminated_instances")
    def deregister_terminated_instances(self: Any, instance_ids: list[str]) -> None:
        deregister(self, [{"Id": instance_id} for instance_id in instance_ids])

    @replace(models.ELBv2Backend, "describe_target_health")
    def describe_target_health(self: Any, target_group_arn: str, targets: list[dict[str, Any]]) -> list[Any]:
        target_group = self.target_groups.get(target_group_arn)
        if target_group is None:
            raise TargetGroupNotFoundError()
        known = health_of(region, target_group)
        wanted = [(target["Id"], int(target["Port"]) if target.get("Port") else None) for target in targets]
        described = [
            (target_id, port, health)
            for (target_id, port), health in known.items()
            if not wanted or (target_id, port) in wanted or (target_id, None) in wanted
        ]
        found = {target_id for target_id, _, _ in described}
        described += [
            (target_id, port or int(target_group.port), NOT_REGISTERED) for target_id, port in wanted if target_id not in found
        ]
        check_port = target_group.health_check_port
        return [
            models.FakeHealthStatus(
                target_id,
                str(port),
                str(port) if check_port == "traffic-port" else str(check_port),
                health.state,
                health.reason,
                health.description,
            )
            for target_id, port, health in described
        ]


def _refuse_unfit_instances(region: Region, group: Any, instance_ids: list[str]) -> None:
    for instance_id in instance_ids:
        instance = region.ec2.get_instance_by_id(instance_id)
        if instance is None:
            raise ELBClientError("InvalidTarget", f"Instance ID '{instance_id}' is not valid")
        if instance.state != "running":
            raise TargetNotRunning(instance_id=instance_id)
        if instance.vpc_id != group.vpc_id:
            raise ELBClientError(
                "InvalidTarget", f"The following targets are not within the VPC '{group.vpc_id}': '{instance_id}'"
            )


def _refuse_names(addresses: list[str]) -> None:
    for address in addresses:
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise ELBClientError("ValidationError", f"The IP address '{address}' is not a valid IPv4 address") from None
