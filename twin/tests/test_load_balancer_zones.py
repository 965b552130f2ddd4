"""A load balancer's place in its VPC: security groups, its nodes' addresses, its zones and zonal shifts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from balancing import PORT, World, shares
from botocore.config import Config
from botocore.exceptions import ClientError
from common import until
from werkzeug.serving import make_server

pytest_plugins = ["balancing_fixtures"]
SHIFT = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/zonal-shift.html"
SUBNETS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html"


@pytest.mark.rule(
    "load balancing",
    "Clients that no inbound rule of the load balancer's security groups admits are not served; rules count at once.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-update-security-groups.html",
)
def test_security_groups(world: World) -> None:
    world.healthy_target()

    def admitted(source: str) -> bool:
        try:
            with socket.create_connection((world.address, PORT), timeout=5, source_address=(source, 0)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            return False

    assert admitted("127.0.0.1")
    assert admitted("127.9.9.9")
    everyone = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    world.admit("127.9.9.0/24", PORT)
    world.admit("127.0.0.0/16", PORT + 1)
    world.ec2.revoke_security_group_ingress(GroupId=world.security_group, IpPermissions=[everyone])
    until(lambda: not admitted("127.0.0.1"))
    assert admitted("127.9.9.9")
    other = world.ec2.create_security_group(GroupName="other", Description="other", VpcId=world.vpc)["GroupId"]
    world.elbv2.set_security_groups(LoadBalancerArn=world.balancer, SecurityGroups=[other])
    until(lambda: not admitted("127.9.9.9"))
    world.elbv2.set_security_groups(LoadBalancerArn=world.balancer, SecurityGroups=[other, world.security_group])
    until(lambda: admitted("127.9.9.9"))
    made = world.elbv2.create_load_balancer(Name="plain", Subnets=world.subnets)["LoadBalancers"][0]
    groups = world.ec2.describe_security_groups(GroupIds=made["SecurityGroups"])["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]


@pytest.mark.rule(
    "network",
    "A load balancer has a network interface in each of its subnets, and targets see requests come from these.",
    SUBNETS,
)
def test_node_addresses(world: World) -> None:
    def nodes() -> dict[str, dict[str, Any]]:
        described = world.ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [world.security_group]}])
        return {found["SubnetId"]: found for found in described["NetworkInterfaces"] if found["Description"].startswith("ELB ")}

    found = nodes()
    assert set(found) == set(world.subnets)
    for node in found.values():
        assert node["Description"] == "ELB " + world.balancer.split("loadbalancer/")[1]
        assert (node["RequesterManaged"], node["Status"]) == (True, "in-use")
        assert node["Attachment"]["InstanceOwnerId"] == "amazon-elb"
    here, there = (found[subnet]["PrivateIpAddress"] for subnet in world.subnets)
    _, first = world.healthy_target(zone=0)
    _, second = world.healthy_target(zone=1)
    assert len(shares(world)) == 2
    assert (first.clients, second.clients) == ({here}, {there}), "requests and checks, each from the node in the target's zone"
    more = world.ec2.create_subnet(VpcId=world.vpc, CidrBlock="10.0.9.0/24", AvailabilityZone="us-east-1c")["Subnet"]["SubnetId"]
    world.elbv2.set_subnets(LoadBalancerArn=world.balancer, Subnets=[world.subnets[0], more])
    assert set(nodes()) == {world.subnets[0], more}
    assert nodes()[world.subnets[0]]["PrivateIpAddress"] == here, "a node that stays keeps its address"
    world.elbv2.delete_load_balancer(LoadBalancerArn=world.balancer)
    assert nodes() == {}


@pytest.mark.rule(
    "load balancing",
    "A target in an Availability Zone that is not enabled for the load balancer is unused and gets no requests.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html",
)
@pytest.mark.rule("load balancing", "A load balancer needs subnets in two Availability Zones at least.", SUBNETS)
def test_zone_that_is_not_enabled(world: World) -> None:
    _, first = world.healthy_target()
    world.subnets.append(
        world.ec2.create_subnet(VpcId=world.vpc, CidrBlock="10.0.9.0/24", AvailabilityZone="us-east-1c")["Subnet"]["SubnetId"]
    )
    instance, outside = world.target(zone=2)
    assert world.health(instance) == {
        "State": "unused",
        "Reason": "Target.NotInUse",
        "Description": "Target is in an Availability Zone that is not enabled for the load balancer",
    }
    assert set(shares(world)) == {first.address.encode()}
    world.elbv2.set_subnets(LoadBalancerArn=world.balancer, Subnets=world.subnets)
    until(lambda: world.state(instance) == "healthy")
    until(lambda: outside.address.encode() in shares(world))
    with pytest.raises(ClientError, match="ValidationError"):
        world.elbv2.create_load_balancer(Name="single", Subnets=world.subnets[:1])


@pytest.fixture
def arc(world: World) -> Iterator[Any]:
    """A client of Application Recovery Controller at the twin's own routes."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        app = next(filter(None, (route(environ) for route in world.region.routes)))
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    make: Any = boto3.Session("a", "b", region_name="us-east-1").client
    yield make(
        "arc-zonal-shift", endpoint_url=f"http://127.0.0.1:{server.server_port}", config=Config(retries={"max_attempts": 0})
    )
    server.shutdown()


@pytest.mark.rule(
    "load balancing", "A zonal shift keeps new requests from the targets in its zone, whose health still shows.", SHIFT
)
@pytest.mark.rule("load balancing", "A zonal shift that is canceled, or expires, gives the zone its traffic back.", SHIFT)
@pytest.mark.rule(
    "load balancing",
    "Zonal shifts need the load balancer's attribute, are for one zone at a time, and last one minute to three days.",
    "https://docs.aws.amazon.com/arc-zonal-shift/latest/api/API_StartZonalShift.html",
)
def test_zonal_shift(world: World, arc: Any) -> None:
    here, first = world.healthy_target(zone=0)
    there, second = world.healthy_target(zone=1)
    zones = {zone["ZoneName"]: zone["ZoneId"] for zone in world.ec2.describe_availability_zones()["AvailabilityZones"]}
    wanted = {"resourceIdentifier": world.balancer, "awayFrom": zones["us-east-1a"], "expiresIn": "5m", "comment": "drill"}
    with pytest.raises(arc.exceptions.ResourceNotFoundException):
        arc.start_zonal_shift(**wanted)
    world.balancer_attributes(zonal_shift__config__enabled="true")
    for wrong in ({"expiresIn": "73h"}, {"expiresIn": "5d"}, {"awayFrom": zones["us-east-1f"]}):
        with pytest.raises(arc.exceptions.ValidationException):
            arc.start_zonal_shift(**{**wanted, **wrong})
    shift = arc.start_zonal_shift(**wanted)
    assert (shift["status"], shift["awayFrom"]) == ("ACTIVE", "us-east-1a")
    until(lambda: "drain" in world.server_states(here))
    before = len(first.requests)
    assert set(shares(world)) == {second.address.encode()}
    assert len(first.requests) == before
    assert (world.state(here), world.state(there)) == ("healthy", "healthy")
    with pytest.raises(arc.exceptions.ConflictException) as conflict:
        arc.start_zonal_shift(**{**wanted, "awayFrom": zones["us-east-1b"]})
    assert conflict.value.response["reason"] == "ZonalShiftAlreadyExists"
    managed = arc.get_managed_resource(resourceIdentifier=world.balancer)
    assert managed["appliedWeights"] == {zones["us-east-1a"]: 0.0, zones["us-east-1b"]: 1.0}
    assert [each["appliedStatus"] for each in managed["zonalShifts"]] == ["APPLIED"]
    assert [each["arn"] for each in arc.list_managed_resources()["items"]] == [world.balancer]
    updated = arc.update_zonal_shift(zonalShiftId=shift["zonalShiftId"], comment="longer", expiresIn="1h")
    assert (updated["expiryTime"] - updated["startTime"]).total_seconds() > 3000
    assert updated["comment"] == "longer"
    assert arc.cancel_zonal_shift(zonalShiftId=shift["zonalShiftId"])["status"] == "CANCELED"
    until(lambda: first.address.encode() in shares(world))
    with pytest.raises(arc.exceptions.ConflictException):
        arc.cancel_zonal_shift(zonalShiftId=shift["zonalShiftId"])
    second_shift = arc.start_zonal_shift(**wanted)
    until(lambda: set(shares(world)) == {second.address.encode()})
    record = world.region.backend("elbv2").load_balancers[world.balancer]
    record.zonal_shifts[-1].expires = time.time() - 1
    until(lambda: first.address.encode() in shares(world))
    listed = {each["zonalShiftId"]: each["status"] for each in arc.list_zonal_shifts(resourceIdentifier=world.balancer)["items"]}
    assert listed == {shift["zonalShiftId"]: "CANCELED", second_shift["zonalShiftId"]: "EXPIRED"}
    assert arc.list_zonal_shifts(status="ACTIVE")["items"] == []
