"""Records of load balancers, listeners, rules and target groups as a configuration that HAProxy serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.elbv2.ssl_policies import SSL_POLICIES

from twin.bodies.haproxy_config import (
    Backend,
    Condition,
    FixedResponse,
    Forward,
    Frontend,
    Headers,
    HealthCheck,
    Redirect,
    Rule,
    Server,
    Tls,
    minimum_healthy,
)
from twin.region.acm import find_certificate
from twin.region.elb_interfaces import allowed_sources, interfaces_of
from twin.region.elbv2_attributes import RESPONSE_HEADERS
from twin.region.region import Region
from twin.region.target_health import Verdict, draining, target_groups_of, verdicts, zone_of
from twin.region.zonal_shift import shifted_zone


class Unsupported(ValueError):
    """A record asks for what the local region does not serve."""


def backend_name(target_group_arn: str) -> str:
    return f"tg-{target_group_arn.rsplit('/', 1)[1]}"


def frontend_name(listener_arn: str) -> str:
    return f"listener-{listener_arn.rsplit('/', 1)[1]}"


def server_name(target_id: str, port: int) -> str:
    return f"{target_id}_{port}"


def target_of(server: str) -> tuple[str, int]:
    """Id and port of the target that a server's name stands for."""
    target_id, port = server.rsplit("_", 1)
    return target_id, int(port)


def frontend(region: Region, balancer: Any, listener: Any, keep: Callable[[bytes], str]) -> Frontend:
    """The listener as a frontend; `keep` takes a certificate with its key and says how it is to be named.

    Raises ValueError for what can't be served.
    """
    if balancer.type != "application":
        raise Unsupported(f"{balancer.type} load balancers are not supported by the twin")
    if listener.protocol not in ("HTTP", "HTTPS"):
        raise Unsupported(f"{listener.protocol} listeners are not supported by the twin")
    rules = sorted((rule for rule in listener.rules.values() if not rule.is_default), key=lambda rule: int(rule.priority))
    return Frontend(
        name=frontend_name(listener.arn),
        address=balancer.dns_name,
        port=int(listener.port),
        rules=(
            *(_rule(rule.conditions, rule.actions, int(rule.priority)) for rule in rules),
            _rule([], listener.default_actions, 0),
        ),
        idle_timeout=_idle_timeout(balancer),
        sources=allowed_sources(region, balancer.security_groups, int(listener.port)),
        tls=_tls(region, balancer, listener, keep) if listener.protocol == "HTTPS" else None,
        headers=_headers(balancer, listener),
    )


def _tls(region: Region, balancer: Any, listener: Any, keep: Callable[[bytes], str]) -> Tls:
    found = [find_certificate(region, arn) for arn in listener.certificates]
    if not found or found[0] is None:
        raise Unsupported(f"the certificate {listener.certificate} is gone")
    policy = SSL_POLICIES[listener.ssl_policy]
    versions = sorted(policy["ssl_protocols"])  # "TLSv1" stands for 1.0
    ciphers = [name for name in policy["ciphers"] if not name.startswith("TLS_")]
    if versions[0] in ("TLSv1", "TLSv1.1"):
        ciphers.append("@SECLEVEL=0")  # OpenSSL's own bar is TLS 1.2
    return Tls(
        certificates=tuple(keep(material.pem) for material in found if material),
        minimum="TLSv1.0" if versions[0] == "TLSv1" else versions[0],
        maximum="TLSv1.0" if versions[-1] == "TLSv1" else versions[-1],
        ciphers=tuple(ciphers),
        suites=tuple(name for name in policy["ciphers"] if name.startswith("TLS_")),
        http2=balancer.attrs["routing.http2.enabled"] == "true",
    )


def _headers(balancer: Any, listener: Any) -> Headers:
    attributes = balancer.attrs
    return Headers(
        forwarded_for=attributes["routing.http.xff_header_processing.mode"],
        forwarded_port=attributes["routing.http.xff_client_port.enabled"] == "true",
        tls=attributes["routing.http.x_amzn_tls_version_and_cipher_suite.enabled"] == "true",
        drop_invalid=attributes["routing.http.drop_invalid_header_fields.enabled"] == "true",
        server=listener.attributes["routing.http.response.server.enabled"] == "true",
        set=tuple((name, listener.attributes[key]) for key, name in RESPONSE_HEADERS.items() if listener.attributes[key]),
    )


def backend(region: Region, group: Any, balancers: list[Any], known: dict[str, Any]) -> Backend:
    """The target group as a backend of `balancers`; `known` are the instances by id."""
    attributes = group.attributes
    servers = [
        server
        for target_id, port, drains in [
            *((str(target["Id"]), int(target["Port"]), False) for target in group.targets.values()),
            *((target.id, target.port, True) for target in draining(group).values()),
        ]
        if (server := _server(region, group, balancers, known, target_id, port, drains))
    ]
    routing = "target_group_health.unhealthy_state_routing.minimum_healthy_targets"
    return Backend(
        name=backend_name(group.arn),
        servers=tuple(servers),
        check=HealthCheck(
            path=group.health_check_path or "/",
            port=None if group.health_check_port == "traffic-port" else int(group.health_check_port),
            matcher=(group.matcher or {}).get("HttpCode") or "200",
            interval=int(group.health_check_interval_seconds),
            timeout=int(group.health_check_timeout_seconds),
            healthy=int(group.healthy_threshold_count),
            unhealthy=int(group.unhealthy_threshold_count),
            tls=group.health_check_protocol == "HTTPS",
        ),
        tls=group.protocol == "HTTPS",
        idle_timeout=max(_idle_timeout(balancer) for balancer in balancers),
        balance="leastconn" if attributes["load_balancing.algorithm.type"] == "least_outstanding_requests" else "roundrobin",
        slow_start=int(attributes["slow_start.duration_seconds"]),
        stickiness=int(attributes["stickiness.lb_cookie.duration_seconds"]) if attributes["stickiness.enabled"] == "true" else 0,
        minimum_healthy=minimum_healthy(attributes[f"{routing}.count"], attributes[f"{routing}.percentage"], len(group.targets)),
    )


def _server(
    region: Region, group: Any, balancers: list[Any], known: dict[str, Any], target_id: str, port: int, drains: bool
) -> Server | None:
    """The target as a server; None while there is nothing to reach."""
    zone = zone_of(region, group, target_id, known)
    if group.target_type == "ip":
        address = target_id
    else:
        instance = known.get(target_id)
        if instance is None or instance.state not in ("running", "stopping", "shutting-down") or not instance.private_ip:
            return None
        address = instance.private_ip
        drains = drains or instance.state != "running"
    nodes = {
        interface.availability_zone: str(interface.private_ip_address)
        for balancer in balancers
        for interface in interfaces_of(balancer).values()
    }
    if zone is not None and nodes and zone not in nodes:
        return None
    health = verdicts(group).get((target_id, port), Verdict()).health.state
    away = zone is not None and zone in {shifted_zone(balancer) for balancer in balancers}
    return Server(
        server_name(target_id, port),
        address,
        port,
        source=nodes.get(zone or "", next(iter(nodes.values()), "")),
        draining=drains or away,
        fail_open=health in ("healthy", "unhealthy"),
        up=health == "healthy",
    )


def _idle_timeout(balancer: Any) -> int:
    return int(balancer.attrs["idle_timeout.timeout_seconds"])


def _rule(conditions: list[dict[str, Any]], actions: list[Any], priority: int) -> Rule:
    action = max(actions, key=lambda action: int(action.data.get("Order") or 0))
    if any(other.type.startswith("authenticate") for other in actions):
        raise Unsupported("authenticate actions are not supported by the twin")
    return Rule(_action(action), tuple(_condition(condition) for condition in conditions), priority)


def _action(action: Any) -> Forward | FixedResponse | Redirect:
    if action.type == "forward":
        return Forward(tuple((backend_name(arn), weight) for arn, weight in target_groups_of(action).items()))
    if action.type == "fixed-response":
        config = action.data["FixedResponseConfig"]
        return FixedResponse(int(config["StatusCode"]), config.get("ContentType") or "", config.get("MessageBody") or "")
    config = action.data["RedirectConfig"]
    parts = {part.lower(): config[part] for part in ("Protocol", "Host", "Port", "Path", "Query") if part in config}
    return Redirect(int(config["StatusCode"].removeprefix("HTTP_")), **parts)


def _condition(condition: dict[str, Any]) -> Condition:
    name = str(condition["Field"])
    config = condition.get("".join(word.capitalize() for word in name.split("-")) + "Config") or {}
    values = config.get("Values") or condition.get("Values") or []
    if name == "query-string":
        keys = {value.get("Key", "") for value in values}
        if len(keys) > 1:
            raise Unsupported("a query-string condition on several keys is not supported by the twin")
        return Condition(name, tuple(value["Value"] for value in values), keys.pop())
    return Condition(name, tuple(values), config.get("HttpHeaderName", ""))
