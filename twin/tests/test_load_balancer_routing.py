"""Where requests go: weights, stickiness, slow start, failing open, headers, and errors of targets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from balancing import World, ask, shares
from botocore.exceptions import ClientError
from common import until

from twin.bodies import netns
from twin.bodies.haproxy_config import minimum_healthy

pytest_plugins = ["balancing_fixtures"]

TROUBLE = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html"
ATTRIBUTES = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"
HEALTH = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html"


@pytest.mark.rule("load balancing", "502 when a target resets the attempt to connect; no other target is tried.", TROUBLE)
@pytest.mark.rule("load balancing", "503 when a target group has no registered targets, or all are in the unused state.", TROUBLE)
def test_refused_connection_is_502(world: World) -> None:
    assert world.get()[0] == 503
    world.healthy_target()
    _, gone = world.healthy_target()
    record = world.region.backend("elbv2").target_groups[world.group]
    record.health_check_interval_seconds = 30  # long enough for the listener to go before a check sees it
    until(lambda: world.haproxy.served.backends[0].check.interval == 30)
    gone.close()
    answers = [world.get() for _ in range(8)]
    assert Counter(status for status, _, _ in answers) == {200: 4, 502: 4}
    body, headers = next((body, headers) for status, body, headers in answers if status == 502)
    assert b"<h1>502 Bad Gateway</h1>" in body
    assert headers["Server"] == "awselb/2.0"


@pytest.mark.rule(
    "load balancing", "504 when no connection to the target comes about before the connection timeout of 10 seconds.", TROUBLE
)
@pytest.mark.rule("load balancing", "504 when a target does not respond before the idle timeout.", TROUBLE)
def test_silent_target_is_504(world: World) -> None:
    world.balancer_attributes(idle_timeout__timeout_seconds="2")
    _, target = world.healthy_target()
    until(lambda: world.haproxy.served.frontends[0].idle_timeout == 2)
    since = time.monotonic()
    status, body, _ = world.get("/slow")
    assert (status, b"<h1>504 Gateway Time-out</h1>" in body) == (504, True)
    assert 1.9 < time.monotonic() - since < 8
    record = world.region.backend("elbv2").target_groups[world.group]
    record.health_check_interval_seconds = record.health_check_timeout_seconds = 60
    until(lambda: world.haproxy.served.backends[0].check.interval == 60)
    target.wait_for_request()
    netns.nft(
        f"table ip dark {{ chain out {{ type filter hook output priority 0; ip daddr {target.address} tcp flags syn drop; }}; }}",
        world.namespace,
    )
    since = time.monotonic()
    connection = world.connection()
    connection.timeout = 30
    status, body, _ = ask(connection)
    assert (status, b"<h1>504 Gateway Time-out</h1>" in body) == (504, True)
    assert 9.5 < time.monotonic() - since < 20


@pytest.mark.rule(
    "load balancing",
    "With weighted target groups, each gets requests in proportion to its weight.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html#forward-actions",
)
def test_weighted_target_groups(world: World) -> None:
    _, first = world.healthy_target()
    first_group, world.group = world.group, world.create_target_group("other")

    def weigh(first_weight: int, second_weight: int) -> None:
        weights = [
            {"TargetGroupArn": first_group, "Weight": first_weight},
            {"TargetGroupArn": world.group, "Weight": second_weight},
        ]
        action: Any = {"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}
        served = world.haproxy.served
        world.elbv2.modify_listener(ListenerArn=world.listener, DefaultActions=[action])
        world.wait_for_reload(served)

    weigh(1, 0)
    _, second = world.healthy_target()
    assert set(shares(world)) == {first.address.encode()}
    weigh(1, 4)
    counted = shares(world, 200)
    assert 10 <= counted[first.address.encode()] <= 80, counted
    weigh(0, 1)
    assert set(shares(world)) == {second.address.encode()}


@pytest.mark.rule(
    "load balancing",
    "With stickiness, a client that brings the AWSALB cookie comes back to its target.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#sticky-sessions",
)
def test_stickiness(world: World) -> None:
    world.healthy_target()
    world.healthy_target()
    assert len(shares(world)) == 2
    world.attributes(stickiness__enabled="true", stickiness__type="lb_cookie", stickiness__lb_cookie__duration_seconds="60")
    until(lambda: world.haproxy.served.backends[0].stickiness == 60)
    _, target, headers = world.get()
    assert headers["Set-Cookie"].startswith("AWSALB=")
    assert "path=/" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].split(";")[0]
    assert {world.get(Cookie=cookie)[1] for _ in range(10)} == {target}
    assert len(shares(world)) == 2, "clients without a cookie are spread"
    with pytest.raises(ClientError, match="not supported by the twin"):
        world.attributes(stickiness__type="app_cookie", stickiness__app_cookie__cookie_name="own")


@pytest.mark.rule(
    "load balancing",
    "A target that becomes healthy in slow start mode gets a share that grows linearly to a full one.",
    ATTRIBUTES,
)
@pytest.mark.rule("load balancing", "Slow start is 0 or 30 to 900 seconds, and not for least outstanding requests.", ATTRIBUTES)
def test_slow_start(world: World) -> None:
    for wrong in ("29", "901"):
        with pytest.raises(ClientError, match="ValidationError"):
            world.attributes(slow_start__duration_seconds=wrong)
    world.healthy_target()
    world.attributes(slow_start__duration_seconds="30")
    with pytest.raises(ClientError, match="InvalidConfigurationRequest"):
        world.attributes(load_balancing__algorithm__type="least_outstanding_requests")
    until(lambda: world.haproxy.served.backends[0].slow_start == 30)
    _, new = world.healthy_target()
    since = time.monotonic()
    early = shares(world, 60)[new.address.encode()]
    assert time.monotonic() - since < 12, "the machine is too slow to tell"
    assert early <= 24, f"{early} of 60 requests: half of them would be a full share"
    until(lambda: shares(world, 40)[new.address.encode()] >= 18, seconds=60)


@pytest.mark.rule(
    "load balancing", "The least outstanding requests algorithm picks the target with the fewest in progress.", ATTRIBUTES
)
def test_least_outstanding_requests(world: World) -> None:
    world.attributes(load_balancing__algorithm__type="least_outstanding_requests")
    world.healthy_target()
    world.healthy_target()
    until(lambda: world.haproxy.served.backends[0].balance == "leastconn")
    slow = threading.Thread(target=lambda: world.get("/slow"))
    slow.start()
    busy = until(lambda: next((each for each in world.targets if each.requests), None))
    assert busy.address.encode() not in shares(world)
    busy.released.set()
    slow.join()
    assert len(shares(world)) == 2


@pytest.mark.rule("load balancing", "With no healthy target, requests go to all targets of the group: it fails open.", HEALTH)
@pytest.mark.rule(
    "load balancing",
    "Below the minimum of healthy targets for unhealthy state routing, requests go to unhealthy ones too.",
    HEALTH,
)
def test_failing_open(world: World) -> None:
    _, first = world.healthy_target()
    other, second = world.healthy_target()
    second.health = 503
    until(lambda: world.state(other) == "unhealthy")
    assert set(shares(world)) == {first.address.encode()}
    count = "target_group_health__unhealthy_state_routing__minimum_healthy_targets__count"
    served, worker = world.haproxy.served, world.worker()
    world.attributes(**{count: "2"})
    world.wait_for_reload(served)
    assert set(shares(world)) == {first.address.encode(), second.address.encode()}
    assert world.worker() != worker
    worker = world.worker()
    first.health = 503
    until(lambda: {world.state(instance) for instance in (other,)} == {"unhealthy"} and first.checks[-1] == 503)
    assert {world.get()[0] for _ in range(20)} == {200}
    assert world.worker() == worker, "health alone must not cost a reload"
    assert [minimum_healthy(*each) for each in (("1", "off", 9), ("off", "50", 5), ("3", "50", 5), ("1", "100", 4))] == [
        1,
        3,
        3,
        4,
    ]


@pytest.mark.rule(
    "load balancing",
    "Header fields whose names have other characters than letters, digits and hyphens are removed if so configured.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html",
)
@pytest.mark.rule(
    "load balancing",
    "X-Forwarded-For is appended to, preserved or removed, with the client's port if so configured.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html",
)
@pytest.mark.rule(
    "load balancing",
    "Listener attributes add response headers and remove the Server header.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/header-modification.html",
)
def test_headers(world: World) -> None:
    _, target = world.healthy_target()

    def sent(**headers: str) -> dict[str, str]:
        assert world.get("/headers", **headers)[0] == 200
        return target.requests[-1][1]

    both = {"under_score": "1", "X-Plain": "2"}
    assert {"under_score", "x-plain"} <= sent(**both).keys()
    assert sent(**{"X-Forwarded-For": "203.0.113.7"})["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
    served = world.haproxy.served
    world.balancer_attributes(
        routing__http__drop_invalid_header_fields__enabled="true", routing__http__xff_client_port__enabled="true"
    )
    world.wait_for_reload(served)
    assert "under_score" not in sent(**both)
    assert "x-plain" in sent(**both)
    assert sent()["x-forwarded-for"].startswith("127.0.0.1:")
    for mode, expected in (("preserve", "203.0.113.7"), ("remove", None)):
        served = world.haproxy.served
        world.balancer_attributes(routing__http__xff_header_processing__mode=mode)
        world.wait_for_reload(served)
        assert sent(**{"X-Forwarded-For": "203.0.113.7"}).get("x-forwarded-for") == expected
    assert world.get()[2]["Server"]
    served = world.haproxy.served
    attributes = {
        "routing.http.response.server.enabled": "false",
        "routing.http.response.x_frame_options.header_value": "DENY; 100%",
    }
    world.elbv2.modify_listener_attributes(
        ListenerArn=world.listener, Attributes=[{"Key": key, "Value": value} for key, value in attributes.items()]
    )
    world.wait_for_reload(served)
    headers = world.get()[2]
    assert (headers["Server"], headers["X-Frame-Options"]) == (None, "DENY; 100%")
