"""Headers and style that all answers and pages share."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from flask import Flask, Response
from markupsafe import Markup

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _policy(),
    "Cross-Origin-Opener-Policy": "same-origin",
    # The address of the confirm page holds a token.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def init_app(app: Flask) -> None:
    """Give every answer the security headers and every template the style."""

    @app.after_request
    def secure(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.context_processor
    def style() -> dict[str, Markup]:
        return {"style": Markup(STYLE)}  # noqa: S704 - a file of this package
