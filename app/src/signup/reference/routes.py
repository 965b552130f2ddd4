"""HTTP for the contract: for programs and for people. Made when it is first asked for, and the same ever after."""

from __future__ import annotations

from functools import cache

from flask import Blueprint, Response, current_app, make_response, render_template

from signup.reference.document import build
from signup.reference.reading import prose, sections, shapes
from signup.services import services

blueprint = Blueprint("reference", __name__, template_folder="templates")


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The contract as OpenAPI 3.1."""
    return Response(_document(services().settings.password_min_length), mimetype="application/json")


@blueprint.get("/docs")
def docs() -> Response:
    """The contract as a page, rendered from that document."""
    settings = services().settings
    return make_response(_page(settings.password_min_length, settings.public_url))


@cache
def _document(password_min_length: int) -> str:
    return current_app.json.dumps(build(password_min_length))


@cache
def _page(password_min_length: int, public_url: str) -> str:
    document = build(password_min_length)
    parts = {"sections": sections(document, public_url), "shapes": shapes(document), "prose": prose}
    return render_template("reference.html", document=document, **parts)
