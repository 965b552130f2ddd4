"""What a load balancer does, as plain data; haproxy_render.py puts it in HAProxy's words."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class HealthCheck:
    """A target group's health check; times in seconds, `port` None for the traffic port."""

    path: str = "/"
    port: int | None = None
    matcher: str = "200"
    interval: int = 30
    timeout: int = 5
    healthy: int = 5
    unhealthy: int = 2
    tls: bool = False


@dataclass(frozen=True)
class Server:
    """A target. `source` is the load balancer's own address towards it, empty for the system's choice.

    The others are no part of the configuration's text: HAProxy is told at run time. A draining server gets no new request;
    a `fail_open` one gets some when too few servers are healthy; `up` is what a HAProxy that starts takes it for.
    """

    name: str
    address: str
    port: int
    source: str = ""
    draining: bool = False
    fail_open: bool = False
    up: bool = False


@dataclass(frozen=True)
class Backend:
    """A target group. With fewer than `minimum_healthy` servers up, requests go to all that may fail open.

    Times in seconds, 0 for no slow start and no stickiness.
    """

    name: str
    servers: tuple[Server, ...]
    check: HealthCheck
    tls: bool = False
    idle_timeout: int = 60
    balance: str = "roundrobin"
    slow_start: int = 0
    stickiness: int = 0
    minimum_healthy: int = 1

    @property
    def checks(self) -> str:
        """The backend that checks the servers of this one, with the health check's own timeouts."""
        return f"{self.name}-checks"

    @property
    def open(self) -> str:
        """The backend that serves while too few servers are healthy."""
        return f"{self.name}-open"

    @property
    def former(self) -> str:
        """The backend of a worker that has been replaced, whose servers may be gone."""
        return f"{self.name}-former"


def minimum_healthy(count: str, percentage: str, targets: int) -> int:
    """How many healthy targets a group needs, by its attributes; each may be "off", and the larger one holds.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html
    """
    least = 0 if count == "off" else int(count)
    share = 0 if percentage == "off" else math.ceil(targets * int(percentage) / 100)
    return max(1, least, share)


@dataclass(frozen=True)
class Forward:
    """Pairs of backend name and weight."""

    targets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FixedResponse:
    status: int
    content_type: str = ""
    body: str = ""


@dataclass(frozen=True)
class Redirect:
    """The parts may hold AWS's placeholders #{protocol}, #{host}, #{port}, #{path} and #{query}."""

    status: int
    protocol: str = "#{protocol}"
    host: str = "#{host}"
    port: str = "#{port}"
    path: str = "/#{path}"
    query: str = "#{query}"


@dataclass(frozen=True)
class Condition:
    """Any of `values` must match: wildcards * and ?, but for methods and networks. `key` names the header or parameter."""

    field: str
    values: tuple[str, ...]
    key: str = ""


@dataclass(frozen=True)
class Rule:
    """`priority` is the rule's own on its listener, 0 for the default rule, which has no conditions."""

    action: Forward | FixedResponse | Redirect
    conditions: tuple[Condition, ...] = ()
    priority: int = 0


@dataclass(frozen=True)
class Tls:
    """Certificates are files with certificate, chain and private key; the first is for clients that name no other.

    `ciphers` and `suites` (TLS 1.3) by OpenSSL's names, versions as in "TLSv1.2".
    """

    certificates: tuple[str, ...]
    minimum: str = "TLSv1.2"
    maximum: str = "TLSv1.3"
    ciphers: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    http2: bool = True


@dataclass(frozen=True)
class Headers:
    """What a load balancer does to headers.

    `forwarded_for` is append, preserve or remove; `set` are response headers, pairs of name and value. The others say
    whether to add the client's port to X-Forwarded-For, to tell the target TLS version and cipher, to drop request headers
    with other names than letters, digits and hyphens, and to keep the response's Server header.
    """

    forwarded_for: str = "append"
    forwarded_port: bool = False
    tls: bool = False
    drop_invalid: bool = False
    server: bool = True
    set: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Frontend:
    """A listener. The first rule whose conditions all match decides. `sources` are the networks that clients may have."""

    name: str
    address: str
    port: int
    rules: tuple[Rule, ...]
    idle_timeout: int = 60
    sources: tuple[str, ...] = ("0.0.0.0/0",)
    tls: Tls | None = None
    headers: Headers = Headers()


@dataclass(frozen=True)
class Configuration:
    """All of a VPC's load balancers. `nodes` are their addresses in the VPC."""

    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def certificates(self) -> set[str]:
        return {name for frontend in self.frontends if frontend.tls for name in frontend.tls.certificates}
