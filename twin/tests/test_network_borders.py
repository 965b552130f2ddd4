"""What crosses a subnet's border: network ACLs, routes, the way to AWS's services, and faults of the network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network_world import ANYWHERE, POSTGRES, SSH, WEB, Body, World, acl, opened, speaks
from werkzeug.serving import make_server

from twin.settings import API_ADDRESS, DNS_ADDRESS, MAIL_ADDRESS, METADATA_ADDRESS

GUIDE = "https://docs.aws.amazon.com/vpc/latest/userguide"
FIS = "https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as world:
        yield world


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
