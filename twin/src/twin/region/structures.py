"""Structures of an answer, found in records by plans made once instead of by a dozen names tried for each member.

Which of a member's possible names a record has is told by its class and the names of its attributes: records of one class that
have the same ones share a plan, and what none of them has is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from moto.core import serialize
from moto.core.utils import get_value

from twin.region.patch import replace

MISSING: Any = serialize.MISSING  # type: ignore[attr-defined]  # moto's own, which get_value returns
# Records with attributes as clients choose them, such as tags, must not fill the memory.
_MOST_LAYOUTS = 64
_WHOLE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Member:
    """How one member of a structure is found in records of one class and written by one serializer.

    `names` are tried in turn by `look` (None: as attributes). `own`: the record has an attribute or item `names[0]` of its own.
    `transforms` are paths whose values moto transforms. `leaf` is the name under which a plain value goes straight into the
    answer, after `convert`.
    """

    key: str
    shape: Any
    names: tuple[str, ...]
    look: Callable[[Any, str, Any], Any] | None
    write: Callable[[Any, Any, Any, Any, str], None]
    leaf: str | None
    convert: Callable[[Any], Any]
    transforms: tuple[str, ...]
    own: str | None = None


@dataclass(slots=True)
class Plan:
    """The members of a structure for records of one class, and of those by the names of their attributes."""

    members: list[Member]
    static: bool
    layouts: dict[tuple[Any, ...], list[Member]] = field(default_factory=dict)

    def of(self, kind: type, own: dict[Any, Any] | None) -> list[Member]:
        if own is None or not self.static:
            return self.members
        layout = tuple(own)
        found = self.layouts.get(layout)
        if found is None:
            if len(self.layouts) >= _MOST_LAYOUTS:
                return self.members
            found = self.layouts[layout] = _present(self.members, kind, own)
        return found


def install() -> None:
    original = serialize.ResponseSerializer._serialize_type_structure
    plain = serialize.ResponseSerializer._serialize_structure_member
    # Plans and methods are of the classes as they are now: with the attributes that extensions gave them.
    sorts: dict[tuple[Any, ...], object] = {}
    method: Any = cache(_method)

    @replace(serialize.ResponseSerializer, "_serialize_type_structure")
    def structure(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        picker = self._value_picker
        if (
            value is None
            or type(picker) is not serialize.XFormedAttributePicker
            or type(self)._serialize_structure_member is not plain
        ):
            original(self, serialized, value, shape, key)
            return
        kind = type(value)
        plans = vars(shape).setdefault("twin_plans", {})
        sort = vars(self).get("twin_sort")
        if sort is None:
            sort = self.twin_sort = sorts.setdefault((type(self), *picker.response_transformers), object())
        cache_key = (kind, sort)
        plan = plans.get(cache_key)
        if plan is None:
            plan = plans[cache_key] = _plan(self, value, shape)
        own = value if kind is dict else getattr(value, "__dict__", None)
        wrapper = {} if key else serialized
        path = self.path
        for member in plan.of(kind, own):
            if member.own is not None:
                found = own[member.own]  # type: ignore[index]
            else:
                found, look = None, member.look or getattr
                for name in member.names:
                    found = look(value, name, MISSING)
                    if found is not MISSING:
                        break
                else:
                    found = None
            if member.transforms:
                found = _transformed(self, member, found)
            if found is None:
                continue
            if member.leaf is not None:
                wrapper[member.leaf] = member.convert(found)
                continue
            path.append(member.key)
            member.write(self, wrapper, found, member.shape, member.key)
            path.pop()
        if key:
            self._default_serialize(serialized, wrapper, shape, key)

    @replace(serialize.ResponseSerializer, "_serialize")
    def walk(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        self.path.append(key or shape.name)
        method(type(self), shape.type_name)(self, serialized, value, shape, key)
        self.path.pop()

    @replace(serialize.BaseXMLSerializer, "_serialize_type_list")
    def listed(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        member = shape.member
        name = member.name
        write = method(type(self), member.type_name)
        item_key = self.get_serialized_name(member, name)
        found = []
        self.path.append(name)
        for item in value:
            wrapper: dict[str, Any] = {}
            write(self, wrapper, item, member, name)
            if wrapper and (item := wrapper[item_key]) != {}:
                found.append(item)
        self.path.pop()
        if found:
            if shape.is_flattened:
                self._default_serialize(serialized, found, member, self.get_serialized_name(shape, key))
            else:
                self._default_serialize(serialized, {self.get_serialized_name(member, "member"): found}, shape, key)
        elif not shape.is_flattened:
            self._default_serialize(serialized, "", shape, key)


def _transformed(serializer: Any, member: Member, value: Any) -> Any:
    whole = ".".join((*serializer.path, member.key))
    for path in member.transforms:
        if whole.endswith(path):
            return serializer._value_picker.response_transformers[path](value)
    return value


def _method(serializer: Any, kind: str) -> Any:
    return getattr(serializer, f"_serialize_type_{kind}", serializer._default_serialize)


def _present(members: list[Member], kind: type, own: dict[Any, Any]) -> list[Member]:
    """The members that a record with these attributes of its own may have, and how to find each."""
    found = []
    for member in members:
        names: list[str] = []
        for name in member.names:
            of_class = kind is not dict and any(name in vars(base) for base in kind.__mro__)
            if of_class or name in own:
                names.append(name)
            if name in own and not of_class:
                break  # nothing can come before it is found
        if names or member.transforms:
            straight = names[0] if names and (kind is dict or not _of_class(kind, names[0])) else None
            found.append(changed(member, names=tuple(names), own=straight))
    return found


def _of_class(kind: type, name: str) -> bool:
    return any(name in vars(base) for base in kind.__mro__)


def _plan(serializer: Any, value: Any, shape: Any) -> Plan:
    kind: Any = type(serializer)
    record = type(value)
    dotted = False
    members = []
    for key, member in shape.members.items():
        member.parent = shape
        context = serialize.AttributePickerContext(obj=value, key=key, shape=member)
        names = tuple(dict.fromkeys(serializer._value_picker.get_possible_keys(context)))
        transforms = tuple(
            path
            for path in serializer._value_picker.response_transformers
            if (key == path.rpartition(".")[2] if "." in path else key.endswith(path))
        )
        look: Any = get_value
        if any("." in name for name in names):
            dotted = True
        elif record is dict:
            look = dict.get
        elif not hasattr(value, "__getitem__"):
            look = None
        write = _method(kind, member.type_name)
        convert = _conversion(serializer, write, member)
        straight = (
            convert is not None
            and kind._default_serialize is serialize.BaseXMLSerializer._default_serialize
            and not {"xmlNamespace", "xmlAttribute"} & member.serialization.keys()
        )
        leaf = serializer.get_serialized_name(member, key) if straight else None
        members.append(Member(key, member, names, look, write, leaf, convert or str, transforms))
    simple = record is dict or (
        not hasattr(value, "__getitem__")
        and not hasattr(record, "__getattr__")
        and record.__getattribute__ is object.__getattribute__  # type: ignore[comparison-overlap]  # not to mypy
    )
    return Plan(members, simple and not dotted)


# Plain values


def _conversion(serializer: Any, write: Any, shape: Any) -> Callable[[Any], Any] | None:
    if write is serialize.ResponseSerializer._serialize_type_timestamp:
        return _times(serializer._timestamp_serializer, shape)
    return _LEAVES.get(write)


def _boolean(value: Any) -> str:
    return "true" if value is True or str(value).lower() == "true" else "false"


_LEAVES: dict[Any, Callable[[Any], Any]] = {
    serialize.BaseXMLSerializer._serialize_type_string: str,
    serialize.BaseXMLSerializer._serialize_type_integer: int,
    serialize.BaseXMLSerializer._serialize_type_boolean: _boolean,
}


def _times(timestamps: Any, shape: Any) -> Callable[[Any], Any]:
    """Writes moments as moto does; those seen before from memory. Only what means one moment for good is remembered."""
    form = shape.serialization.get("timestampFormat", timestamps.default_format)

    @lru_cache(maxsize=1024)
    def remembered(value: Any, _zone: Any) -> Any:
        return timestamps._convert_timestamp_to_str(value, form)

    def written(value: Any) -> Any:
        if type(value) is datetime:
            return remembered(value, value.tzinfo)  # equal moments of two zones are written differently
        if type(value) is str and _WHOLE_TIME.fullmatch(value):
            return remembered(value, None)
        return timestamps._convert_timestamp_to_str(value, form)

    return written
