"""Requests that another site makes a browser send are refused (docs/decisions/0014)."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, request

from signup.problems import problem
from signup.web.headers import scheme

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OWN_SITES = frozenset({"same-origin", "none"})  # none: the person's own doing, such as loading a page again


def init_app(app: Flask, public_url: str) -> None:
    """Answer 403 to requests that change something and come from a page of another origin."""
    public = urlsplit(public_url)
    public_origin = f"{public.scheme}://{public.netloc}".lower()

    @app.before_request
    def refuse() -> Response | None:
        if request.method in SAFE_METHODS or not _is_foreign(public_origin):
            return None
        return problem(403, "This came from a page of another site. Open our own page and send it from there.")


def _is_foreign(public_origin: str) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in OWN_SITES
    # Browsers send no Sec-Fetch-Site over plain HTTP, old ones never; Origin comes with every POST.
    origin = request.headers.get("Origin")
    if origin is None:
        return False  # not a browser
    return origin.lower() not in (public_origin, f"{scheme()}://{request.host}".lower())
