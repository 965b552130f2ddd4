"""Networks: what the records say of groups, ACLs, routes and faults, as rules in each VPC's namespace."""

from __future__ import annotations

import functools
import ipaddress
import logging
from typing import Any

from twin.bodies import firewall
from twin.bodies.network import bridge_of
from twin.bodies.vpc_rules import Interface, Rule, Subnet, Vpc
from twin.control.loop import Loop
from twin.region.network_acls import acl_of_subnet, acls_of, allows
from twin.region.region import Region
from twin.region.routes import endpoints_of, routes_of, way
from twin.region.security_groups import groups_of, prefixes_of
from twin.region.vpc_endpoints import AWS_ADDRESS

log = logging.getLogger(__name__)

# Security groups and routes see AWS's API and SendGrid where clients on AWS see them: at a public address, by HTTPS.
MAIL_ADDRESS = "167.89.115.1"
HTTPS = 443
# How AWS's services describe their interfaces.
DATABASE = "RDSNetworkInterface"


class Networks(Loop):
    """Replaces a VPC's rules whenever they come out different."""

    period = 0.5

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self._applied: dict[str, str] = {}
        region.network.rules_of_new_vpcs = firewall.render(firewall.CLOSED)

    def tick(self) -> None:
        with self.region.records():
            ec2 = self.region.ec2
            _forget_ended(ec2)
            present = [vpc_id for vpc_id in self.region.network.vpcs() if vpc_id in ec2.vpcs]
            wanted = {vpc_id: vpc_of(self.region, vpc_id) for vpc_id in present}
        for vpc_id, vpc in wanted.items():
            text = firewall.render(vpc)
            if self._applied.get(vpc_id) != text:
                try:
                    self.region.network.apply(vpc_id, text)
                except OSError as error:  # one VPC's trouble is not the others'
                    log.error("%s: the rules that apply are the former ones: %s", vpc_id, error)
                else:
                    self._applied[vpc_id] = text
        for vpc_id in self._applied.keys() - wanted.keys():
            del self._applied[vpc_id]


def _forget_ended(ec2: Any) -> None:
    """A primary interface ends with its instance unless it was made apart from it; moto keeps all of them."""
    for eni in list(ec2.enis.values()):
        made_with_it = eni.description == "Primary network interface"
        if made_with_it and eni.instance is not None and eni.instance.state == "terminated":
            del ec2.enis[eni.id]


def vpc_of(region: Region, vpc_id: str) -> Vpc:
    """The VPC as the records have it. Call with the region's lock held."""
    ec2 = region.ec2
    cidrs = tuple(block["cidr_block"] for block in ec2.vpcs[vpc_id].get_cidr_block_association_set(ipv6=False))
    records = [subnet for zone in ec2.subnets.values() for subnet in zone.values() if subnet.vpc_id == vpc_id]
    records.sort(key=lambda subnet: str(subnet.id))
    groups, acls = groups_of(ec2, vpc_id), acls_of(ec2, vpc_id)
    subnets = {record.id: _subnet(region, record, records) for record in records}
    vpc = Vpc(cidrs, tuple(subnets.values()), (), groups, acls)
    reach = {record.id: endpoints_of(ec2, record) for record in records}
    interfaces: dict[str, Interface] = {}
    for eni in sorted(ec2.enis.values(), key=_leaving):
        if eni.vpc_id != vpc_id or eni.subnet.id not in subnets or (eni.instance and eni.instance.state == "terminated"):
            continue
        block = eni.subnet.cidr_block
        listed = [eni.private_ip_address, *(one["PrivateIpAddress"] for one in eni.private_ip_addresses)]
        addresses = {one: None for one in listed if one and one not in interfaces and _within(one, block)}
        if addresses:
            interface = _interface(vpc, eni, tuple(addresses), subnets[eni.subnet.id], *reach[eni.subnet.id])
            interfaces.update(dict.fromkeys(addresses, interface))
    unique = sorted(set(interfaces.values()), key=lambda interface: interface.addresses)
    return Vpc(cidrs, vpc.subnets, tuple(unique), groups, acls)


def _leaving(eni: Any) -> bool:
    """moto gives away the address of an instance that is still shutting down: the new owner goes first."""
    return eni.instance is not None and eni.instance.state == "shutting-down"


def _subnet(region: Region, record: Any, others: list[Any]) -> Subnet:
    ec2, scope = region.ec2, region.faults.disrupted.get(record.id, "")
    cut: tuple[str, ...] = ()
    if scope == "availability-zone":
        cut = tuple(other.cidr_block for other in others if other.availability_zone != record.availability_zone)
    elif scope.startswith("pl-"):
        cut = prefixes_of(ec2.managed_prefix_lists[scope]) if scope in ec2.managed_prefix_lists else ()
    return Subnet(
        bridge_of(record.id),
        record.cidr_block,
        acl_of_subnet(ec2, record),
        routes_of(ec2, record),
        cut,
        cut_all=scope == "all",
        cut_outside=scope == "vpc",
    )


def _interface(
    vpc: Vpc, eni: Any, addresses: tuple[str, ...], subnet: Subnet, gateway_endpoint: bool, endpoints: list[Any]
) -> Interface:
    groups = tuple(sorted(group.id for group in eni.group_set if group.id in vpc.groups))
    rules = [rule for group in groups for rule in vpc.groups[group].egress]
    acl = vpc.acls[subnet.acl]
    https = allows(acl.egress, "tcp", HTTPS)

    def out(address: str) -> bool:
        target = way(subnet.routes, address)
        return https and (target == "nat" or (target == "internet" and bool(eni.public_ip)))

    api_way = out(AWS_ADDRESS) or (gateway_endpoint and https) or bool(endpoints)
    api_allowed = (out(AWS_ADDRESS) or (gateway_endpoint and https)) and _permitted(rules, AWS_ADDRESS)
    for endpoint in endpoints:
        its_groups = tuple(group.id for group in endpoint.group_set)
        ingress = [rule for group in its_groups if group in vpc.groups for rule in vpc.groups[group].ingress]
        there = _permitted(rules, endpoint.private_ip_address, its_groups)
        api_allowed |= there and _permitted(ingress, addresses[0], groups)
    return Interface(
        addresses,
        groups,
        public=bool(eni.public_ip),
        database=eni.description == DATABASE,
        api=(api_way, api_allowed),
        mail=(out(MAIL_ADDRESS), _permitted(rules, MAIL_ADDRESS, aws=False)),
    )


@functools.lru_cache(maxsize=8192)
def _within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False)


def _permitted(rules: list[Rule], address: str, groups: tuple[str, ...] = (), *, aws: bool = True) -> bool:
    """Whether a rule allows HTTPS with `address`, which is in `groups`."""
    return any(
        rule.match.covers("tcp", HTTPS)
        and ((aws and rule.aws) or any(_within(address, cidr) for cidr in rule.cidrs) or not set(groups).isdisjoint(rule.groups))
        for rule in rules
    )
