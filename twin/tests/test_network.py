"""The VPC's network between real namespaces: security groups, network ACLs, routes, faults, and a killed twin's networks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import SLOT
from moto import mock_aws
from network_world import ANYWHERE, PATIENCE, POSTGRES, SSH, WEB, Body, World, speaks
from werkzeug.serving import make_server

from twin.bodies import firewall, netns
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.networks import vpc_of
from twin.region import absent_networks, ec2, network_acls, patch, routes, security_groups, vpc_endpoints
from twin.region.region import Region
from twin.settings import API_ADDRESS, DNS_ADDRESS, MAIL_ADDRESS, METADATA_ADDRESS, Settings

GUIDE = "https://docs.aws.amazon.com/vpc/latest/userguide"
TRACKING = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html"
FIS = "https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # The extensions change moto's classes; this takes the changes back afterwards.
    undoable: Any = monkeypatch.setattr
    monkeypatch.setattr(patch, "setattr", lambda *args: undoable(*args, raising=False), raising=False)
    settings = Settings(state=tmp_path, store=tmp_path / "store", name=f"test{SLOT}-net", slot=SLOT + 2)
    with mock_aws(), ExitStack() as stack:
        region = Region(settings, Podman(settings))
        region.network = Network(settings, lambda vpc_id, namespace: None, lambda vpc_id: None)
        region.network.close()
        region.network.open()
        stack.callback(region.network.close)
        for extension in (ec2, security_groups, network_acls, routes, absent_networks, vpc_endpoints):
            extension.install(region)
        yield World(region, stack)


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


def acl(world: World, subnet: str) -> str:
    """A network ACL of the subnet's own, which denies everything yet."""
    made: str = world.ec2.create_network_acl(VpcId=world.vpc)["NetworkAcl"]["NetworkAclId"]
    for existing in world.ec2.describe_network_acls()["NetworkAcls"]:
        for association in existing["Associations"]:
            if association["SubnetId"] == world.subnets[subnet]:
                name = association["NetworkAclAssociationId"]
                world.ec2.replace_network_acl_association(AssociationId=name, NetworkAclId=made)
    return made


def entry(world: World, name: str, number: int, action: str, cidr: str, ports: tuple[int, int], *, egress: bool = False) -> None:
    world.ec2.create_network_acl_entry(
        NetworkAclId=name,
        RuleNumber=number,
        Protocol="6",
        RuleAction=action,
        Egress=egress,
        CidrBlock=cidr,
        PortRange={"From": ports[0], "To": ports[1]},
    )


@pytest.mark.rule(
    "network",
    "The default network ACL allows everything; one that was created denies everything.",
    f"{GUIDE}/default-network-acl.html",
)
@pytest.mark.rule(
    "network",
    "Network ACLs are stateless: a reply needs an entry of its own, for the client's ephemeral port.",
    f"{GUIDE}/nacl-basics.html",
)
@pytest.mark.rule(
    "network", "Network ACL entries are tried by number, and the first that fits decides.", f"{GUIDE}/nacl-rules.html"
)
@pytest.mark.rule(
    "network", "Network ACLs hold at a subnet's borders, not between interfaces in it.", f"{GUIDE}/vpc-network-acls.html"
)
def test_network_acls(world: World) -> None:
    group = world.group("open")
    world.allow(group, 0, ANYWHERE, last=65535)
    client, server, beside = world.body("app", group), world.body("database", group), world.body("database", group)
    tries = [(client, server, POSTGRES), (beside, server, POSTGRES)]
    assert world.all_reach(tries) == [True, True]
    with world.connect(client, server.address, POSTGRES) as established:
        assert speaks(established)
        made = acl(world, "database")
        world.settle()
        assert not speaks(established)
    assert world.all_reach(tries) == [False, True]
    entry(world, made, 200, "allow", "10.0.1.0/24", (POSTGRES, POSTGRES))
    world.settle()
    assert not world.reaches(client, server, POSTGRES)  # it comes in, and no answer goes out
    entry(world, made, 200, "allow", "10.0.1.0/24", (1024, 65535), egress=True)
    world.settle()
    assert world.all_reach([*tries, (client, server, WEB)]) == [True, True, False]
    entry(world, made, 100, "deny", f"{client.address}/32", (0, 65535))
    world.settle()
    another = world.body("app", group)
    assert world.all_reach([(client, server, POSTGRES), (another, server, POSTGRES)]) == [False, True]


@pytest.mark.rule(
    "network",
    "Only a subnet with a route to an internet gateway is public, and only a public address gets out.",
    f"{GUIDE}/VPC_Internet_Gateway.html",
)
@pytest.mark.rule(
    "network",
    "Through a NAT gateway instances reach the internet, which can't reach them.",
    f"{GUIDE}/vpc-nat-gateway.html",
)
@pytest.mark.rule("network", "A subnet without a default route has no way out of the VPC.", f"{GUIDE}/VPC_Route_Tables.html")
@pytest.mark.rule(
    "network", "A route whose NAT gateway was deleted is a black hole.", f"{GUIDE}/nat-gateway-troubleshooting.html"
)
def test_routes(world: World) -> None:
    group = world.group("open")
    world.allow(group, 0, ANYWHERE, last=65535)
    public, private = world.body("public", group, public=True), world.body("public", group)
    app, database = world.body("app", group, public=True), world.body("database", group)
    out = [(body, world.outside, WEB) for body in (public, private, app, database)]
    assert world.all_reach(out) == [True, False, True, False]
    assert world.all_reach([(None, public, SSH), (None, app, SSH)]) == [True, False]
    with world.connect(app, world.outside, WEB) as through:
        assert speaks(through)
        world.ec2.delete_nat_gateway(NatGatewayId=world.nat)
        world.settle()
        assert not speaks(through)
    assert world.all_reach(out) == [True, False, False, False]
    # A longer prefix wins over the default route.
    world.ec2.create_route(
        RouteTableId=world.tables["public"], DestinationCidrBlock=f"{world.outside}/32", NatGatewayId=world.nat
    )
    world.settle()
    assert not world.reaches(public, world.outside, WEB)
    world.ec2.delete_route(RouteTableId=world.tables["public"], DestinationCidrBlock=f"{world.outside}/32")
    world.ec2.detach_internet_gateway(InternetGatewayId=world.gateway, VpcId=world.vpc)
    world.settle()
    assert world.all_reach([out[0], (None, public, SSH)]) == [False, False]
    # What stays inside the VPC needs no route of its own.
    assert world.all_reach([(app, database, POSTGRES), (public, app, SSH)]) == [True, True]


@pytest.mark.rule(
    "network",
    "A subnet without a route table of its own follows the VPC's main route table.",
    f"{GUIDE}/subnet-route-tables.html",
)
def test_the_main_route_table(world: World) -> None:
    subnet = world.ec2.create_subnet(VpcId=world.vpc, CidrBlock="10.0.9.0/24")["Subnet"]["SubnetId"]
    world.subnets["plain"] = subnet
    body = world.body("plain", public=True)
    assert not world.reaches(body, world.outside, WEB)
    main = world.ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [world.vpc]}, {"Name": "association.main", "Values": ["true"]}]
    )["RouteTables"][0]["RouteTableId"]
    world.ec2.create_route(RouteTableId=main, DestinationCidrBlock=ANYWHERE, GatewayId=world.gateway)
    world.settle()
    assert world.reaches(body, world.outside, WEB)


@pytest.mark.rule(
    "network",
    "Neither security groups nor network ACLs filter the metadata service and the VPC's DNS.",
    f"{GUIDE}/vpc-security-groups.html",
)
@pytest.mark.rule(
    "network",
    "AWS's services are reached by a way out or a VPC endpoint, and need HTTPS in the outbound rules.",
    "https://docs.aws.amazon.com/vpc/latest/privatelink/concepts.html",
)
@pytest.mark.rule(
    "network",
    "Traffic to a gateway endpoint needs an outbound rule for the service's prefix list.",
    "https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
)
def test_services(world: World) -> None:
    closed, group, strict = world.group("closed", closed=True), world.group("open"), world.group("strict", closed=True)
    app, database, shut = world.body("app", group), world.body("database", group), world.body("database", closed)
    every = [(body, address, 80) for body in (app, database, shut) for address in (METADATA_ADDRESS, DNS_ADDRESS)]
    assert all(world.all_reach(every))
    assert world.all_reach([(body, address, 80) for address in (API_ADDRESS, MAIL_ADDRESS) for body in (app, database)]) == [
        *(True, False),
        *(True, False),
    ]
    # Outbound HTTPS is what leads to AWS, though the twin speaks HTTP; a prefix list leads to AWS alone.
    narrow = world.body("app", strict)
    assert not world.reaches(narrow, API_ADDRESS, 80)
    world.allow(strict, 80, ANYWHERE, egress=True)
    world.settle()
    assert not world.reaches(narrow, API_ADDRESS, 80)
    lists = world.ec2.describe_managed_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": ["com.amazonaws.us-east-1.dynamodb"]}]
    )["PrefixLists"]
    world.allow(strict, 443, lists[0]["PrefixListId"], egress=True)
    world.settle()
    assert world.all_reach([(narrow, API_ADDRESS, 80), (narrow, MAIL_ADDRESS, 80)]) == [True, False]
    # A gateway endpoint in the subnet's route table opens AWS to it, and not the internet.
    world.ec2.create_vpc_endpoint(
        VpcId=world.vpc,
        ServiceName="com.amazonaws.us-east-1.s3",
        VpcEndpointType="Gateway",
        RouteTableIds=[world.tables["database"]],
    )
    world.settle()
    tries = [(database, API_ADDRESS, 80), (database, MAIL_ADDRESS, 80), (shut, API_ADDRESS, 80)]
    assert world.all_reach(tries) == [True, False, False]


@pytest.mark.rule(
    "network",
    "An interface endpoint is reached where its security groups let HTTPS in.",
    "https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html",
)
def test_interface_endpoints(world: World) -> None:
    group, endpoint = world.group("inner", closed=True), world.group("endpoint")
    world.allow(group, 443, endpoint, egress=True)
    body = world.body("database", group)
    assert not world.reaches(body, API_ADDRESS, 80)
    made = world.ec2.create_vpc_endpoint(
        VpcId=world.vpc,
        ServiceName="com.amazonaws.us-east-1.sqs",
        VpcEndpointType="Interface",
        SubnetIds=[world.subnets["database"]],
        SecurityGroupIds=[endpoint],
    )["VpcEndpoint"]["VpcEndpointId"]
    world.settle()
    assert not world.reaches(body, API_ADDRESS, 80)
    world.allow(endpoint, 443, group)
    world.settle()
    assert world.reaches(body, API_ADDRESS, 80)
    world.ec2.delete_vpc_endpoints(VpcEndpointIds=[made])
    world.settle()
    assert not world.reaches(body, API_ADDRESS, 80)


@pytest.mark.rule(
    "faults", "Disrupting a subnet's connectivity (all) drops what enters and leaves it, not what stays inside.", FIS
)
@pytest.mark.rule(
    "faults", "Scope availability-zone keeps a subnet from other zones' subnets, scope vpc from outside its VPC.", FIS
)
def test_disruption_cuts_live_connections(world: World) -> None:
    group = world.group("open")
    world.allow(group, 0, ANYWHERE, last=65535)
    one, beside = world.body("app", group), world.body("app", group)
    database, far = world.body("database", group), world.body("app-b", group)
    node = world.balancer("public", group)
    disrupted = world.region.faults.disrupted
    with world.connect(database, one.address, WEB) as established:
        assert speaks(established)
        disrupted[world.subnets["app"]] = "all"
        world.settle()
        assert not speaks(established)
    tries = [(one, beside, WEB), (one, database, WEB), (far, one, WEB), (node, one, WEB), (one, world.outside, WEB)]
    services = [(one, API_ADDRESS, 80), (one, METADATA_ADDRESS, 80)]
    assert world.all_reach([*tries, *services]) == [True, False, False, False, False, False, True]
    # A rendering for another reason keeps it.
    world.body("app-b", group)
    assert not world.reaches(one, database, WEB)
    disrupted[world.subnets["app"]] = "availability-zone"
    world.settle()
    assert world.all_reach([*tries, *services]) == [True, True, False, True, True, True, True]
    disrupted[world.subnets["app"]] = "vpc"
    world.settle()
    assert world.all_reach([*tries, *services]) == [True, True, True, True, False, False, True]
    del disrupted[world.subnets["app"]]
    world.settle()
    assert all(world.all_reach([*tries, *services]))


def environment(world: World, body: Body, service: str) -> dict[str, Any]:
    scope = f"AWS4-HMAC-SHA256 Credential=AKIA0/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    return {"twin.vpc": world.vpc, "REMOTE_ADDR": body.address, "HTTP_AUTHORIZATION": scope, "QUERY_STRING": ""}


@pytest.mark.rule(
    "network",
    "Without a way out, a subnet reaches those services alone for which it has an endpoint.",
    "https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
)
@pytest.mark.rule("faults", "Scopes s3 and dynamodb keep a subnet from that service's regional endpoint alone.", FIS)
def test_services_are_told_apart(world: World) -> None:
    gate = world.region.gates[-1]
    app, database = world.body("app"), world.body("database")
    world.ec2.create_vpc_endpoint(
        VpcId=world.vpc,
        ServiceName="com.amazonaws.us-east-1.s3",
        VpcEndpointType="Gateway",
        RouteTableIds=[world.tables["database"]],
    )

    def passes(body: Body, service: str) -> bool:
        return gate(environment(world, body, service)) is None

    assert [passes(app, service) for service in ("s3", "dynamodb", "sqs")] == [True, True, True]
    assert [passes(database, service) for service in ("s3", "dynamodb", "sqs")] == [True, False, False]
    assert gate({"REMOTE_ADDR": database.address, "QUERY_STRING": ""}) is None  # from the host
    disrupted = world.region.faults.disrupted
    disrupted[world.subnets["app"]] = "dynamodb"
    assert [passes(app, service) for service in ("s3", "dynamodb", "sqs")] == [True, False, True]

    # A request that is held gets no answer; when the fault is lifted its connection ends, for the client to try again.
    def api(environ: dict[str, Any], start_response: Any) -> Any:
        return gate({**environ, **environment(world, app, "dynamodb")})(environ, start_response)

    server = make_server(world.region.settings.address, 4566, api, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection((world.region.settings.address, 4566), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(1.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        disrupted.clear()
        connection.settimeout(10)
        assert connection.recv(1) == b""
    server.shutdown()
    server.server_close()


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
def test_what_is_absent_is_refused(world: World, action: str, options: dict[str, Any]) -> None:
    names = {"VPC": world.vpc, "TABLE": world.tables["app"]}
    filled = {key: names.get(value, value) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(ClientError, match=r"UnsupportedOperation.*not supported by the twin"):
        getattr(world.ec2, action)(**filled)


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
        return until(f"{started} running", lambda: self._running(started))

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
            until(f"{name} gone", lambda name=name: name not in self.podman.containers())


def until(what: str, ready: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.1)
    return found


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
        until("the listener", lambda: machines.reaches(app, database, POSTGRES))
        assert not machines.reaches(other, database, POSTGRES)
        for instance, group in ((other, "app"), (app, "other")):
            ec2.modify_instance_attribute(InstanceId=instance["InstanceId"], Groups=[groups[group]])
        changed = time.monotonic()
        until("access for a new member", lambda: machines.reaches(other, database, POSTGRES), 10)
        assert time.monotonic() - changed < 5  # well under a second, and what it takes to run a command in a container
        assert not machines.reaches(app, database, POSTGRES)
        ec2.revoke_security_group_ingress(GroupId=groups["db"], IpPermissions=[rule])
        until("no access without a rule", lambda: not machines.reaches(other, database, POSTGRES), 10)
        # After a restart the instance has its interface and its rules.
        ec2.authorize_security_group_ingress(GroupId=groups["db"], IpPermissions=[rule])
        ec2.stop_instances(InstanceIds=[other["InstanceId"]])
        until("stopped", lambda: _state(ec2, other) == "stopped")
        ec2.start_instances(InstanceIds=[other["InstanceId"]])
        until("start", lambda: machines._running(other["InstanceId"]))
        until("access after a restart", lambda: machines.reaches(other, database, POSTGRES), 20)
        assert not machines.reaches(app, database, POSTGRES)
    finally:
        machines.end()


def _state(ec2: Any, instance: dict[str, Any]) -> str:
    found = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"][0]["Instances"][0]
    state: str = found["State"]["Name"]
    return state


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
