"""Static files under names that hold a hash of their content, so that browsers may keep them for good."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Flask, Response, abort

FOLDER = Path(__file__).parent / "static"
KINDS = {".css": "text/css", ".svg": "image/svg+xml"}
HASHED = re.compile(r"([\w-]+)\.([0-9a-f]{16})(\.[a-z]+)")
FOR_GOOD = "public, max-age=31536000, immutable"

blueprint = Blueprint("static", __name__)


@dataclass(frozen=True)
class StaticFile:
    """A file's content, and the name it is served under."""

    hashed: str
    kind: str
    body: bytes


def _load() -> dict[str, StaticFile]:
    found = {}
    for path in FOLDER.iterdir():
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:16]
        found[path.name] = StaticFile(f"{path.stem}.{digest}{path.suffix}", KINDS[path.suffix], body)
    return found


FILES = _load()


def static(name: str) -> str:
    """The path of a file, for templates."""
    return f"/static/{FILES[name].hashed}"


@blueprint.get("/static/<hashed>")
def serve(hashed: str) -> Response:
    """A static file.

    During a rollout the page may come from one release and its style be asked of another: a hash that is not known here
    gets the file as it is here, not to be kept, and the page is not left bare.
    """
    parts = HASHED.fullmatch(hashed)
    file = FILES.get(f"{parts[1]}{parts[3]}") if parts else None
    if file is None:
        abort(404)
    response = Response(file.body, mimetype=file.kind)
    if file.hashed == hashed:
        response.headers["Cache-Control"] = FOR_GOOD
    return response


def init_app(app: Flask) -> None:
    """Serve the files, and let templates name them."""
    app.register_blueprint(blueprint)
    app.jinja_env.globals["static"] = static
