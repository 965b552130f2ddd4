"""What may be published: messages that fit message.schema.json, the same file that their reader validates with.

The few keywords that the schema uses are read here: a validator of all there are would bring four more packages into the
image. One that is not known here fails the import, and a test compares this with a full validator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "message.schema.json").read_text(encoding="utf-8"))
MAX_BYTES: int = SCHEMA["x-maxBytes"]
NOTES = {"$schema", "$defs", "title", "description", "x-maxBytes"}
KEYWORDS = {"type", "required", "properties", "const", "maxLength", "pattern", "$ref"}
TYPES: dict[str, type] = {"object": dict, "string": str}


class MessageUnfit(Exception):
    """The message does not fit the schema; the text names the members, never their values."""


def check(message: Mapping[str, Any]) -> str:
    """The message's text, to be published as it is. Raises MessageUnfit."""
    if problems := sorted(_problems(SCHEMA, dict(message), "$")):
        raise MessageUnfit(", ".join(problems[:10]))
    text = json.dumps(message)
    if len(text) > MAX_BYTES:  # as many bytes as characters: it is ASCII
        raise MessageUnfit(f"it is longer than {MAX_BYTES} bytes")
    return text


def _problems(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _problems(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, path)
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        yield f"{path} fails 'type'"
    # To JSON 1 and 1.0 are the same, to neither is true.
    if "const" in schema and (value != schema["const"] or isinstance(value, bool) != isinstance(schema["const"], bool)):
        yield f"{path} fails 'const'"
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{path} fails 'maxLength'"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path} fails 'pattern'"
    if isinstance(value, dict):
        if any(name not in value for name in schema.get("required", ())):
            yield f"{path} fails 'required'"
        for name, member in schema.get("properties", {}).items():
            if name in value:
                yield from _problems(member, value[name], f"{path}.{name}")


def _known(schema: Mapping[str, Any]) -> None:
    unknown = set(schema) - NOTES - KEYWORDS
    if unknown or schema.get("type", "object") not in TYPES:
        raise ValueError(f"message.schema.json uses what is not checked here: {', '.join(sorted(unknown)) or schema['type']}")
    for member in (*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()):
        _known(member)


_known(SCHEMA)
