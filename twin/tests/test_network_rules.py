"""Rules as a whole: taken over from a killed twin, equal for equal records, closed at first, and what is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import client, undoing
from moto import mock_aws
from network_world import ANYWHERE, EXTENSIONS, PATIENCE, SSH, WEB, Body, World, opened, speaks

from twin.bodies import firewall, netns
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.networks import vpc_of
from twin.region.region import Region
from twin.settings import Settings


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as world:
        yield world


def test_a_restarted_twin_takes_over_its_networks(world: World) -> None:
    group = world.group("open")
    world.allow(group, SSH, ANYWHERE)
    body, other = world.body("public", group, public=True), world.body("public", group)
    gone = world.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    world.network.ensure_vpc(gone)
    opened: list[tuple[str, str]] = []
    subnet = world.region.subnet(world.subnets["public"])
    with world.connect(None, body.public, SSH) as established, world.connect(other, body.address, SSH) as inner:
        again = Network(world.region.settings, lambda *vpc: opened.append(vpc), lambda vpc_id: None)
        again.open()
        again.adopt([world.vpc])
        assert opened == [(world.vpc, world.namespace)]
        assert gone not in again.vpcs()
        assert not netns.path(again.namespace(gone)).exists()
        world.region.network = world.network = again
        world.loop = type(world.loop)(world.region)
        again.publish(body.public, world.vpc, body.address)
        again.attach(body.eni, world.vpc, subnet.id, subnet.cidr_block, body.address)
        world.settle()
        assert speaks(established)
        assert speaks(inner)
    assert world.reaches(None, body, SSH)
    # What it found it can change and take away.
    fresh = world.body("app", group)
    assert world.reaches(other, fresh, SSH)
    again.unpublish(body.public)
    assert not world.reaches(None, body, SSH)
    again.publish(body.public, world.vpc, other.address)
    world.region.ec2.enis[other.eni].public_ip = body.public
    world.settle()
    assert world.reaches(None, replace(other, public=body.public), SSH)


def test_equal_records_give_equal_rules_quickly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred instances: rules are rendered in a fraction of the period, and nothing is applied without a change."""
    group = world.group("fleet")
    world.allow(group, WEB, group)
    for _ in range(100):
        eni = world.ec2.create_network_interface(SubnetId=world.subnets["app"], Groups=[group])["NetworkInterface"]
        world._settled_address(eni["NetworkInterfaceId"])
    world.settle()
    applied: list[str] = []
    monkeypatch.setattr(world.network, "apply", lambda vpc_id, text: applied.append(vpc_id))
    world.settle()
    assert applied == []
    assert firewall.render(vpc_of(world.region, world.vpc)).count("goto egress_") == 101  # with the NAT gateway's
    world.allow(group, SSH, group)
    world.settle()
    assert applied == [world.vpc]


def test_rules_that_nftables_rejects_leave_the_former_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    group = world.group("open")
    world.allow(group, SSH, ANYWHERE)
    one, other = world.body("app", group), world.body("app", group)
    with monkeypatch.context() as patched:
        patched.setattr(firewall, "render", lambda vpc: "table inet nonsense {")
        world.settle()
    assert world.all_reach([(one, other, SSH), (one, other, WEB)]) == [True, False]


def test_the_router_itself_reaches_no_interface(world: World) -> None:
    group = world.group("open")
    world.allow(group, SSH, ANYWHERE)
    one, other = world.body("app", group), world.body("app", group)
    assert world.reaches(one, other, SSH)
    with pytest.raises(TimeoutError):
        netns.inside(world.namespace, lambda: socket.create_connection((other.address, SSH), PATIENCE))


def test_a_vpc_starts_closed(world: World) -> None:
    vpc = world.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = world.ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    bodies = []
    for number in (10, 11):
        world.network.attach(f"early-{number}", vpc, subnet, "10.1.0.0/24", f"10.1.0.{number}")
        bodies.append(Body("", f"10.1.0.{number}", world.network.namespace(f"early-{number}")))
    assert not world.pings(*bodies)
    world.network.apply(vpc, f"delete table inet {firewall.TABLE}")
    assert world.pings(*bodies)


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("create_transit_gateway", {}),
        ("create_vpn_gateway", {"Type": "ipsec.1"}),
        ("create_flow_logs", {"ResourceIds": ["vpc-0"], "ResourceType": "VPC"}),
        ("create_vpc", {"CidrBlock": "10.7.0.0/16", "AmazonProvidedIpv6CidrBlock": True}),
        ("create_egress_only_internet_gateway", {"VpcId": "VPC"}),
        ("create_vpc_peering_connection", {"VpcId": "VPC", "PeerVpcId": "VPC"}),
        ("create_route", {"RouteTableId": "TABLE", "DestinationCidrBlock": "10.8.0.0/16", "TransitGatewayId": "tgw-1"}),
    ],
)
def test_what_is_absent_is_refused(tmp_path: Path, action: str, options: dict[str, Any]) -> None:
    settings, ec2 = Settings(state=tmp_path, store=tmp_path, name="absent", slot=64), client("ec2")
    with undoing(), mock_aws():
        region = Region(settings, Podman(settings))
        for extension in EXTENSIONS:
            extension.install(region)
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        names = {"VPC": vpc, "TABLE": ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]}
        filled = {key: names.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
        with pytest.raises(ClientError, match=r"UnsupportedOperation.*not supported by the twin"):
            getattr(ec2, action)(**filled)
