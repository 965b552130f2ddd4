"""The OpenAPI document laid out for reading: sections of operations, with references followed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


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


def sections(document: dict[str, Any]) -> list[Section]:
    """The document by tags, in its own order."""
    made = {tag["name"]: Section(tag["name"], tag["description"], []) for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            made[operation["tags"][0]].entries.append(_entry(document, path, method, operation))
    return list(made.values())


def shapes(document: dict[str, Any]) -> dict[str, list[Field]]:
    """The fields of every schema, by its name."""
    return {name: _fields(document, schema, "") for name, schema in document["components"]["schemas"].items()}


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


def _entry(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Entry:
    sent = []
    for parameter in operation["parameters"]:
        found = _follow(document, parameter)
        sent.append(Field(found["name"], found["in"], found["required"], rules(found["schema"]), found["description"]))
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
        _example(document, path, method, operation),
        sent,
        statuses,
    )


def _example(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return ""
    example = json.dumps(_follow(document, body["schema"])["examples"][0], indent=1)
    return f"curl -X {method.upper()} https://HOST{path} -H 'Content-Type: application/json' -d '{example}'"


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
