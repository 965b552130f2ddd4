"""Elastic Load Balancing v2 whose load balancers serve and whose target health is measured.

A load balancer's DNSName is its loopback address, so that curl, browsers and Terraform's outputs reach it without a
change to the host's resolver.
"""

from __future__ import annotations

import html
import uuid
from typing import Any

from botocore.exceptions import ParamValidationError
from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateLoadBalancerName, LoadBalancerNotFoundError
from moto.elbv2.responses import ELBV2Response

from twin.region import elb_interfaces, elbv2_attributes, elbv2_listeners, elbv2_logs, target_health
from twin.region.elbv2_attributes import refused
from twin.region.patch import replace, wrap
from twin.region.region import Region
from twin.region.target_health import load_balancers_of


def install(region: Region) -> None:
    _install_load_balancers(region)
    elb_interfaces.install(region)
    elbv2_listeners.install(region)
    elbv2_attributes.install(region, lambda attributes: elbv2_logs.check(region, attributes))
    target_health.install(region)
    _install_target_groups()
    _install_errors()
    for name in (
        *("create_load_balancer", "delete_load_balancer", "create_listener", "modify_listener", "delete_listener"),
        *("create_rule", "modify_rule", "delete_rule", "set_rule_priorities", "modify_target_group", "delete_target_group"),
        *("register_targets", "deregister_targets", "notify_terminate_instances"),
        *("add_listener_certificates", "remove_listener_certificates"),
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
        kind = options.get("loadbalancer_type") or "application"
        if kind != "application":
            raise refused(f"Load balancers of type '{kind}' are not supported by the twin")
        if options.get("ip_address_type") not in (None, "ipv4"):
            raise refused(f"The IP address type '{options['ip_address_type']}' is not supported by the twin")
        mappings = options.get("subnet_mappings") or []
        if any(set(mapping) - {"SubnetId"} for mapping in mappings):
            raise refused("You cannot specify Elastic IP or private addresses for a load balancer of type 'application'")
        _refuse_lacking_zones(self, [*(options.get("subnet_ids") or []), *(mapping["SubnetId"] for mapping in mappings)])
        for group_id in options.get("security_groups") or []:
            if self.ec2_backend.get_security_group_from_id(group_id) is None:
                raise refused(f"Security group '{group_id}' does not exist", "InvalidSecurityGroup")
        balancer = original(self, name, *args, **options)
        others = {other.dns_name for other in self.load_balancers.values()}
        # Addresses of records that this process did not make are in use as well.
        while balancer.dns_name in others:
            balancer.dns_name = region.allocate_load_balancer_address()
        return balancer

    @wrap(models.ELBv2Backend, "delete_load_balancer")
    def delete_load_balancer(original: Any, self: Any, arn: str) -> Any:
        balancer = self.load_balancers.get(arn)
        if balancer is not None:
            if balancer.attrs.get("deletion_protection.enabled") == "true":
                raise refused(
                    f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled", "OperationNotPermitted"
                )
            region.release_address(balancer.dns_name)
        return original(self, arn)

    @wrap(models.ELBv2Backend, "set_ip_address_type")
    def set_ip_address_type(original: Any, self: Any, arn: str, ip_type: str) -> Any:
        if arn not in self.load_balancers:
            raise LoadBalancerNotFoundError()
        if ip_type != "ipv4":
            raise refused(f"The IP address type '{ip_type}' is not supported by the twin")
        return original(self, arn, ip_type)

    @replace(models.FakeLoadBalancer, "activate")
    def activate(self: Any) -> None:
        """moto activates what is looked at; here the control loop activates what serves."""

    def state(self: Any) -> dict[str, str]:
        reason = getattr(self, "state_reason", "")
        return {"Code": self.state, "Reason": reason} if reason else {"Code": self.state}

    models.FakeLoadBalancer.load_balancer_state = property(state)  # type: ignore[assignment, method-assign]


def _refuse_lacking_zones(backend: Any, subnet_ids: list[str]) -> None:
    zones = [backend.ec2_backend.get_subnet(subnet_id).availability_zone for subnet_id in subnet_ids]
    if len(set(zones)) < len(zones):
        raise refused("A load balancer cannot be attached to multiple subnets in the same Availability Zone")
    if zones and len(zones) < 2:
        raise refused("At least two subnets in two different Availability Zones must be specified", "ValidationError")


def _install_target_groups() -> None:
    @wrap(models.ELBv2Backend, "create_target_group")
    def create_target_group(original: Any, self: Any, name: str, **options: Any) -> Any:
        kind = options.get("target_type") or "instance"
        if kind not in ("instance", "ip"):
            raise refused(f"The target type '{kind}' is not supported by the twin")
        # Terraform sends empty text for what is not set.
        options["protocol_version"] = options.get("protocol_version") or None
        options["ip_address_type"] = options.get("ip_address_type") or None
        if options.get("protocol") not in (None, "HTTP", "HTTPS"):
            raise refused(f"Target groups with the {options['protocol']} protocol are not supported by the twin")
        if options["protocol_version"] not in (None, "HTTP1"):
            raise refused(f"The protocol version '{options['protocol_version']}' is not supported by the twin")
        if options["ip_address_type"] not in (None, "ipv4"):
            raise refused(f"The IP address type '{options['ip_address_type']}' is not supported by the twin")
        if options.get("healthcheck_enabled") == "false":
            raise refused("Health check enabled must be true for target groups with target type 'instance' or 'ip'")
        return original(self, name, **options)

    def load_balancer_arns(self: Any) -> list[str]:
        """moto only ever adds to this list."""
        backend = models.elbv2_backends[self.account_id][self.region_name]
        return [balancer.arn for balancer in load_balancers_of(backend, self.arn)]

    def ignore(self: Any, arns: list[str]) -> None:
        """moto's constructor sets the list."""

    models.FakeTargetGroup.load_balancer_arns = property(load_balancer_arns, ignore)  # type: ignore[assignment]


def _install_errors() -> None:
    @wrap(ELBV2Response, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        """moto answers 500, which clients retry, to what it does not know or finds malformed."""
        try:
            return original(self)
        except NotImplementedError:
            action = self._get_action()
            error = ("InvalidAction", f"The action {action} is not valid for this web service: not supported by the twin.")
        except ParamValidationError as found:
            error = ("ValidationError", str(found))
        code, message = error
        body = (
            '<ErrorResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{html.escape(message, quote=False)}</Message></Error>"
            f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
        )
        return 400, {"Content-Type": "text/xml"}, body
