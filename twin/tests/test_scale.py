"""A hundred instances under a steady load of API calls: the control loops keep their time, and memory stays flat.

Everything is real but the instances' machines. `make bench` measures, with EVENKEEL_SCALE_SECONDS=300: a hundred calls a second,
and no loop later than a period. Without it, a test must pass on a machine that is busy with other things: a quarter of the
calls, for half a minute, and loops that only may not stand still.

The load comes from this process, on the machine it loads: requests are signed beforehand, and answers only counted.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from common import until
from conftest import SLOT
from stub_twin import LOOPS_PATH, PORT

from twin.settings import API_PORT, Settings

MEASURED = "EVENKEEL_SCALE_SECONDS" in os.environ
SECONDS = float(os.environ.get("EVENKEEL_SCALE_SECONDS", "30"))
RATE = 100 if MEASURED else 25
MOST_PERIODS_LATE = 1 if MEASURED else 20
INSTANCES = 100
GROUPS = 4
WARM_UP = 10.0
# Growth of resident memory that is no leak: allocator slack, plus what AWS keeps too (activities, terminated instances).
FLAT_BYTES = 24 * 2**20
VERSIONS = {"autoscaling": "2011-01-01", "ec2": "2016-11-15", "elasticloadbalancing": "2015-12-01"}


@dataclass
class Crowd:
    """A twin with four groups of 25 instances behind a load balancer; `process` is the twin's."""

    settings: Settings
    process: subprocess.Popen[bytes]
    key: dict[str, str]
    groups: list[str] = field(default_factory=list)
    target_groups: list[str] = field(default_factory=list)

    def client(self, service: str) -> Any:
        session: Any = boto3.Session(self.key["access_key_id"], self.key["secret_access_key"], region_name=self.settings.region)
        return session.client(service, endpoint_url=self.settings.endpoint_url)

    def build(self) -> None:
        ec2, elb, autoscaling = self.client("ec2"), self.client("elbv2"), self.client("autoscaling")
        vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.8.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
            for n, zone in enumerate("abc")
        ]
        image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
        balancer = elb.create_load_balancer(Name="crowd", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        template = ec2.create_launch_template(
            LaunchTemplateName="crowd", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
        )["LaunchTemplate"]["LaunchTemplateId"]
        for number in range(GROUPS):
            target_group = elb.create_target_group(
                Name=f"crowd-{number}", Protocol="HTTP", Port=PORT, VpcId=vpc, HealthCheckIntervalSeconds=5,
                HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, UnhealthyThresholdCount=2,
            )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
            elb.modify_target_group_attributes(
                TargetGroupArn=target_group, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "2"}]
            )
            elb.create_listener(
                LoadBalancerArn=balancer, Protocol="HTTP", Port=8000 + number,
                DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
            )  # fmt: skip
            autoscaling.create_auto_scaling_group(
                AutoScalingGroupName=f"crowd-{number}", MinSize=0, MaxSize=40, DesiredCapacity=INSTANCES // GROUPS,
                LaunchTemplate={"LaunchTemplateId": template, "Version": "1"}, VPCZoneIdentifier=",".join(subnets),
                TargetGroupARNs=[target_group], HealthCheckType="ELB", HealthCheckGracePeriod=60,
            )  # fmt: skip
            self.groups.append(f"crowd-{number}")
            self.target_groups.append(target_group)
        until(self.settled, 240, pause=0.2)

    def settled(self) -> bool:
        described = self.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        states = [member["LifecycleState"] for group in described for member in group["Instances"]]
        healthy = [
            target["TargetHealth"]["State"]
            for arn in self.target_groups
            for target in self.client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        ]
        return states == ["InService"] * INSTANCES and healthy == ["healthy"] * INSTANCES

    def resident(self) -> int:
        """Resident memory of the twin's process, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def lateness(self) -> dict[str, dict[str, float]]:
        connection = http.client.HTTPConnection(self.settings.address, API_PORT, timeout=60)
        connection.request("GET", LOOPS_PATH)
        found: dict[str, dict[str, float]] = json.loads(connection.getresponse().read())
        connection.close()
        return found


@pytest.fixture
def crowd(twin_settings: Settings) -> Iterator[Crowd]:
    own = replace(twin_settings, name=f"test{SLOT}-scale", slot=SLOT + 2, state=twin_settings.state / "scale")
    own.state.mkdir()
    command = [
        sys.executable,
        str(Path(__file__).with_name("stub_twin.py")),
        own.name,
        str(own.slot),
        str(own.state),
        str(own.store),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (own.state / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:

        def listening() -> bool:
            assert process.poll() is None, (own.state / "log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex((own.address, API_PORT)) == 0

        until(listening)
        key = json.loads((own.state / "operator.json").read_text())
        yield Crowd(own, process, key)
    finally:
        process.terminate()
        assert process.wait(timeout=120) == 0, (own.state / "log").read_text()


class Load:
    """`RATE` calls a second at fixed times, whether or not earlier ones have been answered."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.number = itertools.count()
        self.statuses: Counter[int] = Counter()
        self.waits: list[float] = []
        self._lock = threading.Lock()
        self._sign()

    def _sign(self) -> None:
        """The calls, as an operator's tools make them; each a service and the bytes of a request."""
        calls: list[tuple[str, dict[str, str]]] = []
        for group, target_group in zip(self.crowd.groups, self.crowd.target_groups, strict=True):
            calls += [
                ("autoscaling", {"Action": "DescribeAutoScalingGroups", "AutoScalingGroupNames.member.1": group}),
                ("elasticloadbalancing", {"Action": "DescribeTargetHealth", "TargetGroupArn": target_group}),
                (
                    "ec2",
                    {
                        "Action": "DescribeInstances",
                        "Filter.1.Name": "tag:aws:autoscaling:groupName",
                        "Filter.1.Value.1": group,
                        "Filter.2.Name": "instance-state-name",
                        "Filter.2.Value.1": "running",
                    },
                ),
                ("autoscaling", {"Action": "DescribeScalingActivities", "AutoScalingGroupName": group, "MaxRecords": "20"}),
                ("autoscaling", self.capacity(group, INSTANCES // GROUPS)),
            ]
        self.requests = [self.request(service, parameters) for service, parameters in calls]
        # Capacity goes down and up again, one instance at a time.
        self.changes = itertools.cycle(
            self.request("autoscaling", self.capacity(self.crowd.groups[0], INSTANCES // GROUPS - change)) for change in (1, 0)
        )

    @staticmethod
    def capacity(group: str, wanted: int) -> dict[str, str]:
        return {"Action": "SetDesiredCapacity", "AutoScalingGroupName": group, "DesiredCapacity": str(wanted)}

    def request(self, service: str, parameters: dict[str, str]) -> bytes:
        key, region = self.crowd.key, self.crowd.settings.region
        body = urlencode({**parameters, "Version": VERSIONS[service]})
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        request = AWSRequest("POST", f"{self.crowd.settings.endpoint_url}/", headers, body)
        SigV4Auth(Credentials(key["access_key_id"], key["secret_access_key"]), service, region).add_auth(request)
        head = {**dict(request.headers), "Host": f"{self.crowd.settings.address}:{API_PORT}", "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n{body}".encode()

    def call(self, request: bytes) -> int:
        with socket.create_connection((self.crowd.settings.address, API_PORT), timeout=60) as connection:
            connection.sendall(request)
            start = connection.recv(65536)
            while connection.recv(65536):
                pass
        return int(start.split(b" ", 2)[1])

    def run(self, seconds: float) -> None:
        began = time.monotonic()

        def work() -> None:
            while True:
                number = next(self.number)
                due = began + number / RATE
                if due >= began + seconds or time.monotonic() > began + 4 * seconds:
                    return  # all are made, or the twin is far behind
                time.sleep(max(0.0, due - time.monotonic()))
                request = next(self.changes) if number % (5 * RATE) == 0 else self.requests[number % len(self.requests)]
                status = self.call(request)
                with self._lock:
                    self.statuses[status] += 1
                    self.waits.append(time.monotonic() - due)

        workers = [threading.Thread(target=work) for _ in range(32)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.number = itertools.count()
        self.seconds = time.monotonic() - began


def test_a_hundred_instances_under_load(crowd: Crowd) -> None:
    crowd.build()
    Load(crowd).run(WARM_UP)  # caches fill, and the allocator takes what it needs
    crowd.lateness()
    before, processor = crowd.resident(), crowd.processor_seconds()
    late: dict[str, float] = {}
    taken = 0.0
    load = Load(crowd)
    for _ in range(max(1, round(SECONDS / 30))):
        load._sign()  # signatures age
        load.run(SECONDS / max(1, round(SECONDS / 30)))
        taken += load.seconds
        for name, found in crowd.lateness().items():
            late[name] = max(late.get(name, 0.0), found["late"] / found["period"])
    grown = crowd.resident() - before
    waits = sorted(load.waits)
    figures = {
        "seconds": round(taken, 1),
        "calls": len(waits),
        "calls per second": round(len(waits) / taken, 1),
        "median ms": round(1000 * statistics.median(waits)),
        "p99 ms": round(1000 * waits[int(0.99 * len(waits))]),
        "twin's CPU": f"{(crowd.processor_seconds() - processor) / taken:.0%}",
        "memory MiB": f"{before / 2**20:.0f} {grown / 2**20:+.1f}",
        "worst lateness in periods": {name: round(value, 2) for name, value in late.items()},
    }
    print(json.dumps(figures, indent=2))
    if report := os.environ.get("EVENKEEL_SCALE_REPORT"):
        Path(report).write_text(json.dumps(figures, indent=2) + "\n")
    assert load.statuses == {200: RATE * round(SECONDS)}
    assert len(waits) / taken > (0.98 if MEASURED else 0.5) * RATE
    assert {name for name, periods in late.items() if periods > MOST_PERIODS_LATE} == set(), late
    assert grown < FLAT_BYTES
    until(crowd.settled, 240, pause=0.2)
