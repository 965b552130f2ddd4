"""`make smoke`: a look at the running service from outside, as its clients have it; ends non-zero at the first wrong answer.

Nothing is written, unless SMOKE_EMAIL gives an address to sign up with.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from evenkeel.steps import Failure, stop
from evenkeel.target import Target

# New connections each: enough that every instance of a fleet answers some.
ROUNDS = 12
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes


def service_url(target: Target) -> str:
    """SERVICE_URL, or the load balancer's own name, found by the project's."""
    given = os.environ.get("SERVICE_URL", "").rstrip("/")
    if given:
        return given
    name = f"{target.project()}-edge"
    found = target.client("elbv2").describe_load_balancers()["LoadBalancers"]
    hosts = [balancer["DNSName"] for balancer in found if balancer["LoadBalancerName"] == name]
    if not hosts:
        raise Failure(f"there is no load balancer {name} in this region: set SERVICE_URL")
    port = target.http_port()
    return f"http://{hosts[0]}{'' if port == 80 else f':{port}'}"


def ask(url: str, body: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {**(JSON if body is not None else {}), **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return Answer(response.status, response.headers.get_content_type(), response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers.get_content_type(), error.read())
    except (urllib.error.URLError, OSError) as error:
        raise Failure(f"{url} does not answer: {error}") from None


def expect(what: str, found: Answer, status: int, kind: str = "") -> None:
    if found.status != status or (kind and found.kind != kind):
        words = found.body.decode(errors="replace")[:300]
        raise Failure(f"{what}: expected {status} {kind}".rstrip() + f", got {found.status} {found.kind}: {words}")


def look(url: str) -> None:
    """The answers that need no account: the service runs, has its database, refuses what it must, and shows its page."""
    problem = "application/problem+json"
    expect("GET /healthz", ask(f"{url}/healthz"), 200)
    expect("GET /readyz (the database)", ask(f"{url}/readyz"), 200)
    expect("GET /", ask(f"{url}/"), 200, "text/html")
    expect("GET /v1/user/self without credentials", ask(f"{url}/v1/user/self"), 401, problem)
    expect("POST /v1/user without fields", ask(f"{url}/v1/user", {}), 422, problem)
    expect("GET an unknown token", ask(f"{url}/v1/user/verify?token={secrets.token_urlsafe(32)}"), 404, problem)


def sign_up(url: str, email: str) -> None:
    """A signup, each time with another subaddress, and a look at it with the right and a wrong password."""
    name, _, domain = email.partition("@")
    address, password = f"{name}+{secrets.token_hex(6)}@{domain}", secrets.token_urlsafe(24)
    person: dict[str, Any] = {"first_name": "Smoke", "last_name": "Test", "email": address, "password": password}
    expect("POST /v1/user", ask(f"{url}/v1/user", person), 201)
    for secret, status in ((password, 403), (secrets.token_urlsafe(24), 401)):
        basic = base64.b64encode(f"{address}:{secret}".encode()).decode()
        what = f"GET /v1/user/self, {'unverified' if status == 403 else 'with a wrong password'}"
        expect(what, ask(f"{url}/v1/user/self", headers={"Authorization": f"Basic {basic}"}), status)


def main() -> None:
    try:
        url = service_url(Target.from_environment())
        for _ in range(ROUNDS):
            look(url)
        if email := os.environ.get("SMOKE_EMAIL"):
            sign_up(url, email)
    except Failure as failure:
        stop(str(failure))
    print(f"{url} answers as it should, {ROUNDS} times over{', and takes a signup' if email else ''}")


if __name__ == "__main__":
    main()
