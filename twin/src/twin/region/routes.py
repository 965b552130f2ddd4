"""Route tables, and the gateways that they lead to, as ways out of a VPC.

https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Any

from moto.ec2.models import internet_gateways, nat_gateways, route_tables, vpcs

from twin.bodies.vpc_rules import Route
from twin.region.patch import wrap
from twin.region.region import Region

_CHANGES = (
    (
        route_tables.RouteBackend,
        (
            "create_route",
            "replace_route",
            "delete_route",
            "associate_route_table",
            "disassociate_route_table",
            "replace_route_table_association",
        ),
    ),
    (internet_gateways.InternetGatewayBackend, ("attach_internet_gateway", "detach_internet_gateway")),
    (nat_gateways.NatGatewayBackend, ("delete_nat_gateway",)),
    (vpcs.VPCBackend, ("modify_vpc_endpoint", "delete_vpc_endpoints")),
)


def install(region: Region) -> None:
    for owner, names in _CHANGES:
        for name in names:

            @wrap(owner, name)
            def changed(original: Any, *args: Any, **options: Any) -> Any:
                result = original(*args, **options)
                region.wake("Networks")
                return result

    _install_addresses(region)

    @wrap(vpcs.VPCBackend, "create_default_vpc")
    def create_default_vpc(original: Any, self: Any) -> Any:
        vpc = original(self)
        _open_default_vpc(self, vpc)
        return vpc

    with region.records():
        default = region.ec2.get_default_vpc()
        if default is not None:
            _open_default_vpc(region.ec2, default)


def _open_default_vpc(ec2: Any, vpc: Any) -> None:
    """A default VPC comes with an internet gateway and the route to it, which moto leaves out.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
    """
    if any(gateway.vpc is vpc for gateway in ec2.internet_gateways.values()):
        return
    gateway = ec2.create_internet_gateway()
    ec2.attach_internet_gateway(gateway.id, vpc.id)
    main = next(table for table in ec2.route_tables.values() if table.vpc_id == vpc.id and table.main_association_id)
    ec2.create_route(main.id, "0.0.0.0/0", gateway_id=gateway.id)


def _install_addresses(region: Region) -> None:
    """NAT gateways and interface endpoints have an address of their subnet; moto invents one, and forgets the endpoint's
    security groups."""

    @wrap(nat_gateways.NatGatewayBackend, "create_nat_gateway")
    def create_nat_gateway(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        gateway = original(self, *args, **options)
        _settle(gateway._eni)
        gateway.private_ip = gateway.address_set[0]["privateIp"] = gateway._eni.private_ip_address
        gateway._eni.description = f"Interface for NAT Gateway {gateway.id}"
        region.wake("Networks")
        return gateway

    @wrap(vpcs.VPCBackend, "create_vpc_endpoint")
    def create_vpc_endpoint(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        endpoint = original(self, *args, **options)
        for interface_id in endpoint.network_interface_ids:
            interface = self.get_network_interface(interface_id)
            _settle(interface)
            interface.description = f"VPC Endpoint Interface {endpoint.id}"
            if endpoint.security_group_ids:
                interface._group_set = [self.get_security_group_from_id(group) for group in endpoint.security_group_ids]
        region.wake("Networks")
        return endpoint


def _settle(interface: Any) -> None:
    address = interface.subnet.get_available_subnet_ip(interface)
    interface.private_ip_address = address
    interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]


def table_of(ec2: Any, subnet: Any) -> Any:
    """The subnet's route table: the one associated with it, or the VPC's main one."""
    main = None
    for table in ec2.route_tables.values():
        if subnet.id in table._associations.values():
            return table
        if table.vpc_id == subnet.vpc_id and table.main_association_id:
            main = table
    return main


def routes_of(ec2: Any, subnet: Any) -> tuple[Route, ...]:
    """The subnet's routes out of the VPC. One whose target is gone, or absent from the twin, is a black hole, as on AWS."""
    return tuple(
        Route(cidr, _target(ec2, subnet.vpc_id, route))
        for route in table_of(ec2, subnet).routes
        if not route.local
        for cidr in _destinations(route)
    )


@functools.lru_cache(1024)
def way(routes: tuple[Route, ...], address: str) -> str:
    """Where packets to `address` go: "internet", "nat" or "blackhole"."""
    fitting = [route for route in routes if ipaddress.ip_address(address) in ipaddress.ip_network(route.cidr)]
    return max(fitting, key=lambda route: ipaddress.ip_network(route.cidr).prefixlen).target if fitting else "blackhole"


def endpoints_of(ec2: Any, subnet: Any) -> tuple[bool, list[Any]]:
    """Whether a gateway endpoint is in the subnet's route table, and the interfaces of the VPC's interface endpoints."""
    table, gateway, interfaces = table_of(ec2, subnet), False, []
    for endpoint in ec2.vpc_end_points.values():
        if endpoint.vpc_id == subnet.vpc_id and endpoint.state == "available":
            gateway |= table.id in (endpoint.route_table_ids or [])
            interfaces += [ec2.enis[name] for name in endpoint.network_interface_ids if name in ec2.enis]
    return gateway, interfaces


def _destinations(route: Any) -> list[str]:
    if route.destination_cidr_block:
        return [str(ipaddress.ip_network(route.destination_cidr_block, strict=False))]
    lists = route.destination_prefix_list
    if lists is None or str(route.gateway_id).startswith("vpce-"):
        return []  # IPv6; or a gateway endpoint, whose services are not at their public addresses here
    return [entry["Cidr"] for entry in lists.entries.get(lists.version, []) if lists.address_family == "IPv4"]


def _target(ec2: Any, vpc_id: str, route: Any) -> Any:
    if route.gateway is not None and route.gateway.id.startswith("igw-"):
        return "internet" if _attached(ec2, route.gateway.id, vpc_id) else "blackhole"
    gateway = route.nat_gateway
    if gateway is None or gateway.state != "available" or gateway.connectivity_type == "private":
        return "blackhole"
    # The NAT gateway itself needs a way out, which is its subnet's.
    outer = ec2.get_subnet(gateway.subnet_id)
    for beyond in table_of(ec2, outer).routes:
        if beyond.destination_cidr_block == "0.0.0.0/0" and beyond.gateway is not None:
            return "nat" if _attached(ec2, beyond.gateway.id, vpc_id) else "blackhole"
    return "blackhole"


def _attached(ec2: Any, gateway_id: str, vpc_id: str) -> bool:
    gateway = ec2.internet_gateways.get(gateway_id)
    return gateway is not None and gateway.vpc is not None and gateway.vpc.id == vpc_id
