"""Static files: names with a hash, kept for good."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import signup.web.static_files as static_files


def names_in(client: FlaskClient) -> set[str]:
    return set(re.findall('"(/static/[^"]+)"', client.get("/").text))


def test_names_hold_the_contents_hash_and_are_kept_for_good(client: FlaskClient) -> None:
    names = names_in(client)
    assert {Path(name).suffix for name in names} == {".css", ".svg"}
    for name in names:
        file = client.get(name)
        assert file.status_code == 200
        assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert file.headers["X-Content-Type-Options"] == "nosniff"
        assert file.mimetype == {"css": "text/css", "svg": "image/svg+xml"}[name.rsplit(".", 1)[1]]
        assert hashlib.sha256(file.data).hexdigest()[:16] == name.split(".")[-2]


def test_another_content_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_files, "FOLDER", tmp_path)
    hashed = []
    for content in ("a { color: red }", "a { color: blue }"):
        (tmp_path / "style.css").write_text(content)
        hashed.append(static_files._load()["style.css"].hashed)
    assert hashed[0] != hashed[1]


def test_the_hash_of_another_release_gets_what_is_here_and_is_not_kept(client: FlaskClient) -> None:
    for name in names_in(client):
        other = client.get(re.sub(r"\.[0-9a-f]{16}\.", f".{'0' * 16}.", name))
        assert other.status_code == 200
        assert other.data == client.get(name).data
        assert other.headers["Cache-Control"] == "no-store"


def test_anything_else_is_404(client: FlaskClient) -> None:
    zero = "0" * 16
    for name in (
        "style.css",
        "style.0.css",
        f"other.{zero}.css",
        f"style.{zero}.svg",
        f"..%2Fstyle.{zero}.css",
        "",
        "../routes.py",
    ):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 404
        assert answer.headers["Cache-Control"] == "no-store"


def test_get_is_the_only_method(client: FlaskClient) -> None:
    for name in names_in(client):
        for method in ("HEAD", "POST", "OPTIONS"):
            answer = client.open(name, method=method)
            assert answer.status_code == 405
            assert answer.headers["Allow"] == "GET"
