"""What a load balancer does, as plain data, and its rendering as HAProxy 2.6 configuration.

https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# How an Application Load Balancer answers for itself.
_ERRORS = {
    400: "400 Bad Request",
    408: "408 Request Time-out",
    500: "500 Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}
_TRACE = "1-%[date,hex,bytes(8,8),lower]-%[uuid,regsub(-,,g),bytes(0,24)]"
_ROOT = "{ req.fhdr(X-Amzn-Trace-Id) -m sub Root= }"


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
    """A target."""

    name: str
    address: str
    port: int
    # Not part of the configuration text: HAProxy is told at run time.
    draining: bool = False


@dataclass(frozen=True)
class Backend:
    """A target group. Servers named in `fail_open` get requests when no server is up."""

    name: str
    servers: tuple[Server, ...]
    check: HealthCheck
    fail_open: tuple[str, ...] = ()
    tls: bool = False
    idle_timeout: int = 60

    @property
    def checks(self) -> str:
        """The backend that checks the servers of this one, with the health check's own timeouts."""
        return f"{self.name}-checks"


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
    action: Forward | FixedResponse | Redirect
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Frontend:
    """A listener. The first rule whose conditions all match decides; the last one has none."""

    name: str
    address: str
    port: int
    rules: tuple[Rule, ...]
    idle_timeout: int = 60


@dataclass(frozen=True)
class Configuration:
    frontends: tuple[Frontend, ...] = ()
    backends: tuple[Backend, ...] = ()

    def render(self, state_file: str, listen_in: str) -> str:
        """The configuration's text: listeners are in network namespace `listen_in`, servers in HAProxy's own."""
        lines = [*_head(state_file)]
        fail_open = {backend.name for backend in self.backends if backend.fail_open}
        for frontend in self.frontends:
            lines += ["", *_frontend(frontend, listen_in, fail_open)]
        for backend in self.backends:
            lines += ["", *_backend(backend)]
        return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """One word of configuration, whatever is in it. Raises ValueError for NUL, which HAProxy can't carry."""
    if "\0" in text:
        raise ValueError("a NUL character can't be configured")
    return re.sub(r"[^A-Za-z0-9_./:=,@+-]", lambda found: "".join(f"\\x{byte:02x}" for byte in found.group().encode()), text)


def _head(state_file: str) -> Iterator[str]:
    yield "global"
    yield "    nbthread 1"
    yield "    maxconn 4096"
    # Relative, because a socket's path may have 97 characters at most and the state folder's may be longer.
    yield "    stats socket unix@admin.sock mode 600 level admin expose-fd listeners"
    yield f"    server-state-file {quote(state_file)}"
    # A replaced worker finishes its requests; the longest deregistration delay is an hour.
    yield "    hard-stop-after 1h"
    yield "    log stdout format raw local0 notice"
    yield ""
    yield "defaults"
    yield "    mode http"
    yield "    log global"
    yield "    balance roundrobin"
    yield "    load-server-state-from-file global"
    # Only what never reached a target is tried again, and on another one.
    yield "    retries 3"
    yield "    retry-on conn-failure"
    yield "    option redispatch 1"
    # A replaced worker says "Connection: close" on its next response instead of closing under a client's request.
    yield "    option idle-close-on-response"
    yield "    option forwardfor"
    yield "    timeout connect 10s"
    yield "    timeout queue 10s"
    yield "    timeout client 60s"
    yield "    timeout server 60s"
    for status, words in _ERRORS.items():
        body = f"<body>\r\n<center><h1>{words}</h1></center>\r\n</body>"
        page = f"<html>\r\n<head><title>{words}</title></head>\r\n{body}\r\n</html>\r\n"
        yield f"    http-error status {status} content-type text/html string {quote(page)} hdr Server awselb/2.0"


def _frontend(frontend: Frontend, listen_in: str, fail_open: set[str]) -> Iterator[str]:
    yield f"frontend {quote(frontend.name)}"
    yield f"    bind {frontend.address}:{frontend.port} namespace {listen_in}"
    for timeout in ("client", "http-request", "http-keep-alive"):
        yield f"    timeout {timeout} {frontend.idle_timeout}s"
    yield "    http-request set-header X-Forwarded-Proto http"
    yield "    http-request set-header X-Forwarded-Port %[dst_port]"
    yield f"    http-request set-header X-Amzn-Trace-Id Self={_TRACE};%[req.fhdr(X-Amzn-Trace-Id)] if {_ROOT}"
    yield f"    http-request set-header X-Amzn-Trace-Id Root={_TRACE} unless {_ROOT}"
    # The first rule that matches is noted, then carried out: HAProxy itself would answer and redirect before it forwards.
    for number, rule in enumerate(frontend.rules):
        conditions = " ".join(_condition(condition) for condition in rule.conditions)
        yield f"    http-request set-var(txn.rule) int({number}) if !{{ var(txn.rule) -m found }} {conditions}".rstrip()
    forwards: list[str] = []
    for number, rule in enumerate(frontend.rules):
        chosen = f"{{ var(txn.rule) -m int {number} }}"
        action = rule.action
        if isinstance(action, FixedResponse):
            kind = quote(action.content_type or "text/plain")
            content = f" content-type {kind} string {quote(action.body)}" if action.body else ""
            yield f"    http-request return status {action.status}{content} hdr Server awselb/2.0 if {chosen}"
        elif isinstance(action, Redirect):
            for location, condition in _locations(action):
                yield f"    http-request redirect location {location} code {action.status} if {chosen}{condition}"
        else:
            total = sum(weight for _, weight in action.targets)
            if len(action.targets) > 1 and total:
                yield f"    http-request set-var(txn.dice) rand({total}) if {chosen}"
            share = 0
            for name, weight in action.targets:
                share += weight
                dice = f" {{ var(txn.dice) -m int lt {share} }}" if len(action.targets) > 1 and total else ""
                if weight == 0 and total:
                    continue
                if name in fail_open:
                    forwards.append(f"    use_backend {name}-open if {chosen}{dice} {{ nbsrv({name}) eq 0 }}")
                forwards.append(f"    use_backend {name} if {chosen}{dice}")
    yield from forwards


def _wildcards(pattern: str, any_character: str = ".") -> str:
    return "".join({"*": f"{any_character}*", "?": any_character}.get(character) or re.escape(character) for character in pattern)


def _condition(condition: Condition) -> str:
    """An anonymous ACL: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html"""
    patterns = [f"^{_wildcards(value)}$" for value in condition.values]
    if condition.field == "path-pattern":
        words = ["path", "-m", "reg", "--", *patterns]
    elif condition.field == "host-header":
        words = ["req.hdr(host),field(1,:)", "-i", "-m", "reg", "--", *patterns]
    elif condition.field == "http-header":
        # The name becomes part of a word that HAProxy reads itself.
        if not re.fullmatch(r"[A-Za-z0-9!#$%&*+.^_`|~-]+", condition.key):
            raise ValueError(f"http-header condition: {condition.key!r} is no header name")
        words = [f"req.fhdr({condition.key})", "-i", "-m", "reg", "--", *patterns]
    elif condition.field == "query-string":
        key = _wildcards(condition.key, "[^&=]") if condition.key else "[^&=]*"
        pairs = [f"(^|&)({key}=){'' if condition.key else '?'}{_wildcards(value, '[^&]')}(&|$)" for value in condition.values]
        words = ["query", "-i", "-m", "reg", "--", *pairs]
    elif condition.field == "http-request-method":
        words = ["method", "-m", "str", "--", *condition.values]
    elif condition.field == "source-ip":
        words = ["src", *condition.values]
    else:
        raise ValueError(f"conditions on {condition.field!r} are not supported here")
    fetch, *rest = words
    return " ".join(("{", quote_fetch(fetch), *(quote(word) for word in rest), "}"))


def quote_fetch(expression: str) -> str:
    """A sample fetch: parentheses are HAProxy's own syntax there."""
    return "".join(character if character in "()" else quote(character) for character in expression)


def _locations(redirect: Redirect) -> Iterator[tuple[str, str]]:
    """The location as a log-format string, and the condition it is for: a query's "?" stays away where there is no query."""
    protocol = redirect.protocol.replace("#{protocol}", "http").lower()
    default_port = "443" if protocol == "https" else "80"
    port = "" if redirect.port == default_port else f":{redirect.port}"
    base = f"{protocol}://{redirect.host}{port}{redirect.path}"
    if redirect.query == "#{query}":
        yield _format(f"{base}?{redirect.query}"), " { query -m len gt 0 }"
        yield _format(base), ""
    else:
        yield _format(f"{base}?{redirect.query}" if redirect.query else base), ""


def _format(text: str) -> str:
    fetches = {
        "#{protocol}": "http",
        "#{host}": "%[req.hdr(host),field(1,:)]",
        "#{port}": "%[dst_port]",
        "#{path}": "%[path,regsub(^/,)]",
        "#{query}": "%[query]",
    }
    parts = re.split(r"(#\{[a-z]+\})", text)
    return "".join(fetches.get(part) or quote(part.replace("%", "%%")) for part in parts)


def _backend(backend: Backend) -> Iterator[str]:
    check = backend.check
    tls = " ssl verify none" if backend.tls else ""
    yield f"backend {backend.checks}"
    yield "    option httpchk"
    yield (
        f"    http-check send meth GET uri {quote(check.path)} ver HTTP/1.1"
        " hdr Host %[bc_dst]:%[bc_dst_port] hdr User-Agent ELB-HealthChecker/2.0"
    )
    yield f"    http-check expect status {quote(check.matcher)}"
    yield f"    timeout connect {check.timeout}s"
    yield f"    timeout check {check.timeout}s"
    check_tls = " check-ssl verify none" if check.tls else ""
    port = f" port {check.port}" if check.port else ""
    times = f"inter {check.interval}s rise {check.healthy} fall {check.unhealthy}"
    for server in backend.servers:
        yield f"    server {_server(server)} check {times}{port}{check_tls}"
    yield f"backend {backend.name}"
    yield f"    timeout server {backend.idle_timeout}s"
    for server in backend.servers:
        yield f"    server {_server(server)}{tls} track {backend.checks}/{quote(server.name)}"
    if backend.fail_open:
        yield f"backend {backend.name}-open"
        yield f"    timeout server {backend.idle_timeout}s"
        for server in backend.servers:
            if server.name in backend.fail_open:
                yield f"    server {_server(server)}{tls}"


def _server(server: Server) -> str:
    return f"{quote(server.name)} {server.address}:{server.port}"
