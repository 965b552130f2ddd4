"""Load balancers with a real HAProxy: targets are checked, evicted, and taken back."""

from __future__ import annotations

import threading
import time

import pytest
from balancing import World
from common import until

from twin.bodies import netns
from twin.bodies.haproxy import ServerStatus, kill_left_behind
from twin.bodies.haproxy_config import HealthCheck
from twin.control.loadbalancers import judge
from twin.region.target_health import Verdict

pytest_plugins = ["balancing_fixtures"]

CHECKS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html"


@pytest.mark.rule(
    "load balancing",
    "A new target gets requests once it has passed one health check, whatever the healthy threshold.",
    CHECKS,
)
@pytest.mark.rule(
    "load balancing",
    "A registered target is initial until its first checks are done.",
    CHECKS,
)
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


def test_a_new_target_is_checked_at_once(world: World) -> None:
    world.region.backend("elbv2").target_groups[world.group].health_check_interval_seconds = 300
    for _ in range(3):
        world.healthy_target()


@pytest.mark.rule(
    "load balancing",
    "A new target is initial until it has failed as many checks as the unhealthy threshold, and one passed check is enough.",
    CHECKS,
)
def test_one_failed_check_does_not_make_a_new_target_unhealthy() -> None:
    check = HealthCheck(interval=5, timeout=2, unhealthy=2)
    refused, passed = ServerStatus(False, "L4CON", "", 0), ServerStatus(False, "L7OK", "200", 1)
    verdict = Verdict()
    # The second check may begin 5 s after the first one's end, and take 2 s itself.
    for now in (0.0, 1.0, 5.0, 6.9):
        assert not judge(verdict, refused, check, now)
        assert verdict.health.state == "initial"
    assert judge(verdict, passed, check, 7.0)
    judge(verdict, refused, check, 9.0)
    assert verdict.health.state == "unhealthy"


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


@pytest.mark.rule(
    "load balancing",
    "A target is unhealthy after as many failed checks in a row as the unhealthy threshold, with the code as reason.",
    CHECKS,
)
@pytest.mark.rule(
    "load balancing",
    "An unhealthy target is healthy again after as many passed checks in a row as the healthy threshold.",
    CHECKS,
)
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


@pytest.mark.rule(
    "load balancing",
    "A check without a response within its timeout has failed, with Target.Timeout as reason.",
    CHECKS,
)
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
