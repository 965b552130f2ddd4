"""Load balancers with a real HAProxy: targets are HTTP servers of this process in a network namespace, the VPC's."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import SLOT
from moto import mock_aws

from twin.bodies import netns
from twin.bodies.haproxy import EXECUTABLE, HAProxy, kill_left_behind
from twin.bodies.haproxy_config import Configuration
from twin.bodies.podman import Podman
from twin.control.loadbalancers import LoadBalancers
from twin.region import elbv2
from twin.region.ec2 import set_state
from twin.region.region import Region
from twin.settings import Settings

PORT = 8099


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait for a true value and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return value


class Target:
    """An HTTP server at `address` in a namespace. It notes every request, checks apart."""

    def __init__(self, namespace: str, address: str, health: int = 200) -> None:
        self.health = health
        self.checks: list[int] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.first_request_after: list[int] | None = None
        self.released = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    target.checks.append(target.health)
                    self.answer(target.health, b"")
                    return
                if target.first_request_after is None:
                    target.first_request_after = list(target.checks)
                target.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                if self.path == "/slow":
                    target.released.wait(20)
                self.answer(200, address.encode())

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """HAProxy resets its checks' connections."""

        netns.ip(f"addr add {address}/32 dev lo", namespace)
        self.address = address
        self.server = netns.inside(namespace, lambda: Server((address, 8080), Handler))
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def wait_for_check(self) -> None:
        before = len(self.checks)
        until(lambda: len(self.checks) > before)

    def wait_for_request(self) -> None:
        until(lambda: self.requests)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state=Path(folder) / "a-folder-whose-path-is-too-long-for-a-socket-address" / ("x" * 60),
                            store=Path(folder) / "store", name=f"test{SLOT}-lb", slot=SLOT + 2)  # fmt: skip
        region = Region(settings, Podman(settings))
        network: Any = SimpleNamespace(ensure_vpc=lambda vpc_id: f"{settings.name}.{vpc_id}")
        region.network = network
        elbv2.install(region)
        yield region
        netns.delete(f"{settings.name}.host")


class World:
    """A VPC with a load balancer, a listener and a target group; health checks each second."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.ec2: Any = boto3.client("ec2", "us-east-1")
        self.elbv2: Any = boto3.client("elbv2", "us-east-1")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for number, zone in enumerate(("us-east-1a", "us-east-1b"))
        ]
        self.image = self.ec2.register_image(Name="any")["ImageId"]
        self.group = self.elbv2.create_target_group(
            Name="fleet",
            Protocol="HTTP",
            Port=8080,
            VpcId=self.vpc,
            HealthCheckPath="/healthz",
            HealthyThresholdCount=3,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        # Quicker than AWS allows, so that the tests are.
        record = region.backend("elbv2").target_groups[self.group]
        record.health_check_interval_seconds = record.health_check_timeout_seconds = 1
        self.balancer, self.address = self.create_load_balancer("edge")
        self.listener = self.listen(PORT)
        self.targets: list[Target] = []
        self.namespace = region.network.ensure_vpc(self.vpc)
        netns.ip(f"netns add {self.namespace}")
        netns.ip("link set lo up", self.namespace)
        self.loop = LoadBalancers(region)
        self.loop.period = 0.2
        region.loops["LoadBalancers"] = self.loop
        self.loop.start()

    def create_load_balancer(self, name: str) -> tuple[str, str]:
        made = self.elbv2.create_load_balancer(Name=name, Subnets=self.subnets)["LoadBalancers"][0]
        return made["LoadBalancerArn"], made["DNSName"]

    def listen(self, port: int) -> str:
        made = self.elbv2.create_listener(
            LoadBalancerArn=self.balancer,
            Protocol="HTTP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.group}],
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def target(self, health: int = 200) -> tuple[str, Target]:
        """A registered instance and its server."""
        made = self.ec2.run_instances(ImageId=self.image, MinCount=1, MaxCount=1, SubnetId=self.subnets[0])["Instances"][0]
        set_state(self.region.ec2.get_instance(made["InstanceId"]), "running")
        self.targets.append(Target(self.namespace, made["PrivateIpAddress"], health))
        self.elbv2.register_targets(TargetGroupArn=self.group, Targets=[{"Id": made["InstanceId"]}])
        return made["InstanceId"], self.targets[-1]

    def healthy_target(self) -> tuple[str, Target]:
        instance, target = self.target()
        until(lambda: self.state(instance) == "healthy")
        return instance, target

    def health(self, instance: str) -> dict[str, Any]:
        """TargetHealth of the instance; empty when the target group no longer knows it."""
        described = self.elbv2.describe_target_health(TargetGroupArn=self.group)["TargetHealthDescriptions"]
        return next((target["TargetHealth"] for target in described if target["Target"]["Id"] == instance), {})

    def state(self, instance: str) -> str:
        return str(self.health(instance).get("State", ""))

    def balancer_state(self) -> dict[str, str]:
        described = self.elbv2.describe_load_balancers(LoadBalancerArns=[self.balancer])
        return dict(described["LoadBalancers"][0]["State"])

    @property
    def haproxy(self) -> HAProxy:
        return self.loop.bodies[self.vpc]

    def worker(self) -> int:
        """Process id of HAProxy's current worker."""

        def current() -> int:
            with suppress(OSError):  # the master may be between two executions
                return next(iter(self.haproxy._workers()[0]), 0)
            return 0

        return int(until(current))

    def wait_for_reload(self, served: Configuration) -> None:
        """Until another configuration than `served` is."""
        until(lambda: self.haproxy.served != served)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, PORT, timeout=10)

    def get(self, path: str = "/", **headers: str) -> tuple[int, bytes, Any]:
        return ask(self.connection(), path, **headers)

    def close(self) -> None:
        self.loop.end()
        self.loop.join(30)
        for body in self.loop.bodies.values():
            body.stop()
        for target in self.targets:
            target.close()
        netns.delete(self.namespace)


def ask(connection: http.client.HTTPConnection, path: str = "/", **headers: str) -> tuple[int, bytes, Any]:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read(), response.headers


@pytest.fixture
def world(region: Region) -> Iterator[World]:
    with mock_aws():
        world = World(region)
        try:
            until(lambda: world.balancer_state()["Code"] == "active")
            yield world
        finally:
            world.close()
            region.release_address(world.address)


def test_new_target_waits_for_its_first_passed_check(world: World) -> None:
    assert world.get()[0] == 503
    instance, target = world.target(health=500)
    for _ in range(3):  # over some checks, all failing, before and after the target is called unhealthy
        target.wait_for_check()
        if world.state(instance) == "initial":
            assert world.health(instance)["Reason"] in ("Elb.RegistrationInProgress", "Elb.InitialHealthChecking")
            assert world.get()[0] == 503
    other, second = world.target(health=503)
    world.healthy_target()
    assert {world.get()[0] for _ in range(20)} == {200}
    assert target.requests == second.requests == []
    second.health = 200
    until(lambda: world.state(other) == "healthy")
    passed = second.checks.count(200)
    until(lambda: world.get()[1] == second.address.encode())
    assert passed < 3, "a new target needs one passed check, not the healthy threshold"
    assert 200 in (second.first_request_after or []), "a request came before the first passed check"


def test_new_target_beside_traffic(world: World) -> None:
    world.healthy_target()
    for _ in range(3):
        ended = threading.Event()
        statuses: list[int] = []

        def load(ended: threading.Event = ended, statuses: list[int] = statuses) -> None:
            while not ended.is_set() and len(statuses) < 5000:
                statuses.append(world.get()[0])

        thread = threading.Thread(target=load)
        thread.start()
        _, target = world.target()
        target.wait_for_request()
        ended.set()
        thread.join()
        assert set(statuses) == {200}
        assert 200 in (target.first_request_after or [])


def test_failing_target_is_evicted_and_returns(world: World) -> None:
    world.healthy_target()
    instance, target = world.healthy_target()
    target.health = 503
    failed_from = len(target.checks)
    until(lambda: world.state(instance) == "unhealthy")
    assert len(target.checks) - failed_from >= 2
    assert world.health(instance)["Reason"] == "Target.ResponseCodeMismatch"
    assert world.health(instance)["Description"] == "Health checks failed with these codes: [503]"
    before = len(target.requests)
    assert {world.get()[0] for _ in range(20)} == {200}
    assert len(target.requests) == before
    target.health = 200
    passed_from = len(target.checks)
    until(lambda: world.state(instance) == "healthy")
    assert len(target.checks) - passed_from >= 3, "an unhealthy target needs the healthy threshold"


def test_unhealthy_target_stays_out_over_a_reload(world: World) -> None:
    world.healthy_target()
    instance, target = world.healthy_target()
    target.health = 503
    until(lambda: world.state(instance) == "unhealthy")
    before = len(target.requests)
    world.healthy_target()  # reloads
    assert {world.get()[0] for _ in range(20)} == {200}
    assert len(target.requests) == before
    assert world.state(instance) == "unhealthy"


def test_silent_target_is_evicted_within_its_timeouts(world: World) -> None:
    world.healthy_target()
    instance, target = world.healthy_target()
    netns.nft(
        f"""
        table ip dark {{
          chain output {{
            type filter hook output priority 0
            ip daddr {target.address} tcp dport 8080 drop
          }}
        }}
        """,
        world.namespace,
    )
    since = time.monotonic()
    until(lambda: world.state(instance) == "unhealthy")
    assert time.monotonic() - since < 8, "two intervals and two timeouts of a second each, and room for a busy machine"
    assert world.health(instance)["Reason"] == "Target.Timeout"
    assert {world.get()[0] for _ in range(10)} == {200}


def test_haproxy_that_dies_is_started_again(world: World) -> None:
    world.healthy_target()
    former = world.worker()
    kill_left_behind(world.region.settings)
    until(lambda: world.haproxy.running and world.worker() != former)
    until(lambda: world.haproxy.served.backends and world.get()[0] == 200)


def test_without_a_healthy_target_requests_go_to_the_unhealthy_ones(world: World) -> None:
    instance, target = world.healthy_target()
    target.health = 500
    until(lambda: world.state(instance) == "unhealthy")
    until(lambda: world.get()[0] == 200)
    assert target.requests


def test_reloads_drop_no_request(world: World) -> None:
    world.healthy_target()
    world.healthy_target()
    statuses: list[int] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def load(keep: bool) -> None:
        connection = world.connection()
        for _ in range(4000):
            if ended.is_set():
                return
            try:
                statuses.append(ask(connection if keep else world.connection())[0])
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
            time.sleep(0.001)

    threads = [threading.Thread(target=load, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    workers = {world.worker()}
    for number in range(6):
        served = world.haproxy.served
        world.elbv2.create_rule(
            ListenerArn=world.listener,
            Priority=number + 1,
            Conditions=[{"Field": "path-pattern", "Values": [f"/never-{number}"]}],
            Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}],
        )
        world.wait_for_reload(served)
        workers.add(world.worker())
    ended.set()
    for thread in threads:
        thread.join()
    assert len(workers) == 7
    assert failures == []
    assert set(statuses) == {200}
    assert len(statuses) > 300


def test_draining_keeps_requests_in_flight_and_takes_no_new_one(world: World) -> None:
    world.elbv2.modify_target_group_attributes(
        TargetGroupArn=world.group, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "3"}]
    )
    instance, target = world.healthy_target()
    answers: list[tuple[int, bytes, Any]] = []
    slow = threading.Thread(target=lambda: answers.append(world.get("/slow")))
    slow.start()
    until(lambda: "/slow" in [path for path, _ in target.requests])
    _, other = world.healthy_target()
    world.elbv2.deregister_targets(TargetGroupArn=world.group, Targets=[{"Id": instance}])
    assert world.health(instance) == {
        "State": "draining",
        "Reason": "Target.DeregistrationInProgress",
        "Description": "Target deregistration is in progress",
    }
    until(lambda: len(world.haproxy._draining) == 1)
    before = len(target.requests)
    assert {world.get()[1] for _ in range(20)} == {other.address.encode()}
    assert len(target.requests) == before
    assert answers == []
    until(lambda: world.state(instance) == "")
    asked = world.elbv2.describe_target_health(TargetGroupArn=world.group, Targets=[{"Id": instance}])
    assert asked["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"
    target.released.set()
    slow.join()
    assert answers[0][:2] == (200, target.address.encode())


def test_connection_of_a_former_worker_finds_another_target_when_its_own_is_gone(world: World) -> None:
    world.healthy_target()
    _, gone = world.healthy_target()
    connections = [world.connection() for _ in range(8)]
    assert {ask(connection)[0] for connection in connections} == {200}
    former = world.worker()
    world.healthy_target()
    assert world.worker() != former
    gone.close()
    assert [ask(connection)[0] for connection in connections] == [200] * 8


def test_targets_follow_their_instances(world: World) -> None:
    stopped, _ = world.healthy_target()
    ended, _ = world.healthy_target()
    world.ec2.stop_instances(InstanceIds=[stopped])
    set_state(world.region.ec2.get_instance(stopped), "stopped")
    assert world.health(stopped)["Reason"] == "Target.InvalidState"
    assert world.health(stopped)["Description"] == "Target is in the stopped state"
    world.ec2.terminate_instances(InstanceIds=[ended])
    set_state(world.region.ec2.get_instance(ended), "terminated")
    until(lambda: world.state(ended) == "")
    until(lambda: not world.haproxy.served.backends[0].servers)
    assert world.get()[0] == 503
    with pytest.raises(ClientError, match="InvalidTarget"):
        world.elbv2.register_targets(TargetGroupArn=world.group, Targets=[{"Id": ended}])
    world.elbv2.delete_listener(ListenerArn=world.listener)
    assert world.health(stopped)["Reason"] == "Target.NotInUse"


def test_rules_and_headers(world: World) -> None:
    _, target = world.healthy_target()
    body = 'it\'s "50 %" of\r\n\t$HOME #1 {}\\ ' + "é" * 300
    teapot = {"StatusCode": "418", "ContentType": "text/css", "MessageBody": body}
    for priority, condition, action in (
        (20, {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/fixed/*"]}},
         {"Type": "fixed-response", "FixedResponseConfig": teapot}),
        (10, {"Field": "path-pattern", "Values": ["/fixed/fo?ward"]}, {"Type": "forward", "TargetGroupArn": world.group}),
        (30, {"Field": "host-header", "Values": ["*.example.com"]},
         {"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}),
        (40, {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a", "Value": "b*"}]}},
         {"Type": "redirect", "RedirectConfig": {"Path": "/100%/#{path}", "Query": "", "StatusCode": "HTTP_302"}}),
    ):  # fmt: skip
        world.elbv2.create_rule(ListenerArn=world.listener, Priority=priority, Conditions=[condition], Actions=[action])
    until(lambda: world.get("/x?a=bc")[0] == 302)
    assert world.get("/x?a=bc")[2]["Location"] == f"http://{world.address}:{PORT}/100%/x"
    status, content, headers = world.get("/fixed/any")
    assert (status, content.decode(), headers["Content-Type"]) == (418, body, "text/css")
    assert world.get("/fixed/forward")[1] == target.address.encode()
    moved = world.get("/a/b?c=d", Host="WWW.example.com:8099")
    assert (moved[0], moved[2]["Location"]) == (301, "https://WWW.example.com/a/b?c=d")
    assert world.get("/a/b", Host="www.example.com")[2]["Location"] == "https://www.example.com/a/b"

    world.get("/headers", **{"X-Forwarded-Proto": "forged"})
    sent = target.requests[-1][1]
    assert (sent["x-forwarded-for"], sent["x-forwarded-proto"], sent["x-forwarded-port"]) == ("127.0.0.1", "http", str(PORT))
    assert sent["x-amzn-trace-id"].startswith("Root=1-")
    assert [len(part) for part in sent["x-amzn-trace-id"].split("=")[1].split("-")] == [1, 8, 24]
    world.get("/headers", **{"X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678"})
    assert target.requests[-1][1]["x-amzn-trace-id"].endswith(";Root=1-67891233-abcdef012345678912345678")


def test_rejected_configuration_does_not_replace_the_running_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.healthy_target()
    group = world.region.backend("elbv2").target_groups[world.group]
    group.matcher["HttpCode"] = "nonsense"
    until(lambda: "HAProxy rejects" in caplog.text)
    assert "invalid character 'n' in the list of status codes" in caplog.text
    time.sleep(0.6)
    assert caplog.text.count("HAProxy rejects") == 1, "said once, not in every round"
    assert world.get()[0] == 200
    assert world.balancer_state()["Code"] == "active"
    group.matcher["HttpCode"] = "200-299"
    until(lambda: world.haproxy.served.backends[0].check.matcher == "200-299")
    assert world.get()[0] == 200


def test_taken_port_names_its_holder(world: World) -> None:
    world.healthy_target()
    with socket.create_server((world.address, PORT + 1)):
        world.listen(PORT + 1)
        state = until(lambda: (found := world.balancer_state())["Code"] == "active_impaired" and found)
        assert f"port {PORT + 1} of {world.address} is taken by" in state["Reason"]
        assert f"(process {os.getpid()})" in state["Reason"]
        assert world.get()[0] == 200
    until(lambda: world.balancer_state()["Code"] == "active")


def test_haproxy_left_behind_is_ended_and_nothing_else(world: World) -> None:
    haproxy = world.haproxy
    pids = [*haproxy._workers()[0], haproxy._process.pid if haproxy._process else 0]
    world.loop.end()
    world.loop.join(30)
    reader = subprocess.Popen(["tail", "-f", str(haproxy.config)], stdout=subprocess.DEVNULL)
    try:
        kill_left_behind(world.region.settings)
        haproxy._process.poll() if haproxy._process else None
        lines = [Path(f"/proc/{pid}/cmdline") for pid in pids]
        assert not any(EXECUTABLE.encode() in line.read_bytes() for line in lines if line.exists())
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()


def test_errors_are_aws_own(world: World) -> None:
    with pytest.raises(ClientError, match="ResourceInUse"):
        world.elbv2.delete_target_group(TargetGroupArn=world.group)
    with pytest.raises(ClientError, match="DuplicateListener"):
        world.listen(PORT)
    with pytest.raises(ClientError, match="DuplicateLoadBalancerName"):
        world.create_load_balancer("edge")
    other, address = world.create_load_balancer("other")
    assert address != world.address
    with pytest.raises(ClientError, match="TargetGroupAssociationLimit"):
        world.elbv2.create_listener(
            LoadBalancerArn=other, Protocol="HTTP", Port=80, DefaultActions=[{"Type": "forward", "TargetGroupArn": world.group}]
        )
    with pytest.raises(ClientError, match="InvalidAction"):
        world.elbv2.describe_trust_stores()
    protection = {"Key": "deletion_protection.enabled", "Value": "true"}
    world.elbv2.modify_load_balancer_attributes(LoadBalancerArn=other, Attributes=[protection])
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        world.elbv2.delete_load_balancer(LoadBalancerArn=other)
    world.elbv2.delete_load_balancer(LoadBalancerArn=world.balancer)
    group = world.elbv2.describe_target_groups(TargetGroupArns=[world.group])["TargetGroups"][0]
    assert group["LoadBalancerArns"] == []
    until(lambda: not world.loop.bodies)
