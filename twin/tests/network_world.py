"""A VPC of real namespaces whose records and rules the network's tests change."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import client, undoing
from conftest import SLOT
from moto import mock_aws

from twin.bodies import netns
from twin.bodies.network import Network, bridge_of
from twin.bodies.podman import Podman
from twin.control.networks import Networks
from twin.region import absent_networks, ec2, network_acls, routes, security_groups, vpc_endpoints
from twin.region.region import Region
from twin.settings import API_ADDRESS, DNS_ADDRESS, MAIL_ADDRESS, METADATA_ADDRESS, Settings

WEB, POSTGRES, SSH = 8080, 5432, 22
SERVICES = (METADATA_ADDRESS, DNS_ADDRESS, API_ADDRESS, MAIL_ADDRESS)
ANYWHERE = "0.0.0.0/0"
EXTENSIONS = (ec2, security_groups, network_acls, routes, absent_networks, vpc_endpoints)
# A packet that is dropped gets no answer; on a busy machine one that passes may take a while.
PATIENCE = 2.0


@dataclass(frozen=True)
class Body:
    """A network interface with servers behind it. `public` is the address it has on the internet, if any."""

    eni: str
    address: str
    namespace: str
    public: str = ""


class Echo:
    """A TCP server that sends back what it gets; made in the namespace of the caller."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_server((address, port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    @staticmethod
    def _answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def speaks(connection: socket.socket) -> bool:
    """Whether the connection still carries data there and back."""
    try:
        connection.sendall(b"?")
        return connection.recv(1) == b"?"
    except OSError:
        return False


class World:
    """Subnets: public and app in zone a, app in zone b ("app-b"), database in zone a. The first has an internet gateway, the
    app subnets a NAT gateway in it, the database's nothing. Its servers listen on WEB, POSTGRES and SSH."""

    def __init__(self, region: Region, stack: ExitStack) -> None:
        self.region = region
        self.network = region.network
        self.stack = stack
        self.ec2 = client("ec2")
        self.vpc: str = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.loop = Networks(region)
        self.namespace = self.network.ensure_vpc(self.vpc)
        self.subnets = {
            name: self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=cidr, AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for name, cidr, zone in (
                ("public", "10.0.0.0/24", "a"),
                ("app", "10.0.1.0/24", "a"),
                ("app-b", "10.0.2.0/24", "b"),
                ("database", "10.0.3.0/24", "a"),
            )
        }
        self.gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.vpc)
        self.tables = {name: self.table(subnet) for name, subnet in self.subnets.items()}
        self.ec2.create_route(RouteTableId=self.tables["public"], DestinationCidrBlock=ANYWHERE, GatewayId=self.gateway)
        allocation = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        self.nat = self.ec2.create_nat_gateway(
            SubnetId=self.subnets["public"], AllocationId=allocation, ConnectivityType="public"
        )["NatGateway"]["NatGatewayId"]
        for name in ("app", "app-b"):
            self.ec2.create_route(RouteTableId=self.tables[name], DestinationCidrBlock=ANYWHERE, NatGatewayId=self.nat)
        # The host's end of the link stands for the internet.
        self.outside = str(ipaddress.ip_address(self.network._far(self.vpc)) - 1)
        self.serve(Echo(self.outside, WEB))
        for address in SERVICES:
            self.serve(netns.inside(self.namespace, lambda address=address: Echo(address, 80)))
        self.settle()

    def serve(self, server: Echo) -> None:
        self.stack.callback(server.close)

    def table(self, subnet: str) -> str:
        table: str = self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        return table

    def settle(self) -> None:
        """Let the loop see the records as they are."""
        self.loop.tick()

    def group(self, name: str, *, closed: bool = False) -> str:
        """A security group with no way in; `closed` has no way out either."""
        group: str = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        if closed:
            everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": ANYWHERE}]}]
            self.ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
        return group

    def allow(self, group: str, port: int, source: str, *, egress: bool = False, protocol: str = "tcp", last: int = 0) -> None:
        """Let `source` in (or out to it): a CIDR block, a group or a prefix list."""
        permission: dict[str, Any] = {"IpProtocol": protocol, "FromPort": port, "ToPort": last or port}
        if source.startswith("sg-"):
            permission["UserIdGroupPairs"] = [{"GroupId": source}]
        elif source.startswith("pl-"):
            permission["PrefixListIds"] = [{"PrefixListId": source}]
        else:
            permission["IpRanges"] = [{"CidrIp": source}]
        act = self.ec2.authorize_security_group_egress if egress else self.ec2.authorize_security_group_ingress
        act(GroupId=group, IpPermissions=[permission])

    def body(self, subnet: str, *groups: str, public: bool = False, ports: Iterable[int] = (WEB, POSTGRES, SSH)) -> Body:
        """An interface with servers; without groups it is in the default one."""
        options = {"Groups": list(groups)} if groups else {}
        eni = self.ec2.create_network_interface(SubnetId=self.subnets[subnet], **options)["NetworkInterface"]
        name, address = eni["NetworkInterfaceId"], self._settled_address(eni["NetworkInterfaceId"])
        cidr = self.region.subnet(self.subnets[subnet]).cidr_block
        self.network.attach(name, self.vpc, self.subnets[subnet], cidr, address)
        namespace = self.network.namespace(name)
        for port in ports:
            self.serve(netns.inside(namespace, lambda port=port: Echo(address, port)))
        reached = ""
        if public:
            allocated = self.ec2.allocate_address(Domain="vpc")
            self.ec2.associate_address(AllocationId=allocated["AllocationId"], NetworkInterfaceId=name)
            reached = allocated["PublicIp"]
            self.network.publish(reached, self.vpc, address)
        self.settle()
        return Body(name, address, namespace, reached)

    def _settled_address(self, eni: str) -> str:
        """moto invents an address without a look at those in use."""
        record = self.region.ec2.enis[eni]
        address: str = record.subnet.get_available_subnet_ip(record)
        record.private_ip_address = address
        record.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
        return address

    def balancer(self, subnet: str, group: str) -> Body:
        """A load balancer's node: an address of the VPC's own namespace."""
        eni = self.ec2.create_network_interface(
            SubnetId=self.subnets[subnet], Groups=[group], Description="ELB app/edge/0123456789abcdef"
        )["NetworkInterface"]["NetworkInterfaceId"]
        address = self._settled_address(eni)
        cidr = self.region.subnet(self.subnets[subnet]).cidr_block
        self.network.ensure_subnet(self.vpc, self.subnets[subnet], cidr)
        netns.ip(f"addr add {address}/32 dev {bridge_of(self.subnets[subnet])}", self.namespace)
        self.settle()
        return Body(eni, address, self.namespace)

    def connect(self, source: Body | None, address: str, port: int) -> socket.socket:
        """A connection from a body, or from the internet. Raises OSError when nothing answers."""
        if source is None:
            return socket.create_connection((address, port), PATIENCE)
        return netns.inside(
            source.namespace, lambda: socket.create_connection((address, port), PATIENCE, source_address=(source.address, 0))
        )

    def reaches(self, source: Body | None, target: Body | str, port: int) -> bool:
        address = target if isinstance(target, str) else target.public if source is None else target.address
        try:
            with self.connect(source, address, port) as connection:
                return speaks(connection)
        except OSError:
            return False

    def all_reach(self, tries: Iterable[tuple[Body | None, Body | str, int]]) -> list[bool]:
        """`reaches` for many at once, since those that are dropped take their time."""
        with ThreadPoolExecutor(24) as pool:
            return list(pool.map(lambda one: self.reaches(*one), list(tries)))

    def pings(self, source: Body, target: Body) -> bool:
        """Whether an ICMP echo request is answered."""
        words = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
        summed = sum(struct.unpack("!4H", words))
        request = struct.pack("!BBHHH", 8, 0, ~(summed + (summed >> 16)) & 0xFFFF, 7, 1)

        def ask() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
                raw.settimeout(PATIENCE)
                try:
                    raw.sendto(request, (target.address, 0))
                    while True:
                        packet, (sender, _) = raw.recvfrom(1024)
                        if sender == target.address and packet[20] == 0:
                            return True
                except OSError:
                    return False

        return netns.inside(source.namespace, ask)


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """A world with the region's extensions, which change moto's classes until the end."""
    settings = Settings(state=folder, store=folder / "store", name=f"test{SLOT}-net", slot=SLOT + 2)
    with undoing(), mock_aws(), ExitStack() as stack:
        region = Region(settings, Podman(settings))
        region.network = Network(settings, lambda vpc_id, namespace: None, lambda vpc_id: None)
        region.network.close()
        region.network.open()
        stack.callback(region.network.close)
        for extension in EXTENSIONS:
            extension.install(region)
        yield World(region, stack)


def acl(world: World, subnet: str) -> str:
    """A network ACL of the subnet's own, which denies everything yet."""
    made: str = world.ec2.create_network_acl(VpcId=world.vpc)["NetworkAcl"]["NetworkAclId"]
    for existing in world.ec2.describe_network_acls()["NetworkAcls"]:
        for association in existing["Associations"]:
            if association["SubnetId"] == world.subnets[subnet]:
                name = association["NetworkAclAssociationId"]
                world.ec2.replace_network_acl_association(AssociationId=name, NetworkAclId=made)
    return made
