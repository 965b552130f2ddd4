"""The query and EC2 protocols' flat parameters as the structures they stand for.

moto has parsers of its own; they try every member that a shape could have, which costs milliseconds for EC2's larger
operations. This one walks only what was sent.
"""

from __future__ import annotations

from typing import Any

from twin.access.failures import Failure, Kind

# The key of a node's own value; no parameter has an empty name.
VALUE = ""


def parse(shape: Any, pairs: dict[str, str], ec2: bool) -> dict[str, Any]:
    """`pairs` by a structure shape; members not in the model are left out. Raises Failure for a value of the wrong type."""
    root: dict[str, Any] = {}
    for name, value in pairs.items():
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[VALUE] = value
    return _structure(shape, root, ec2)


def _structure(shape: Any, node: dict[str, Any], ec2: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        child = node.get(_wire_name(name, member, ec2))
        if child is not None:
            found[name] = _value(member, child, ec2)
    return found


def _wire_name(name: str, shape: Any, ec2: bool) -> str:
    names = shape.serialization
    if ec2:
        if "queryName" in names:
            return str(names["queryName"])
        wire = str(names.get("name", name))
        return wire[:1].upper() + wire[1:]
    if shape.type_name == "list" and names.get("flattened") and "name" in shape.member.serialization:
        return str(shape.member.serialization["name"])
    return str(names.get("locationNameForQueryCompatibility") or names.get("name", name))


def _value(shape: Any, node: dict[str, Any], ec2: bool) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, node, ec2)
    if kind == "list":
        if not ec2 and not shape.serialization.get("flattened"):
            node = node.get(shape.member.serialization.get("name", "member"), {})
        return [_value(shape.member, item, ec2) for item in _items(node)]
    if kind == "map":
        if not shape.serialization.get("flattened"):
            node = node.get("entry", {})
        key, value = (part.serialization.get("name", name) for part, name in ((shape.key, "key"), (shape.value, "value")))
        return {
            str(item[key].get(VALUE, "")): _value(shape.value, item.get(value, {}), ec2) for item in _items(node) if key in item
        }
    text = node.get(VALUE, "")
    if kind == "boolean":
        return text.lower() == "true"
    if kind in ("integer", "long"):
        try:
            return int(text)
        except ValueError:
            code = "InvalidParameterValue" if ec2 else "MalformedInput"
            raise Failure(Kind.OWN, f"Invalid value '{text}': an integer is expected.", code) from None
    return text


def _items(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node[index] for index in sorted((key for key in node if key.isdigit()), key=int)]
