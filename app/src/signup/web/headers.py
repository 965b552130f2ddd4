"""The security headers of every answer."""

from __future__ import annotations

from flask import Flask, Response, request

# Nothing is loaded but our own style and pictures; nothing runs, nothing frames a page, no form leads elsewhere.
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
UNUSED_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
HSTS = "max-age=31536000"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED_FEATURES),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def scheme() -> str:
    """The scheme that the client used, as the load balancer says, which overwrites what clients send."""
    return request.headers.get("X-Forwarded-Proto", request.scheme)


def init_app(app: Flask) -> None:
    """Give every answer the headers that its route did not set itself."""

    @app.after_request
    def secure(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if scheme() == "https":
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        return response
