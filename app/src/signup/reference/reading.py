"""The OpenAPI document laid out for reading: sections of operations, with references followed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Field:
    """A row of a table: what is sent or answered."""

    name: str
    place: str
    required: bool
    rules: str
    description: str


@dataclass(frozen=True)
class Status:
    """An answer: its status in numbers and words, what it means, and what it holds."""

    code: str
    title: str
    description: str
    content: str


@dataclass(frozen=True)
class Entry:
    """An operation."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    authenticated: bool
    example: str
    sent: list[Field]
    statuses: list[Status]


@dataclass(frozen=True)
class Section:
    """The operations of one tag."""

    name: str
    description: str
    entries: list[Entry]


def sections(document: dict[str, Any], url: str) -> list[Section]:
    """The document by tags, in its own order; `url` is where the service is."""
    made = {tag["name"]: Section(tag["name"], tag["description"], []) for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            made[operation["tags"][0]].entries.append(_entry(document, path, method, operation, url))
    return list(made.values())


def shapes(document: dict[str, Any]) -> dict[str, list[Field]]:
    """The fields of every schema, by its name."""
    return {name: _fields(document, schema, "") for name, schema in document["components"]["schemas"].items()}


def prose(text: str) -> Markup:
    """A description in HTML, with what stands between backquotes as code."""
    pieces = [f"<code>{escape(piece)}</code>" if number % 2 else escape(piece) for number, piece in enumerate(text.split("`"))]
    return Markup("").join(Markup(piece) for piece in pieces)  # noqa: S704 - each was escaped


def rules(schema: dict[str, Any]) -> str:
    """A schema's limits in words."""
    if "$ref" in schema:
        return _last(schema["$ref"])
    if schema.get("type") == "array":
        return f"list of {rules(schema['items'])}"
    said = [schema.get("format") or schema.get("type", "")]
    if "const" in schema:
        said.append(repr(schema["const"]))
    if "enum" in schema:
        said.append(", ".join(repr(value) for value in schema["enum"]))
    for low, high, unit in (("minLength", "maxLength", " characters"), ("minimum", "maximum", "")):
        if low in schema or high in schema:
            said.append(" ".join(filter(None, (str(schema.get(low, "")), "to", str(schema.get(high, ""))))).strip() + unit)
    return ", ".join(said)


def _entry(document: dict[str, Any], path: str, method: str, operation: dict[str, Any], url: str) -> Entry:
    sent = [
        Field(found["name"], found["in"], found["required"], rules(found["schema"]), found["description"])
        for found in _parameters(document, operation)
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        sent += _fields(document, content["schema"], kind)
    statuses = [
        Status(code, HTTPStatus(int(code)).phrase, told["description"], ", ".join(_content(told)))
        for code, told in operation["responses"].items()
    ]
    return Entry(
        operation["operationId"],
        method.upper(),
        path,
        operation["summary"],
        operation["description"],
        bool(operation.get("security")),
        "" if operation["tags"] == ["Pages"] else _example(document, path, method, operation, url),
        sent,
        statuses,
    )


def _example(document: dict[str, Any], path: str, method: str, operation: dict[str, Any], url: str) -> str:
    """A line for a shell; what is in capitals is the reader's own."""
    query = [f"{found['name']}={found['name'].upper()}" for found in _parameters(document, operation) if found["in"] == "query"]
    words = ["curl"]
    if method != "get":
        words.append(f"-X {method.upper()}")
    if operation.get("security"):
        words.append("-u ADDRESS")  # curl asks for the password, and no shell remembers it
    words.append(f"'{url}{path}{'?' if query else ''}{'&'.join(query)}'")
    for kind, content in list(operation.get("requestBody", {}).get("content", {}).items())[:1]:
        words.append(f"-H 'Content-Type: {kind}'")
        if kind == "application/json":
            words.append(f"-d '{json.dumps(_follow(document, content['schema'])['examples'][0], indent=1)}'")
        else:
            words.append("--data-binary @FILE")
    return " ".join(words)


def _parameters(document: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [_follow(document, parameter) for parameter in operation["parameters"]]


def _fields(document: dict[str, Any], schema: dict[str, Any], place: str) -> list[Field]:
    found = _follow(document, schema)
    return [
        Field(name, place, name in found["required"], rules(each), each.get("description", ""))
        for name, each in found.get("properties", {}).items()
    ]


def _content(told: dict[str, Any]) -> list[str]:
    return [
        f"{kind} ({_last(content['schema']['$ref'])})" if "$ref" in content["schema"] else kind
        for kind, content in told["content"].items()
    ]


def _follow(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        found: Any = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


def _last(reference: str) -> str:
    return reference.rsplit("/", 1)[-1]
