"""A VPC with a load balancer for tests: the targets are HTTP servers of this process in the VPC's network namespace."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from common import client, until

from twin.bodies import netns
from twin.bodies.haproxy import HAProxy, _state
from twin.bodies.haproxy_config import Configuration
from twin.control.balancer_requests import Requests
from twin.control.loadbalancers import LoadBalancers
from twin.region.ec2 import set_state
from twin.region.region import Region

PORT = 8099


class Target:
    """An HTTP server at `address` in a namespace. It notes every request, checks apart."""

    def __init__(self, namespace: str, address: str, health: int = 200) -> None:
        self.health = health
        self.checks: list[int] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.clients: set[str] = set()
        self.first_request_after: list[int] | None = None
        self.released = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                target.clients.add(str(self.client_address[0]))
                if self.path == "/healthz":
                    target.checks.append(target.health)
                    self.answer(target.health, b"")
                    return
                if target.first_request_after is None:
                    target.first_request_after = list(target.checks)
                target.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                if self.path == "/slow":
                    target.released.wait(90)
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


class World:
    """A VPC with a load balancer, a listener and a target group; health checks each second."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.ec2 = client("ec2")
        self.elbv2 = client("elbv2")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for number, zone in enumerate(("us-east-1a", "us-east-1b"))
        ]
        self.image = self.ec2.register_image(Name="any")["ImageId"]
        self.security_group = self.ec2.create_security_group(GroupName="edge", Description="edge", VpcId=self.vpc)["GroupId"]
        self.admit("0.0.0.0/0")
        self.group = self.create_target_group("fleet")
        self.balancer, self.address = self.create_load_balancer("edge")
        self.listener = self.listen(PORT)
        self.targets: list[Target] = []
        self.namespace = region.network.ensure_vpc(self.vpc)
        netns.ip(f"netns add {self.namespace}")
        netns.ip("link set lo up", self.namespace)
        self.loop = LoadBalancers(region)
        self.requests = Requests(region)
        region.loops.update(LoadBalancers=self.loop, Requests=self.requests)
        region.on_metric[:] = [self._measure]
        self.metrics: list[tuple[str, dict[str, str], float]] = []
        self.run()

    def run(self) -> None:
        self.loop.period = 0.2
        self.loop.start()

    def _measure(self, namespace: str, name: str, dimensions: dict[str, str], value: float, unit: str) -> None:
        assert namespace == "AWS/ApplicationELB"
        self.metrics.append((name, dimensions, value))

    def measured(self, name: str, **dimensions: str) -> list[float]:
        """Values of the metric with exactly these dimensions."""
        return [value for other, its, value in self.metrics if other == name and its == dimensions]

    def admit(self, cidr: str, port: int = 0) -> dict[str, Any]:
        """Let clients in; returns the permission, as it can be revoked."""
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port or 65535, "IpRanges": [{"CidrIp": cidr}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.security_group, IpPermissions=[permission])
        return permission

    def create_target_group(self, name: str, **options: Any) -> str:
        arn = self.elbv2.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=8080,
            VpcId=self.vpc,
            HealthCheckPath="/healthz",
            HealthyThresholdCount=3,
            UnhealthyThresholdCount=2,
            **options,
        )["TargetGroups"][0]["TargetGroupArn"]
        # Quicker than AWS allows, so that the tests are.
        record = self.region.backend("elbv2").target_groups[arn]
        record.health_check_interval_seconds = record.health_check_timeout_seconds = 1
        return str(arn)

    def attributes(self, **attributes: str) -> None:
        """Set the target group's attributes; "__" stands for a dot."""
        pairs = [{"Key": key.replace("__", "."), "Value": value} for key, value in attributes.items()]
        self.elbv2.modify_target_group_attributes(TargetGroupArn=self.group, Attributes=pairs)

    def balancer_attributes(self, **attributes: str) -> None:
        pairs = [{"Key": key.replace("__", "."), "Value": value} for key, value in attributes.items()]
        self.elbv2.modify_load_balancer_attributes(LoadBalancerArn=self.balancer, Attributes=pairs)

    def create_load_balancer(self, name: str) -> tuple[str, str]:
        made = self.elbv2.create_load_balancer(Name=name, Subnets=self.subnets, SecurityGroups=[self.security_group])[
            "LoadBalancers"
        ][0]
        return made["LoadBalancerArn"], made["DNSName"]

    def listen(self, port: int) -> str:
        made = self.elbv2.create_listener(
            LoadBalancerArn=self.balancer,
            Protocol="HTTP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.group}],
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def target(self, health: int = 200, zone: int = 0) -> tuple[str, Target]:
        """A registered instance and its server."""
        made = self.ec2.run_instances(ImageId=self.image, MinCount=1, MaxCount=1, SubnetId=self.subnets[zone])["Instances"][0]
        set_state(self.region.ec2.get_instance(made["InstanceId"]), "running")
        self.targets.append(Target(self.namespace, made["PrivateIpAddress"], health))
        self.elbv2.register_targets(TargetGroupArn=self.group, Targets=[{"Id": made["InstanceId"]}])
        return made["InstanceId"], self.targets[-1]

    def healthy_target(self, zone: int = 0) -> tuple[str, Target]:
        instance, target = self.target(zone=zone)
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
                master = self.haproxy._master
                return next(iter(master.workers()[0]), 0) if master else 0
            return 0

        return int(until(current))

    def server_states(self, instance: str) -> set[str]:
        """HAProxy's administrative states of the instance in the target group's own backend."""
        rows = self.haproxy._server_states()
        return {_state(row) for (name, server), row in rows.items() if server.startswith(instance) and name.count("-") == 1}

    def wait_for_reload(self, served: Configuration) -> None:
        """Until another configuration than `served` is."""
        until(lambda: self.haproxy.served != served)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, PORT, timeout=60)

    def get(self, path: str = "/", **headers: str) -> tuple[int, bytes, Any]:
        return ask(self.connection(), path, **headers)

    def close(self) -> None:
        self.loop.end()
        with suppress(RuntimeError):  # a test may tick by itself
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


def shares(world: World, times: int = 20) -> Counter[bytes]:
    """How many of so many requests each target answered, by its address."""
    return Counter(world.get()[1] for _ in range(times))
