"""Who reaches whom: every pair of tiers, tried from where each tier's processes are."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support import Platform, wait_until

from twin.bodies import netns

SERVICE, DATABASE, WEB = 8080, 5432, 80
PATIENCE = 3


@dataclass(frozen=True)
class Tiers:
    """Addresses of one member of each tier, and how to open a connection from each."""

    address: dict[str, str]
    connect: dict[str, Callable[[str, int], bool]]


def from_container(platform: Platform, name: str) -> Callable[[str, int], bool]:
    def connect(address: str, port: int) -> bool:
        words = f"timeout {PATIENCE} bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo open || echo closed"
        return platform.podman("exec", name, "bash", "-c", words) == "open"

    return connect


def from_node(platform: Platform, address: str) -> Callable[[str, int], bool]:
    """From a load balancer's node: an address of its own in the VPC."""
    namespace = f"{platform.local.name}.{platform.outputs['vpc_id']}"

    def connect(target: str, port: int) -> bool:
        def attempt() -> bool:
            try:
                socket.create_connection((target, port), timeout=PATIENCE, source_address=(address, 0)).close()
                return True
            except OSError:
                return False

        return netns.inside(namespace, attempt)

    return connect


def from_host(target: str, port: int) -> bool:
    try:
        socket.create_connection((target, port), timeout=PATIENCE).close()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def tiers(platform: Platform) -> Iterator[Tiers]:
    ec2 = platform.target.client("ec2")
    rows = platform.fleet()
    database = platform.target.client("rds").describe_db_instances()["DBInstances"][0]

    def interfaces(filters: dict[str, str]) -> list[dict[str, Any]]:
        wanted = [{"Name": name, "Values": [value]} for name, value in filters.items()]
        found: list[dict[str, Any]] = ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
        return [entry for entry in found if entry["VpcId"] == platform.outputs["vpc_id"]]

    databases = interfaces({"description": "RDSNetworkInterface"})
    primary = next(entry for entry in databases if entry["AvailabilityZone"] == database["AvailabilityZone"])
    node = next(entry for entry in interfaces({}) if entry.get("Description", "").startswith("ELB app/"))
    container = next(
        name
        for name in platform.podman("ps", "--format={{.Names}}").split()
        if name.startswith(database["DBInstanceIdentifier"] + "-")
    )

    # Someone in the fleet's own subnet who belongs to nothing.
    subnets = ec2.describe_subnets(Filters=[{"Name": "tag:Tier", "Values": ["app"]}])["Subnets"]
    group = ec2.create_security_group(GroupName="outsider", Description="belongs to nothing", VpcId=platform.outputs["vpc_id"])
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    made = ec2.run_instances(
        ImageId=image,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId=subnets[0]["SubnetId"],
        SecurityGroupIds=[group["GroupId"]],
    )["Instances"][0]
    outsider = made["InstanceId"]

    def state() -> str:
        return str(ec2.describe_instances(InstanceIds=[outsider])["Reservations"][0]["Instances"][0]["State"]["Name"])

    wait_until("the outsider", lambda: state() == "running")
    yield Tiers(
        address={
            "edge": str(platform.outputs["load_balancer_dns_name"]),
            "app": rows[0]["address"],
            "database": primary["PrivateIpAddress"],
            "outsider": made["PrivateIpAddress"],
        },
        connect={
            "internet": from_host,
            "edge": from_node(platform, node["PrivateIpAddress"]),
            "app": from_container(platform, rows[1]["instance"]),
            "database": from_container(platform, container),
            "outsider": from_container(platform, outsider),
        },
    )
    ec2.terminate_instances(InstanceIds=[outsider])
    wait_until("the outsider's end", lambda: state() == "terminated")
    ec2.delete_security_group(GroupId=group["GroupId"])


ALLOWED = {("internet", "edge", WEB), ("edge", "app", SERVICE), ("app", "database", DATABASE)}
TRIED = [
    (source, target, port)
    for source in ("internet", "edge", "app", "database", "outsider")
    for target, port in (("edge", WEB), ("app", SERVICE), ("app", 22), ("database", DATABASE), ("outsider", 22))
    # From the internet a private address leads elsewhere, so only the load balancer is tried from there, and it from there alone.
    if (source == "internet") == (target == "edge")
    # Nobody's own loopback interface is asked; the fleet's members are two.
    and (source != target or source == "app")
]


@pytest.mark.rule(
    "network",
    "A connection is made when the source's security groups let it out and the target's let it in, and not otherwise.",
    "https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html",
)
@pytest.mark.parametrize(("source", "target", "port"), TRIED)
def test_each_tier_reaches_its_neighbour_and_nobody_else(tiers: Tiers, source: str, target: str, port: int) -> None:
    assert tiers.connect[source](tiers.address[target], port) == ((source, target, port) in ALLOWED)


def test_the_database_has_no_way_out(platform: Platform, tiers: Tiers) -> None:
    """Its route tables end at the VPC: not even the region's own API is reached."""
    assert not tiers.connect["database"]("169.254.171.1", 80)
    assert tiers.connect["app"]("169.254.171.1", 80)
