"""Elastic Load Balancing v2 whose load balancers serve and whose target health is measured.

A load balancer's DNSName is its loopback address, so that curl, browsers and Terraform's outputs reach it without a
change to the host's resolver.
"""

from __future__ import annotations

import html
import time
import uuid
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ParamValidationError
from moto.elbv2 import models
from moto.elbv2.exceptions import (
    DuplicateListenerError,
    DuplicateLoadBalancerName,
    ELBClientError,
    TargetGroupNotFoundError,
    TargetNotRunning,
)
from moto.elbv2.responses import ELBV2Response

from twin.region.patch import replace, wrap
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


def forget_gone_targets(region: Region, group: Any) -> None:
    """Let draining targets go after the deregistration delay, and those of terminated instances at once."""
    delay = int(group.attributes["deregistration_delay.timeout_seconds"])
    now = time.monotonic()
    if group.target_type == "instance":
        for target_id in [*group.targets, *draining(group)]:
            instance = region.ec2.get_instance_by_id(target_id)
            if instance is None or instance.state == "terminated":
                group.targets.pop(target_id, None)
                draining(group).pop(target_id, None)
            elif instance.state == "shutting-down" and target_id in group.targets:
                group.deregister([{"Id": target_id}])
    for target in list(draining(group).values()):
        if now - target.since >= delay:
            del draining(group)[target.id]


def install(region: Region) -> None:
    _install_load_balancers(region)
    _install_listeners()
    _install_targets(region)
    _install_errors()
    for name in (
        *("create_load_balancer", "delete_load_balancer", "modify_load_balancer_attributes"),
        *("create_listener", "modify_listener", "delete_listener"),
        *("create_rule", "modify_rule", "delete_rule", "set_rule_priorities"),
        *("modify_target_group", "modify_target_group_attributes", "delete_target_group"),
        *("register_targets", "deregister_targets", "notify_terminate_instances"),
    ):
        _wake_after(region, name)


def _wake_after(region: Region, name: str) -> None:
    @wrap(models.ELBv2Backend, name)
    def change(original: Any, *args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        region.wake("LoadBalancers")
        return result


def _install_load_balancers(region: Region) -> None:
    @wrap(models.ELBv2Backend, "create_load_balancer")
    def create_load_balancer(original: Any, self: Any, name: str, *args: Any, **options: Any) -> Any:
        if any(balancer.name == name for balancer in self.load_balancers.values()):
            raise DuplicateLoadBalancerName()
        balancer = original(self, name, *args, **options)
        balancer.dns_name = region.allocate_load_balancer_address()
        return balancer

    @wrap(models.ELBv2Backend, "delete_load_balancer")
    def delete_load_balancer(original: Any, self: Any, arn: str) -> Any:
        balancer = self.load_balancers.get(arn)
        if balancer is not None:
            if balancer.attrs.get("deletion_protection.enabled") == "true":
                raise ELBClientError(
                    "OperationNotPermitted", f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
                )
            region.release_address(balancer.dns_name)
        return original(self, arn)

    @replace(models.FakeLoadBalancer, "activate")
    def activate(self: Any) -> None:
        """moto activates what is looked at; here the control loop activates what serves."""

    def state(self: Any) -> dict[str, str]:
        reason = getattr(self, "state_reason", "")
        return {"Code": self.state, "Reason": reason} if reason else {"Code": self.state}

    models.FakeLoadBalancer.load_balancer_state = property(state)  # type: ignore[assignment, method-assign]


def _install_listeners() -> None:
    @wrap(models.ELBv2Backend, "create_listener")
    def create_listener(original: Any, self: Any, **options: Any) -> Any:
        balancer = self.load_balancers.get(options["load_balancer_arn"])
        if balancer and any(str(listener.port) == str(options["port"]) for listener in balancer.listeners.values()):
            raise DuplicateListenerError()
        for action in options["actions"]:
            _refuse_second_load_balancer(self, options["load_balancer_arn"], models.FakeAction(action))
        return original(self, **options)

    @wrap(models.ELBv2Backend, "create_rule")
    def create_rule(original: Any, self: Any, **options: Any) -> Any:
        for listener in self.describe_listeners(None, [options["listener_arn"]]):
            for action in options["actions"]:
                _refuse_second_load_balancer(self, listener.load_balancer_arn, models.FakeAction(action))
        return original(self, **options)

    def load_balancer_arns(self: Any) -> list[str]:
        """moto only ever adds to this list."""
        backend = models.elbv2_backends[self.account_id][self.region_name]
        return [balancer.arn for balancer in load_balancers_of(backend, self.arn)]

    def ignore(self: Any, arns: list[str]) -> None:
        """moto's constructor sets the list."""

    models.FakeTargetGroup.load_balancer_arns = property(load_balancer_arns, ignore)  # type: ignore[assignment]


def _refuse_second_load_balancer(backend: Any, load_balancer_arn: str, action: Any) -> None:
    for arn in target_groups_of(action):
        if any(balancer.arn != load_balancer_arn for balancer in load_balancers_of(backend, arn)):
            raise ELBClientError(
                "TargetGroupAssociationLimit",
                f"The following target groups cannot be associated with more than one load balancer: {arn}",
            )


def _install_targets(region: Region) -> None:
    group = models.FakeTargetGroup

    @replace(group, "register")
    def register(self: Any, targets: list[dict[str, Any]]) -> None:
        if self.target_type == "instance":
            _refuse_unfit_instances(region, self, [target["Id"] for target in targets])
        for target in targets:
            self.targets[target["Id"]] = {"Id": target["Id"], "Port": int(target.get("Port") or self.port)}
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
        loop: Any = region.loops.get("LoadBalancers")
        known: dict[tuple[str, int], TargetHealth] = loop.health(target_group_arn) if loop else {}
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


def _install_errors() -> None:
    @wrap(ELBV2Response, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        """moto answers 500, which clients retry, to what it does not know or finds malformed."""
        try:
            return original(self)
        except NotImplementedError:
            error = ("InvalidAction", f"The action {self._get_action()} is not valid for this web service.")
        except ParamValidationError as found:
            error = ("ValidationError", str(found))
        code, message = error
        body = (
            '<ErrorResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{html.escape(message, quote=False)}</Message></Error>"
            f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        )
        return 400, {"Content-Type": "text/xml"}, body
