"""HTTP for the contract: for programs and for people."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response, render_template

from signup.reference.document import build
from signup.reference.reading import prose, sections, shapes
from signup.services import services

blueprint = Blueprint("reference", __name__, template_folder="templates")


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The contract as OpenAPI 3.1."""
    return jsonify(build(services().settings.password_min_length))


@blueprint.get("/docs")
def docs() -> Response:
    """The contract as a page, rendered from that document."""
    settings = services().settings
    document = build(settings.password_min_length)
    parts = {"sections": sections(document, settings.public_url), "shapes": shapes(document), "prose": prose}
    return make_response(render_template("reference.html", document=document, **parts))
