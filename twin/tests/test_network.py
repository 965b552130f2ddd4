"""Security groups between real namespaces, every pair of tiers; and between instances of a running twin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from common import until
from network_world import ANYWHERE, PATIENCE, POSTGRES, SSH, WEB, World, acl, opened, speaks

from twin.bodies import netns
from twin.bodies.network import bridge_of, router_of
from twin.bodies.podman import Podman
from twin.settings import API_ADDRESS, Settings

GUIDE = "https://docs.aws.amazon.com/vpc/latest/userguide"
TRACKING = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as world:
        yield world


@pytest.mark.rule(
    "network",
    "A connection passes only if the source's security groups allow it out and the destination's allow it in.",
    f"{GUIDE}/vpc-security-groups.html",
)
@pytest.mark.rule(
    "network",
    "A security group without inbound rules lets nothing in, from the internet or from inside the VPC.",
    f"{GUIDE}/security-group-rules.html",
)
@pytest.mark.rule(
    "network",
    "A rule that refers to a security group allows the interfaces in that group, by their private addresses.",
    f"{GUIDE}/security-group-rules.html",
)
def test_every_pair_of_tiers(world: World) -> None:
    edge, app, database, other = (world.group(name) for name in ("edge", "app", "database", "other"))
    closed = world.group("closed", closed=True)
    world.allow(edge, WEB, ANYWHERE)
    world.allow(app, WEB, edge)
    world.allow(database, POSTGRES, app)
    world.allow(other, SSH, ANYWHERE)
    bodies = {
        "internet": None,
        "balancer": world.balancer("public", edge),
        "edge": world.body("public", edge, public=True),
        "app": world.body("app", app),
        "app in zone b": world.body("app-b", app),
        "database": world.body("database", database),
        "other": world.body("public", other, public=True),
        "closed": world.body("app", closed),
    }
    expected = {
        # The internet reaches public addresses alone.
        *(("internet", "edge", WEB), ("internet", "other", SSH)),
        *((source, target, WEB) for source in ("balancer", "edge") for target in ("app", "app in zone b")),
        *((source, "database", POSTGRES) for source in ("app", "app in zone b")),
        *((name, "edge", WEB) for name in bodies if name not in ("internet", "closed")),
        *((name, "other", SSH) for name in bodies if name not in ("internet", "closed")),
    }
    tries = [
        (source, target, port)
        for source in bodies
        for target, body in bodies.items()
        for port in (WEB, POSTGRES, SSH)
        if body is not None and source != target and target != "balancer" and (source != "internet" or body.public)
    ]
    # Every server answers, so that silence between two bodies is the rules' doing.
    for body in bodies.values():
        if body is not None and body != bodies["balancer"]:
            assert all(world.reaches(body, body, port) for port in (WEB, POSTGRES, SSH))
    # A connection to oneself never comes by the rules; one between interfaces of one group does.
    tried = world.all_reach((bodies[source], bodies[target] or "", port) for source, target, port in tries)
    expected -= {("edge", "edge", WEB), ("other", "other", SSH)}
    assert {one for one, reached in zip(tries, tried, strict=True) if reached} == expected


@pytest.mark.rule(
    "network",
    "Membership is live: an interface that joins, changes or leaves a group gains and loses what the group may at once.",
    f"{GUIDE}/working-with-security-group-rules.html",
)
@pytest.mark.rule(
    "network", "The default security group lets in its own members and nobody else.", f"{GUIDE}/default-security-group.html"
)
def test_groups_are_resolved_live(world: World) -> None:
    app, database = world.group("app"), world.group("database")
    world.allow(database, POSTGRES, app)
    server = world.body("database", database)
    # In the default group, and in the subnet of another of its members: one bridge carries both.
    first, second = world.body("app"), world.body("app")
    assert world.all_reach([(first, second, SSH), (first, server, POSTGRES)]) == [True, False]
    world.ec2.modify_network_interface_attribute(NetworkInterfaceId=first.eni, Groups=[app])
    world.settle()
    assert world.all_reach([(first, second, SSH), (first, server, POSTGRES), (second, server, POSTGRES)]) == [False, True, False]
    third = world.body("app-b", app)
    assert world.reaches(third, server, POSTGRES)
    world.ec2.delete_network_interface(NetworkInterfaceId=third.eni)
    world.settle()
    # Its body is still there, but nothing on record has its address any more.
    assert world.all_reach([(third, server, POSTGRES), (third, world.outside, WEB)]) == [False, False]


@pytest.mark.rule(
    "network", "Rules for tcp, udp and icmp hold for their protocol and ports alone.", f"{GUIDE}/security-group-rules.html"
)
@pytest.mark.rule(
    "network",
    "A rule may refer to a customer-managed prefix list; its entries count as they are now.",
    f"{GUIDE}/managed-prefix-lists.html",
)
@pytest.mark.rule(
    "network", "Without an outbound rule for it, an interface opens no connection.", f"{GUIDE}/security-group-rules.html"
)
def test_protocols_ports_prefix_lists_and_egress(world: World) -> None:
    client, server = world.group("client", closed=True), world.group("server")
    prefixes = world.ec2.create_managed_prefix_list(
        PrefixListName="clients", MaxEntries=5, AddressFamily="IPv4", Entries=[{"Cidr": "10.9.0.0/16"}]
    )["PrefixList"]["PrefixListId"]
    world.allow(server, 5000, prefixes, last=8080)
    one, other = world.body("app", client), world.body("app", server)
    tries = [(one, other, WEB), (one, other, POSTGRES), (one, other, SSH)]
    assert world.all_reach(tries) == [False, False, False]
    world.allow(client, 0, ANYWHERE, egress=True, last=65535)
    world.settle()
    assert world.all_reach(tries) == [False, False, False]
    world.ec2.modify_managed_prefix_list(PrefixListId=prefixes, CurrentVersion=1, AddEntries=[{"Cidr": "10.0.1.0/24"}])
    world.settle()
    assert world.all_reach(tries) == [True, True, False]
    # ICMP needs rules of its own, on both sides.
    assert not world.pings(one, other)
    world.allow(client, 8, ANYWHERE, egress=True, protocol="icmp", last=-1)
    world.settle()
    assert not world.pings(one, other)
    world.allow(server, -1, "10.0.0.0/16", protocol="icmp", last=-1)
    world.settle()
    assert world.pings(one, other)
    assert not world.pings(other, one)


@pytest.mark.rule(
    "network", "Security groups are stateful: replies pass whatever the rules of the other direction say.", TRACKING
)
@pytest.mark.rule(
    "network", "When a rule is removed, connections that are being tracked are not interrupted; new ones are refused.", TRACKING
)
def test_security_groups_keep_state(world: World) -> None:
    client, server = world.group("client"), world.group("server", closed=True)
    world.allow(server, POSTGRES, client)
    one, other = world.body("app", client), world.body("database", server)
    with world.connect(one, other.address, POSTGRES) as connection:
        assert speaks(connection)
        world.ec2.revoke_security_group_ingress(
            GroupId=server,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": POSTGRES, "ToPort": POSTGRES, "UserIdGroupPairs": [{"GroupId": client}]}
            ],
        )
        world.settle()
        assert speaks(connection)
        assert not world.reaches(one, other, POSTGRES)


def test_a_router_stays_itself_while_neighbours_come_and_go(world: World) -> None:
    subnet = world.subnets["app"]
    staying = world.body("app", ports=())

    def router() -> str:
        return str(netns.ip_json(f"link show dev {bridge_of(subnet)}", world.namespace)[0]["address"])

    seen = {router()}
    for _ in range(4):
        passing = [world.body("app", ports=()) for _ in range(2)]
        seen.add(router())
        with world.connect(staying, API_ADDRESS, 80) as connection:
            for body in passing:
                world.network.detach(body.eni)
                seen.add(router())
                assert speaks(connection)
    assert seen == {router_of(subnet)}


def test_a_standby_follows_its_primary_whatever_the_rules(world: World) -> None:
    """RDS replicates on a network of its own: a group that lets nothing in or out does not stop it, nor does an ACL."""
    group = world.group("database", closed=True)
    primary, standby, other = world.body("database", group), world.body("app-b", group), world.body("app")
    acl(world, "database")
    world.settle()
    assert not world.reaches(standby, primary, POSTGRES)
    for body in (primary, standby):
        world.region.ec2.enis[body.eni].description = "RDSNetworkInterface"
    world.settle()
    assert world.all_reach([(standby, primary, POSTGRES), (other, primary, POSTGRES)]) == [True, False]


def test_the_default_group_can_be_emptied(world: World) -> None:
    """As Terraform's aws_default_security_group does, with the permissions that it was told."""
    filters = [{"Name": "group-name", "Values": ["default"]}, {"Name": "vpc-id", "Values": [world.vpc]}]
    found = world.ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]
    assert [pair["GroupId"] for pair in found["IpPermissions"][0]["UserIdGroupPairs"]] == [found["GroupId"]]
    one, other = world.body("app"), world.body("app")
    assert world.reaches(one, other, SSH)
    world.ec2.revoke_security_group_ingress(GroupId=found["GroupId"], IpPermissions=found["IpPermissions"])
    world.settle()
    assert not world.reaches(one, other, SSH)
    assert world.ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["IpPermissions"] == []


class Machines:
    """Instances of the served twin, and what one of them sees of another."""

    def __init__(self, ec2: Any, settings: Settings) -> None:
        self.ec2 = ec2
        self.podman = Podman(settings)
        self.ids: list[str] = []
        base = ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}])
        self.image = base["Images"][0]["ImageId"]

    def launch(self, group: str, user_data: str = "#!/bin/true\n") -> dict[str, Any]:
        started = self.ec2.run_instances(
            ImageId=self.image, InstanceType="t3.micro", MinCount=1, MaxCount=1, SecurityGroupIds=[group], UserData=user_data
        )["Instances"][0]["InstanceId"]
        self.ids.append(started)
        return until(lambda: self._running(started))

    def _running(self, instance_id: str) -> Any:
        found = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return found if found["State"]["Name"] == "running" else None

    def reaches(self, source: dict[str, Any], target: dict[str, Any], port: int) -> bool:
        code = (
            f"import socket; socket.create_connection(('{target['PrivateIpAddress']}', {port}), {PATIENCE}).close(); print('yes')"
        )
        return self.podman.run("exec", source["InstanceId"], "python3", "-c", code, check=False) == "yes"

    def end(self) -> None:
        self.ec2.terminate_instances(InstanceIds=self.ids)
        for name in self.ids:
            until(lambda name=name: name not in self.podman.containers())


LISTENER = "#!/bin/sh\nsystemd-run --unit=listener python3 -m http.server 5432\n"


@pytest.mark.rule(
    "network",
    "An instance's groups can be replaced while it runs, and changed rules apply to all its members after a short while.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/changing-security-group.html",
)
def test_instances_of_a_running_twin(served: Settings, client: Callable[[str], Any]) -> None:
    """From outside the app tier's group the database's port does not answer; from the app tier it does."""
    ec2 = client("ec2")
    machines = Machines(ec2, served)
    groups = {
        name: ec2.create_security_group(GroupName=f"net-{name}", Description=name)["GroupId"] for name in ("app", "db", "other")
    }
    rule = {"IpProtocol": "tcp", "FromPort": POSTGRES, "ToPort": POSTGRES, "UserIdGroupPairs": [{"GroupId": groups["app"]}]}
    ec2.authorize_security_group_ingress(GroupId=groups["db"], IpPermissions=[rule])
    try:
        database = machines.launch(groups["db"], LISTENER)
        app, other = machines.launch(groups["app"]), machines.launch(groups["other"])
        until(lambda: machines.reaches(app, database, POSTGRES))
        assert not machines.reaches(other, database, POSTGRES)
        for instance, group in ((other, "app"), (app, "other")):
            ec2.modify_instance_attribute(InstanceId=instance["InstanceId"], Groups=[groups[group]])
        changed = time.monotonic()
        until(lambda: machines.reaches(other, database, POSTGRES), 10)
        assert time.monotonic() - changed < 5  # well under a second, and what it takes to run a command in a container
        assert not machines.reaches(app, database, POSTGRES)
        ec2.revoke_security_group_ingress(GroupId=groups["db"], IpPermissions=[rule])
        until(lambda: not machines.reaches(other, database, POSTGRES), 10)
        # After a restart the instance has its interface and its rules.
        ec2.authorize_security_group_ingress(GroupId=groups["db"], IpPermissions=[rule])
        ec2.stop_instances(InstanceIds=[other["InstanceId"]])
        until(lambda: _state(ec2, other) == "stopped")
        ec2.start_instances(InstanceIds=[other["InstanceId"]])
        until(lambda: machines._running(other["InstanceId"]))
        until(lambda: machines.reaches(other, database, POSTGRES), 20)
        assert not machines.reaches(app, database, POSTGRES)
    finally:
        machines.end()


def _state(ec2: Any, instance: dict[str, Any]) -> str:
    found = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"][0]["Instances"][0]
    state: str = found["State"]["Name"]
    return state
