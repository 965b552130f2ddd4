"""The contract that is published: /openapi.json and /docs."""

from __future__ import annotations

import html
import re
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from signup.reference import routes
from signup.reference.document import build
from signup.reference.reading import prose
from signup.settings import Settings
from signup.users.fields import MAX_PASSWORD


def document(client: FlaskClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    return dict(response.get_json())


def test_it_is_openapi_3_1(client: FlaskClient) -> None:
    made = document(client)
    assert made["openapi"] == "3.1.0"
    validate(made)


def test_every_route_and_method_is_in_it_and_no_other(app: Flask, client: FlaskClient) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    told = {(path, method) for path, methods in document(client)["paths"].items() for method in methods}
    assert told == routes
    assert ("/v1/user", "post") in told


def test_every_operation_has_its_own_id_and_documents_overload(client: FlaskClient) -> None:
    operations = [each for methods in document(client)["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for each in operations:
        assert each["operationId"] == "live" or "Retry-After" in each["responses"]["503"]["headers"]


def test_limits_follow_the_settings(settings: Settings) -> None:
    password = build(21)["components"]["schemas"]["SignUp"]["properties"]["password"]
    assert (password["minLength"], password["maxLength"]) == (21, MAX_PASSWORD)


def test_the_page_shows_every_operation_without_scripts(client: FlaskClient) -> None:
    response = client.get("/docs")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    page = response.get_data(as_text=True)
    # Each operation's part, from its heading to the next one, whatever that is of.
    shown = dict(re.findall(r'<h3 id="(\w+)">(.*?)(?=<h[23])', page, re.DOTALL))
    for path, methods in document(client)["paths"].items():
        for method, operation in methods.items():
            part = html.unescape(shown[operation["operationId"]])
            assert part.startswith(f"<code>{method.upper()} {path}</code> {operation['summary']}</h3>")
            answered = part.partition("<h4>Answered</h4>")[2]
            assert re.findall("<dt><code>(.*?)</code>", answered) == list(operation["responses"]), path
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!/|#|data:,)", page)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    # All targets of links within the page are there.
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


def test_the_page_shows_every_schema(client: FlaskClient) -> None:
    page = client.get("/docs").get_data(as_text=True)
    names = list(document(client)["components"]["schemas"])
    assert {"SignUp", "User", "Problem"} <= set(names)
    assert [name for name in names if f'<h3 id="schema-{name}">' not in page] == []


def test_examples_work_as_they_stand(client: FlaskClient, settings: Settings) -> None:
    page = html.unescape(client.get("/docs").get_data(as_text=True))
    assert f"curl -u ADDRESS '{settings.public_url}/v1/user/self'" in page
    body = re.search(r"curl -X POST '[^']+/v1/user' -H 'Content-Type: application/json' -d '([^']+)'", page)
    assert body is not None
    assert client.post("/v1/user", data=body[1], content_type="application/json").status_code == 201


def test_they_are_made_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(wraps=build)
    monkeypatch.setattr(routes, "build", made)
    routes._document.cache_clear()
    routes._page.cache_clear()
    assert len({client.get(path).data for path in ("/openapi.json", "/docs") for _ in range(3)}) == 2
    assert made.call_count == 2


def test_descriptions_are_text_and_code(client: FlaskClient) -> None:
    assert prose("an `Allow` & <b>") == "an <code>Allow</code> &amp; &lt;b&gt;"
    assert "`" not in client.get("/docs").get_data(as_text=True)
