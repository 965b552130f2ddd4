"""A load balancer's place in its VPC: a network interface in each of its subnets, and whom its security groups let in.

The interfaces are records that EC2 shows and no one may use; their addresses are those that targets see requests come from.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from moto.core.utils import utcnow
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.elbv2 import models

from twin.region.patch import wrap
from twin.region.region import Region


@dataclass(frozen=True)
class Attachment:
    """How a service holds an interface: as one in use, by no instance of the account."""

    attachment_id: str
    attach_time: datetime
    delete_on_termination: bool = False
    device_index: int = 1
    network_card_index: int = 0
    instance_id: str | None = None
    instance_owner_id: str = "amazon-elb"
    status: str = "attached"


class NodeInterface(NetworkInterface):
    """The interface of a load balancer's node."""

    def __init__(self, region: Region, balancer: Any, subnet: Any) -> None:
        super().__init__(
            region.ec2,
            subnet,
            subnet.get_available_subnet_ip(self),
            group_ids=balancer.security_groups,
            description=f"ELB {balancer.arn.split('loadbalancer/')[1]}",
        )
        self.requester_managed = True
        self.requester_id = "amazon-elb"
        self.status = "in-use"
        self.held = Attachment(f"ela-attach-{self.id.removeprefix('eni-')}", utcnow())

    @property
    def attachment(self) -> Any:
        return self.held


def interfaces_of(balancer: Any) -> dict[str, NodeInterface]:
    """The load balancer's interfaces by subnet id."""
    return cast("dict[str, NodeInterface]", vars(balancer).setdefault("node_interfaces", {}))


def allowed_sources(region: Region, group_ids: list[str], port: int) -> tuple[str, ...]:
    """The IPv4 networks that the security groups' inbound rules let reach a TCP port."""
    allowed: set[str] = set()
    for group_id in group_ids:
        group = region.ec2.get_security_group_from_id(group_id)
        for rule in group.ingress_rules if group else ():
            if rule.ip_protocol != "-1" and not (rule.ip_protocol == "tcp" and rule.from_port <= port <= rule.to_port):
                continue
            if rule.cidr_ipv4:
                allowed.add(rule.cidr_ipv4)
            elif rule.source_group:
                allowed.update(f"{address}/32" for address in _members(region, rule.source_group.get("GroupId")))
            elif rule.prefix_list_id:
                allowed.update(_entries(region, rule.prefix_list_id))
    return _collapsed(tuple(sorted(allowed)))


@functools.lru_cache(maxsize=256)  # asked for each second, and seldom another
def _collapsed(networks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(network) for network in ipaddress.collapse_addresses(map(ipaddress.IPv4Network, networks)))


def _members(region: Region, group_id: str | None) -> list[str]:
    return [
        str(interface.private_ip_address)
        for interface in region.ec2.enis.values()
        if any(group.id == group_id for group in interface.group_set) and interface.private_ip_address
    ]


def _entries(region: Region, prefix_list_id: str) -> list[str]:
    found = region.ec2.managed_prefix_lists.get(prefix_list_id)
    if found is None:
        return []
    versions = found.entries.get(found.version) or []
    return [entry["Cidr"] for entry in versions if ":" not in entry["Cidr"]]


def _arrange(region: Region, balancer: Any) -> None:
    """Let the interfaces be those that the load balancer's subnets and security groups ask for."""
    have = interfaces_of(balancer)
    wanted = {subnet.id: subnet for subnet in balancer.subnets}
    for subnet_id in set(have) - set(wanted):
        _remove(region, have.pop(subnet_id))
    for subnet_id in set(wanted) - set(have):
        interface = NodeInterface(region, balancer, wanted[subnet_id])  # type: ignore[abstract]  # so are moto's own
        region.ec2.enis[interface.id] = have[subnet_id] = interface
    groups = [region.ec2.get_security_group_from_id(group_id) for group_id in balancer.security_groups]
    for interface in have.values():
        interface._group_set = groups


def _remove(region: Region, interface: NodeInterface) -> None:
    region.ec2.enis.pop(interface.id, None)
    interface.subnet.del_subnet_ip(interface.private_ip_address)


def install(region: Region) -> None:
    backend = models.ELBv2Backend

    @wrap(backend, "create_load_balancer")
    def create_load_balancer(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        balancer = original(self, *args, **options)
        if not balancer.security_groups:
            # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-update-security-groups.html
            balancer.security_groups = [region.ec2.get_default_security_group(balancer.vpc_id).id]
        _arrange(region, balancer)
        return balancer

    @wrap(backend, "delete_load_balancer")
    def delete_load_balancer(original: Any, self: Any, arn: str) -> Any:
        balancer = self.load_balancers.get(arn)
        result = original(self, arn)
        if balancer is not None:
            for interface in interfaces_of(balancer).values():
                _remove(region, interface)
            interfaces_of(balancer).clear()
        return result

    for name in ("set_subnets", "set_security_groups"):
        _arrange_after(region, name)


def _arrange_after(region: Region, name: str) -> None:
    @wrap(models.ELBv2Backend, name)
    def change(original: Any, self: Any, arn: str, *args: Any, **options: Any) -> Any:
        result = original(self, arn, *args, **options)
        _arrange(region, self.load_balancers[arn])
        region.wake("LoadBalancers")
        return result
