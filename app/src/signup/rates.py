"""Rate limits: how often a client, or an address, may do what costs the service or its users something."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import asdict
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from time import time
from typing import Any

from flask import Flask, Response, g, request
from flask_limiter import Limiter, RateLimitExceeded

from signup import counters
from signup.problems import problem
from signup.settings import Rates
from signup.users.fields import normalize_email

LIMITED: dict[str, tuple[str, ...]] = {
    "/": ("signup", "mail"),
    "/v1/user": ("signup", "mail"),
    "/v1/user/verify/resend": ("resend", "mail", "login", "login_address"),
    "/check-your-mail": ("resend", "mail"),
    "/v1/user/verify": ("verify",),
    "/verify": ("verify",),
    "/v1/user/self": ("login", "login_address"),
    "/v1/user/self/pic": ("login", "login_address"),
}
"""The limits of each path. `mail` counts what may send one, `login` and `login_address` refused passwords alone."""
PAGES = ("/", "/check-your-mail", "/verify")
"""Where only POST is limited: a page costs nothing."""

# Keys are hashed with it, so that neither addresses nor clients are kept.
_KEY = secrets.token_bytes(32)

log = logging.getLogger(__name__)


def init_app(app: Flask, rates: Rates) -> None:
    """Answer 429 beyond the limits that are set; call it after the routes are there, and after `overload`.

    Each process counts for itself (docs/decisions/0012-rate-limits-count-in-each-process.md).
    """
    if missing := LIMITED.keys() - {rule.rule for rule in app.url_map.iter_rules()}:
        raise ValueError(f"limits are for routes that are not there: {', '.join(sorted(missing))}")
    wanted = {name: limit for name, limit in asdict(rates).items() if limit}
    if not wanted:
        return
    limiter = Limiter(_client, app=app, storage_uri=f"{counters.SCHEME}://")
    for rule in app.url_map.iter_rules():
        methods = ["POST"] if rule.rule in PAGES else None
        for name in LIMITED.get(rule.rule, ()):
            if name in wanted:
                limit = limiter.shared_limit(wanted[name], scope=name, methods=methods, **_options(name))
                view: Any = app.view_functions[rule.endpoint]
                app.view_functions[rule.endpoint] = limit(view)

    @app.errorhandler(RateLimitExceeded)
    def exceeded(_error: RateLimitExceeded) -> Response:
        breached = next(limit for limit in limiter.current_limits if limit.breached)
        log.warning("rate limit exceeded", extra={"fields": {"limit": breached.request_args[-1]}})
        wait = max(1, ceil(breached.window.reset_time - time()))
        return problem(429, f"Too many requests of this kind. Try again in {wait} s.", retry_after=wait)


def _options(name: str) -> dict[str, Any]:
    if name == "login":
        return {"deduct_when": _refused}
    if name == "login_address":
        return {"deduct_when": _refused, "key_func": _login_address, "exempt_when": lambda: not _login_address()}
    if name == "mail":
        return {"key_func": _mail_address, "exempt_when": lambda: not _mail_address()}
    return {}


def _refused(response: Response) -> bool:
    """Whether a password was tried and refused."""
    return response.status_code == 401 and request.authorization is not None


def _client() -> str:
    """Who sends, by the address that the load balancer adds to the end of X-Forwarded-For; what is before it anyone may write."""
    for text in (request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip(), request.remote_addr or ""):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        # Whoever has one IPv6 address has a whole network of them.
        return _hashed(str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address))
    return _hashed("unknown")


def _login_address() -> str:
    """Whose password is tried; empty where it is nobody's."""
    return _address("login", lambda: request.authorization.username if request.authorization else None)


def _mail_address() -> str:
    """Whom a mail may be sent to; empty where the request names no address."""
    return _address("mail", _given_address)


def _given_address() -> Any:
    data = request.get_data()  # kept for the route; parsing the form first would leave it nothing
    if request.mimetype != "application/json":
        return request.form.get("email")
    try:
        body = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    return body.get("email") if isinstance(body, dict) else None


def _address(kind: str, find: Callable[[], Any]) -> str:
    known: dict[str, str] = g.setdefault("rates_addresses", {})
    if kind not in known:
        given = find()
        try:
            known[kind] = _hashed(normalize_email(given)) if isinstance(given, str) else ""
        except ValueError:
            known[kind] = ""
    return known[kind]


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest()
