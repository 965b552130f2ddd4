"""Attributes of load balancers, listeners and target groups: AWS's defaults, and what may be set here.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/header-modification.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import ELBClientError, TargetGroupNotFoundError

from twin.region.patch import wrap
from twin.region.region import Region


@dataclass(frozen=True)
class Attribute:
    """`takes` are the values that may be set: a tuple of them, a range, or None for any text. Values that AWS knows beyond
    `takes` are in `aws`."""

    default: str
    takes: tuple[str, ...] | range | None = None
    aws: tuple[str, ...] | range = ()


_BOOLEAN = ("true", "false")


def _only(default: str, *others: str) -> Attribute:
    """An attribute that the twin serves with its default alone."""
    return Attribute(default, (default,), others or tuple(value for value in _BOOLEAN if value != default))


LOAD_BALANCER = {
    "access_logs.s3.enabled": Attribute("false", _BOOLEAN),
    "access_logs.s3.bucket": Attribute(""),
    "access_logs.s3.prefix": Attribute(""),
    "client_keep_alive.seconds": Attribute("3600", ("3600",), range(60, 604801)),
    "connection_logs.s3.enabled": _only("false"),
    "connection_logs.s3.bucket": Attribute(""),
    "connection_logs.s3.prefix": Attribute(""),
    "deletion_protection.enabled": Attribute("false", _BOOLEAN),
    "health_check_logs.s3.enabled": _only("false"),
    "health_check_logs.s3.bucket": Attribute(""),
    "health_check_logs.s3.prefix": Attribute(""),
    "idle_timeout.timeout_seconds": Attribute("60", range(1, 4001)),
    "ipv6.deny_all_igw_traffic": _only("false"),
    "load_balancing.cross_zone.enabled": Attribute("true", ("true",)),
    "routing.http.desync_mitigation_mode": _only("defensive", "monitor", "strictest"),
    "routing.http.drop_invalid_header_fields.enabled": Attribute("false", _BOOLEAN),
    "routing.http.preserve_host_header.enabled": Attribute("false", _BOOLEAN),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": Attribute("false", _BOOLEAN),
    "routing.http.xff_client_port.enabled": Attribute("false", _BOOLEAN),
    "routing.http.xff_header_processing.mode": Attribute("append", ("append", "preserve", "remove")),
    "routing.http2.enabled": Attribute("true", _BOOLEAN),
    "waf.fail_open.enabled": _only("false"),
    "zonal_shift.config.enabled": Attribute("false", _BOOLEAN),
}
TARGET_GROUP = {
    "deregistration_delay.timeout_seconds": Attribute("300", range(3601)),
    "load_balancing.algorithm.anomaly_mitigation": _only("off", "on"),
    "load_balancing.algorithm.type": Attribute(
        "round_robin", ("round_robin", "least_outstanding_requests"), ("weighted_random",)
    ),
    "load_balancing.cross_zone.enabled": Attribute(
        "use_load_balancer_configuration", ("use_load_balancer_configuration", "true"), ("false",)
    ),
    "slow_start.duration_seconds": Attribute("0", ("0", *map(str, range(30, 901)))),
    "stickiness.enabled": Attribute("false", _BOOLEAN),
    "stickiness.type": _only("lb_cookie", "app_cookie"),
    "stickiness.lb_cookie.duration_seconds": Attribute("86400", range(1, 604801)),
    "stickiness.app_cookie.cookie_name": Attribute(""),
    "stickiness.app_cookie.duration_seconds": Attribute("86400", range(1, 604801)),
    "target_group_health.dns_failover.minimum_healthy_targets.count": _only("1", "off", *map(str, range(2, 1001))),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": _only("off", *map(str, range(1, 101))),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": Attribute("1", range(1, 1001)),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": Attribute(
        "off", ("off", *map(str, range(1, 101)))
    ),
}
# The response headers that a listener sets, by the attribute with their value.
RESPONSE_HEADERS = {
    f"routing.http.response.{name.lower().replace('-', '_')}.header_value": name
    for name in (
        "Strict-Transport-Security",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Credentials",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "X-Frame-Options",
    )
}
LISTENER = {
    "routing.http.response.server.enabled": Attribute("true", _BOOLEAN),
    **{key: Attribute("") for key in RESPONSE_HEADERS},
}
# Names of headers that HTTPS listeners give their requests; the twin has AWS's default names.
_TLS_REQUEST_HEADERS = {
    f"routing.http.request.{name.lower().replace('-', '_')}.header_name": Attribute("", ("",))
    for name in (
        "X-Amzn-Mtls-Clientcert-Serial-Number",
        "X-Amzn-Mtls-Clientcert-Issuer",
        "X-Amzn-Mtls-Clientcert-Subject",
        "X-Amzn-Mtls-Clientcert-Validity",
        "X-Amzn-Mtls-Clientcert-Leaf",
        "X-Amzn-Mtls-Clientcert",
        "X-Amzn-Tls-Version",
        "X-Amzn-Tls-Cipher-Suite",
    )
}


def refused(words: str, code: str = "InvalidConfigurationRequest") -> ELBClientError:
    return ELBClientError(code, words)


def defaults(known: dict[str, Attribute]) -> dict[str, str]:
    return {key: attribute.default for key, attribute in known.items()}


def validate(kind: str, known: dict[str, Attribute], wanted: dict[str, Any]) -> None:
    """Raises InvalidConfigurationRequest for an attribute or a value that AWS does not know, or the twin does not serve."""
    for key, value in wanted.items():
        if key not in known:
            raise refused(f"{kind} attribute key '{key}' is not recognized")
        attribute = known[key]
        if attribute.takes is None or _within(str(value), attribute.takes):
            continue
        if _within(str(value), attribute.aws):
            raise refused(f"{kind} attribute '{key}' with value '{value}' is not supported by the twin")
        raise refused(f"'{key}' value '{value}' must be {_words(attribute)}", "ValidationError")


def _within(value: str, allowed: tuple[str, ...] | range) -> bool:
    return value in allowed if isinstance(allowed, tuple) else value.isdigit() and int(value) in allowed


def _words(attribute: Attribute) -> str:
    for allowed in (attribute.aws, attribute.takes):
        if isinstance(allowed, range) and allowed:
            return f"between '{allowed[0]}-{allowed[-1]}' inclusive"
    if attribute.takes and len(attribute.takes) > 20:
        return "0 or between '30-900' inclusive" if "0" in attribute.takes else "off or between '1-100' inclusive"
    values = [*(attribute.takes or ()), *attribute.aws]
    return f"one of [{', '.join(map(str, values))}]"


def install(region: Region, check_access_logs: Callable[[dict[str, str]], None]) -> None:
    """`check_access_logs` gets all attributes of a load balancer that has access logs, and raises if they can't be written."""
    backend = models.ELBv2Backend

    @wrap(models.FakeLoadBalancer, "__init__")
    def load_balancer(original: Any, self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.attrs = defaults(LOAD_BALANCER)

    @wrap(models.FakeTargetGroup, "__init__")
    def target_group(original: Any, self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if self.protocol in ("HTTP", "HTTPS"):
            self.attributes = defaults(TARGET_GROUP)

    @wrap(models.FakeListener, "__init__")
    def listener(original: Any, self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.attributes = defaults({**LISTENER, **(_TLS_REQUEST_HEADERS if self.protocol == "HTTPS" else {})})

    @wrap(backend, "modify_load_balancer_attributes")
    def modify_load_balancer_attributes(original: Any, self: Any, arn: str, attrs: dict[str, str]) -> Any:
        if arn in self.load_balancers:
            validate("Load balancer", LOAD_BALANCER, attrs)
            after = {**self.load_balancers[arn].attrs, **attrs}
            if after["access_logs.s3.enabled"] == "true":
                check_access_logs(after)
            self.load_balancers[arn].attrs.update(attrs)
            return self.load_balancers[arn].attrs
        return original(self, arn, attrs)

    @wrap(backend, "modify_target_group_attributes")
    def modify_target_group_attributes(original: Any, self: Any, target_group_arn: str, attributes: dict[str, str]) -> None:
        group = self.target_groups.get(target_group_arn)
        if group is None:
            raise TargetGroupNotFoundError()
        validate("Target group", TARGET_GROUP, attributes)
        after = {**group.attributes, **attributes}
        least = after["load_balancing.algorithm.type"] == "least_outstanding_requests"
        if least and after["slow_start.duration_seconds"] != "0":
            raise refused(
                "You cannot enable both slow start mode and the least outstanding requests algorithm for a target group"
            )
        group.attributes.update(attributes)

    @wrap(backend, "modify_listener_attributes")
    def modify_listener_attributes(original: Any, self: Any, listener_arn: str, attrs: list[dict[str, str]]) -> Any:
        found = self.describe_listeners(None, [listener_arn])[0]
        known = {**LISTENER, **(_TLS_REQUEST_HEADERS if found.protocol == "HTTPS" else {})}
        validate("Listener", known, {attribute["Key"]: attribute["Value"] for attribute in attrs})
        return original(self, listener_arn, attrs)

    for name in ("modify_listener_attributes", "modify_load_balancer_attributes", "modify_target_group_attributes"):
        _wake_after(region, name)


def _wake_after(region: Region, name: str) -> None:
    @wrap(models.ELBv2Backend, name)
    def change(original: Any, *args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        region.wake("LoadBalancers")
        return result
