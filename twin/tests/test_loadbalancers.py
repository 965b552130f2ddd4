"""Load balancers with a real HAProxy: draining, rules, and reloads that drop nothing."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from balancing import PORT, World, ask
from botocore.exceptions import ClientError
from common import until

from twin.bodies.haproxy import kill_left_behind
from twin.bodies.haproxy_process import EXECUTABLE
from twin.region.ec2 import set_state

pytest_plugins = ["balancing_fixtures"]
GROUPS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"
RULES = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html"
RELOADS = 24
ACTIONS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html"


def test_reloads_drop_no_request(world: World) -> None:
    world.healthy_target()
    world.healthy_target()
    statuses: list[int] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def load(keep: bool) -> None:
        connection = world.connection()
        for _ in range(40000):
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
    answers: list[int] = []
    slow = threading.Thread(target=lambda: answers.append(world.get("/slow")[0]))
    slow.start()
    until(lambda: any(path == "/slow" for target in world.targets for path, _ in target.requests))
    for number in range(RELOADS):
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
    for target in world.targets:
        target.released.set()
    slow.join()
    assert answers == [200], "a request in flight outlives every reload"
    assert len(workers) == RELOADS + 1
    assert failures == []
    assert set(statuses) == {200}
    assert len(statuses) > 300


@pytest.mark.rule(
    "draining",
    "A deregistered target gets no new requests, and those in flight may end.",
    GROUPS,
)
@pytest.mark.rule(
    "draining",
    "A deregistered target is draining for the deregistration delay and unused after that.",
    GROUPS,
)
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
    until(lambda: "drain" in world.server_states(instance))
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


@pytest.mark.rule(
    "draining",
    "A target whose instance is stopped is unused with Target.InvalidState, and one that is terminated is deregistered.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-register-targets.html",
)
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


@pytest.mark.rule(
    "load balancing",
    "Rules match in order of their priority by path, host and query, with wildcards, and the first that matches decides.",
    RULES,
)
@pytest.mark.rule(
    "load balancing",
    "Fixed responses and redirects answer with the configured status, body and location.",
    ACTIONS,
)
@pytest.mark.rule(
    "load balancing",
    "Requests carry X-Forwarded-For, -Proto and -Port, and X-Amzn-Trace-Id with the client's own root kept.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html",
)
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
    master = haproxy._master
    assert master is not None
    pids = [*master.workers()[0], master.pid]
    world.loop.end()
    world.loop.join(30)
    reader = subprocess.Popen(["tail", "-f", str(haproxy.config)], stdout=subprocess.DEVNULL)
    try:
        kill_left_behind(world.region.settings)
        assert not haproxy.running
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
