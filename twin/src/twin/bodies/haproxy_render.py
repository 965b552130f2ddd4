"""A configuration in HAProxy 2.6's words: https://docs.haproxy.org/2.6/configuration.html"""

from __future__ import annotations

from collections.abc import Iterator

from twin.bodies.haproxy_config import (
    Backend,
    Configuration,
    FixedResponse,
    Forward,
    Frontend,
    Redirect,
    Rule,
    Server,
    Tls,
)
from twin.bodies.haproxy_log import FORMAT
from twin.bodies.haproxy_words import condition, locations, quote

# How an Application Load Balancer answers for itself.
_ERRORS = {
    400: "400 Bad Request",
    408: "408 Request Time-out",
    500: "500 Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
    504: "504 Gateway Time-out",
}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
CONNECT_SECONDS = 10
_TRACE = "1-%[date,hex,bytes(8,8),lower]-%[uuid,regsub(-,,g),bytes(0,24)]"
_ROOT = "{ req.fhdr(X-Amzn-Trace-Id) -m sub Root= }"
_WAITED = "date(0,ms),sub(txn.start)"


def render(wanted: Configuration, state_file: str, listen_in: str) -> str:
    """The configuration's text: listeners are in network namespace `listen_in`, servers in HAProxy's own.

    Raises ValueError for what HAProxy has no words for.
    """
    lines = [*_head(state_file)]
    backends = {backend.name: backend for backend in wanted.backends}
    for frontend in wanted.frontends:
        lines += ["", *_frontend(frontend, listen_in, backends)]
    for backend in wanted.backends:
        lines += ["", *_backend(backend)]
    return "\n".join(lines) + "\n"


def _page(words: str) -> str:
    body = f"<body>\r\n<center><h1>{words}</h1></center>\r\n</body>"
    return f"<html>\r\n<head><title>{words}</title></head>\r\n{body}\r\n</html>\r\n"


def _head(state_file: str) -> Iterator[str]:
    yield "global"
    yield "    nbthread 1"
    yield "    maxconn 4096"
    # Relative, because a socket's path may have 97 characters at most and the state folder's may be longer.
    yield "    stats socket unix@admin.sock mode 600 level admin expose-fd listeners"
    yield f"    server-state-file {quote(state_file)}"
    # Targets are checked when they are registered. HAProxy would spread a new worker's first checks over the whole interval.
    yield "    max-spread-checks 1s"
    # A replaced worker finishes its requests; the longest deregistration delay is an hour.
    yield "    hard-stop-after 1h"
    # Requests go to standard output, HAProxy's own words to standard error.
    yield "    log stderr format raw local0 notice"
    yield "    tune.ssl.default-dh-param 2048"
    yield ""
    yield "defaults"
    yield "    mode http"
    yield "    log global"
    yield "    load-server-state-from-file global"
    # A request goes to one target. If that fails, the client hears of it.
    yield "    retries 0"
    # A replaced worker says "Connection: close" on its next response instead of closing under a client's request.
    yield "    option idle-close-on-response"
    yield f"    timeout connect {CONNECT_SECONDS}s"
    yield "    timeout queue 10s"
    yield "    timeout client 60s"
    yield "    timeout server 60s"
    for status, words in _ERRORS.items():
        yield f"    http-error status {status} content-type text/html string {quote(_page(words))} hdr Server awselb/2.0"


def _frontend(frontend: Frontend, listen_in: str, backends: dict[str, Backend]) -> Iterator[str]:
    yield f"frontend {quote(frontend.name)}"
    tls = f" {_tls(frontend.tls)}" if frontend.tls else ""
    yield f"    bind {frontend.address}:{frontend.port} namespace {listen_in}{tls}"
    yield "    log stdout len 16384 format raw local1 info"
    yield f"    log-format {quote(FORMAT)}"
    for timeout in ("client", "http-request", "http-keep-alive"):
        yield f"    timeout {timeout} {frontend.idle_timeout}s"
    # A line holds 64 words; an ACL may have several lines.
    for sources in (frontend.sources[start : start + 50] for start in range(0, len(frontend.sources), 50)):
        yield f"    acl allowed src {' '.join(quote(source) for source in sources)}"
    yield f"    tcp-request connection reject{' unless allowed' if frontend.sources else ''}"
    yield "    tcp-request session set-var(sess.connection) uuid,regsub(-,,g)"
    yield from _request_headers(frontend)
    # The first rule that matches is noted, then carried out: HAProxy itself would answer and redirect before it forwards.
    for number, rule in enumerate(frontend.rules):
        conditions = " ".join(condition(each) for each in rule.conditions)
        chosen = f"if !{{ var(txn.rule) -m found }} {conditions}".rstrip()
        yield f"    http-request set-var(txn.rule) int({number}) {chosen}"
    forwards: list[str] = []
    for number, rule in enumerate(frontend.rules):
        chosen = f"{{ var(txn.rule) -m int {number} }}"
        yield f"    http-request set-var(txn.priority) int({rule.priority}) if {chosen}"
        yield from _action(rule, chosen, "https" if frontend.tls else "http", backends, forwards)
    yield from _response_headers(frontend)
    yield from forwards


def _tls(tls: Tls) -> str:
    words = ["ssl", *(f"crt {quote(name)}" for name in tls.certificates)]
    words += [f"ssl-min-ver {tls.minimum}", f"ssl-max-ver {tls.maximum}"]
    if tls.ciphers:
        words.append(f"ciphers {quote(':'.join(tls.ciphers))}")
    if tls.suites:
        words.append(f"ciphersuites {quote(':'.join(tls.suites))}")
    words.append(f"alpn {'h2,http/1.1' if tls.http2 else 'http/1.1'}")
    return " ".join(words)


def _request_headers(frontend: Frontend) -> Iterator[str]:
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html"""
    headers = frontend.headers
    yield "    http-request set-var(txn.start) date(0,ms)"
    yield "    http-request set-var(txn.agent) req.fhdr(User-Agent)"
    yield "    http-request set-var(txn.host) req.hdr(Host)"
    yield "    http-request set-var(txn.upgrade) req.hdr(Upgrade)"
    if headers.drop_invalid:
        yield f"    http-request del-header {quote('[^-A-Za-z0-9]')} -m reg"
    protocol = "https" if frontend.tls else "http"
    yield f"    http-request set-header X-Forwarded-Proto {protocol}"
    yield "    http-request set-header X-Forwarded-Port %[dst_port]"
    if headers.forwarded_for == "remove":
        yield "    http-request del-header X-Forwarded-For"
    elif headers.forwarded_for == "append":
        client = "%[src]:%[src_port]" if headers.forwarded_port else "%[src]"
        earlier = "{ req.hdr(X-Forwarded-For) -m found }"
        # One header, as the load balancer sends it, not a second one of the same name.
        yield "    http-request set-var(txn.forwarded) req.fhdr(X-Forwarded-For)"
        yield f'    http-request set-header X-Forwarded-For "%[var(txn.forwarded)], {client}" if {earlier}'
        yield f"    http-request set-header X-Forwarded-For {client} unless {earlier}"
    if headers.tls and frontend.tls:
        yield "    http-request set-header X-Amzn-Tls-Version %sslv"
        yield "    http-request set-header X-Amzn-Tls-Cipher-Suite %sslc"
    yield f"    http-request set-header X-Amzn-Trace-Id Self={_TRACE};%[req.fhdr(X-Amzn-Trace-Id)] if {_ROOT}"
    yield f"    http-request set-header X-Amzn-Trace-Id Root={_TRACE} unless {_ROOT}"
    yield "    http-request set-var(txn.trace) req.fhdr(X-Amzn-Trace-Id)"


def _response_headers(frontend: Frontend) -> Iterator[str]:
    yield "    http-response set-var(txn.target_status) status"
    if not frontend.headers.server:
        yield "    http-after-response del-header Server"
    for name, value in frontend.headers.set:
        yield f"    http-after-response set-header {name} {quote(value.replace('%', '%%'))}"
    yield "    http-after-response set-var(txn.status) status"
    yield "    http-after-response set-var(txn.location) res.fhdr(Location) if { var(txn.action) -m str redirect }"


def _action(rule: Rule, chosen: str, protocol: str, backends: dict[str, Backend], forwards: list[str]) -> Iterator[str]:
    action = rule.action
    name = {Forward: "forward", FixedResponse: "fixed-response", Redirect: "redirect"}[type(action)]
    yield f"    http-request set-var(txn.action) str({name}) if {chosen}"
    if isinstance(action, FixedResponse):
        kind = quote(action.content_type or "text/plain")
        content = f" content-type {kind} string {quote(action.body)}" if action.body else ""
        yield f"    http-request return status {action.status}{content} hdr Server awselb/2.0 if {chosen}"
    elif isinstance(action, Redirect):
        for location, when in locations(action, protocol):
            yield f"    http-request redirect location {location} code {action.status} if {chosen}{when}"
    else:
        total = sum(weight for _, weight in action.targets)
        if len(action.targets) > 1 and total:
            yield f"    http-request set-var(txn.dice) rand({total}) if {chosen}"
        share = 0
        for target_group, weight in action.targets:
            share += weight
            dice = f" {{ var(txn.dice) -m int lt {share} }}" if len(action.targets) > 1 and total else ""
            if weight or not total:
                forwards += _forward(target_group, backends.get(target_group), f"{chosen}{dice}")


def _forward(name: str, backend: Backend | None, chosen: str) -> Iterator[str]:
    """Which of a target group's backends takes the request; with none of its servers up the frontend itself answers 503."""
    if backend is None:
        return
    # A worker that stops counts no server as up any more.
    yield f"    use_backend {backend.former} if {chosen} {{ stopping }}"
    too_few = f"{{ nbsrv({name}) lt {backend.minimum_healthy} }}"
    yield f"    use_backend {backend.open} if {chosen} {too_few} {{ nbsrv({backend.open}) gt 0 }}"
    yield f"    use_backend {name} if {chosen} {{ nbsrv({name}) gt 0 }}"


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
    slow = f" slowstart {backend.slow_start}s" if backend.slow_start else ""
    for name in (backend.name, backend.open, backend.former):
        yield f"backend {name}"
        yield f"    balance {backend.balance}"
        yield f"    timeout server {backend.idle_timeout}s"
        if backend.stickiness:
            # Not taken away from the request: the target sees it, as it does on AWS.
            yield f"    cookie AWSALB insert nocache maxidle {backend.stickiness}s attr Max-Age={backend.stickiness}"
        yield from _failures()
        if name == backend.former:
            # Its servers are those of the time of the reload: what never reached a target is tried on another one.
            yield "    retries 3"
            yield "    retry-on conn-failure"
            yield "    option redispatch 1"
        for server in backend.servers:
            cookie = f" cookie {quote(server.name)}" if backend.stickiness else ""
            follows = "" if name == backend.open else f" track {backend.checks}/{quote(server.name)}"
            ramp = slow if name == backend.name else ""
            yield f"    server {_server(server)}{tls}{cookie}{follows}{ramp}"


def _failures() -> Iterator[str]:
    """A target that can't be connected to is 503 to HAProxy, but 502 to AWS, or 504 when the time to connect ran out."""
    late = f"{_WAITED},div({CONNECT_SECONDS * 1000}),bool"
    words = f"%[{late},iif({_ERRORS[504]},{_ERRORS[502]})]"
    yield f"    http-error status 503 content-type text/html lf-string {quote(_page(words))} hdr Server awselb/2.0"
    own = "{ status 503 } !{ var(txn.target_status) -m found }"
    yield f"    http-after-response set-status 504 reason {quote('Gateway Time-out')} if {own} {{ {late} -m bool }}"
    yield f"    http-after-response set-status 502 reason {quote('Bad Gateway')} if {own}"


def _server(server: Server) -> str:
    source = f" source {server.source}" if server.source else ""
    return f"{quote(server.name)} {server.address}:{server.port}{source}"
