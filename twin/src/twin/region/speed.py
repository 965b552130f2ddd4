"""moto's answers, made without its detours: the same bytes for a small part of the time.

Each replacement keeps what moto does, and only that; test_speed.py compares the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import xmltodict
from moto.core import responses, serialize
from moto.core.utils import get_value
from moto.ec2.models import instances, tags
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.iam import models as iam_models
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from twin.region.patch import replace, wrap
from twin.region.region import Region

MISSING: Any = serialize.MISSING  # type: ignore[attr-defined]  # moto's own, which get_value returns
_PATTERN = frozenset("*?.^$+{}[]()|\\")


def install(region: Region) -> None:
    _install_dispatch()
    _install_account(region)
    _install_actions()
    _install_structures()
    module: Any = SimpleNamespace(unparse=unparse)
    replace(serialize, "xmltodict")(module)
    _install_tags()
    _install_instances()


def _install_dispatch() -> None:
    """moto lists its own folders and tries some 200 patterns for every request, to find the service of a host name."""

    @wrap(DomainDispatcherApplication, "get_backend_for_host")
    def get_backend_for_host(original: Any, self: Any, host: str | None) -> Any:
        known = vars(self).setdefault("known_hosts", {})
        if host not in known:
            found = original(self, host)
            if not found or len(known) > 1000:  # hosts are what clients say they are
                return found
            known[host] = found
        return known[host]


def _install_account(region: Region) -> None:
    """moto looks for a key's account in every partition, and makes a thousand policies for each that nobody has used yet.

    Their ids come from the seed of the request that is being carried out: one that is repeated would get other ids.
    """

    @replace(iam_models, "get_account_id_from")
    def get_account_id_from(_access_key: str) -> str:
        return region.settings.account_id


@dataclass(frozen=True, slots=True)
class Member:
    """How one member of a structure is found in records of one class and written by one serializer.

    `names` are tried in turn by `look` (None: as attributes); no names: moto finds the value itself. `leaf` is the name under
    which a plain value goes straight into the answer, after `convert`.
    """

    key: str
    shape: Any
    names: tuple[str, ...]
    look: Callable[[Any, str, Any], Any] | None
    write: Callable[[Any, Any, Any, Any, str], None]
    leaf: str | None
    convert: Callable[[Any], Any] = str


def _install_actions() -> None:
    """moto looks through all of a service's methods for every request."""
    original = responses.method_names_from_class  # type: ignore[attr-defined]  # moto's own, imported there
    replace(responses, "method_names_from_class")(cache(original))


def _install_structures() -> None:
    """moto makes up the dozen names that a member may have in a record anew for each member of each record."""
    original = serialize.ResponseSerializer._serialize_type_structure
    plain = serialize.ResponseSerializer._serialize_structure_member

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
        plans = vars(shape).setdefault("twin_plans", {})
        cache_key = (type(value), type(self), tuple(picker.response_transformers))
        plan = plans.get(cache_key)
        if plan is None:
            plan = plans[cache_key] = _plan(self, value, shape)
        wrapper = {} if key else serialized
        path = self.path
        for member in plan:
            if not member.names:
                found = self.get_value(value, member.key, member.shape)
            elif member.look is None:
                for name in member.names:
                    found = getattr(value, name, MISSING)
                    if found is not MISSING:
                        break
            else:
                for name in member.names:
                    found = member.look(value, name, MISSING)
                    if found is not MISSING:
                        break
            if found is MISSING or found is None:
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
        kind: Any = type(self)
        _method(kind, shape.type_name)(self, serialized, value, shape, key)
        self.path.pop()


@cache
def _method(serializer: Any, kind: str) -> Any:
    return getattr(serializer, f"_serialize_type_{kind}", serializer._default_serialize)


def _boolean(value: Any) -> str:
    return "true" if value is True or str(value).lower() == "true" else "false"


_LEAVES: dict[Any, Callable[[Any], Any]] = {
    serialize.BaseXMLSerializer._serialize_type_string: str,
    serialize.BaseXMLSerializer._serialize_type_integer: int,
    serialize.BaseXMLSerializer._serialize_type_boolean: _boolean,
}


def _plan(serializer: Any, value: Any, shape: Any) -> list[Member]:
    transformers = serializer._value_picker.response_transformers
    kind: Any = type(serializer)
    plan = []
    for key, member in shape.members.items():
        member.parent = shape
        context = serialize.AttributePickerContext(obj=value, key=key, shape=member)
        names = tuple(dict.fromkeys(serializer._value_picker.get_possible_keys(context)))
        if any(key == path.rpartition(".")[2] if "." in path else key.endswith(path) for path in transformers):
            names = ()  # its path may be one whose value moto transforms
        look: Any = get_value
        if not any("." in name for name in names):
            if type(value) is dict:
                look = dict.get
            elif not hasattr(value, "__getitem__"):
                look = None
        write = _method(kind, member.type_name)
        convert = _LEAVES.get(write)
        straight = (
            convert is not None
            and kind._default_serialize is serialize.BaseXMLSerializer._default_serialize
            and not {"xmlNamespace", "xmlAttribute"} & member.serialization.keys()
        )
        leaf = serializer.get_serialized_name(member, key) if straight else None
        plan.append(Member(key, member, names, look, write, leaf, convert or str))
    return plan


# XML


def unparse(document: Mapping[str, Any], full_document: bool, short_empty_elements: bool, pretty: bool | None) -> str:
    """xmltodict's `unparse`, for the few of its options that moto uses."""
    if pretty or len(document) != 1:
        return str(
            xmltodict.unparse(
                document, full_document=full_document, short_empty_elements=short_empty_elements, pretty=bool(pretty)
            )
        )
    out = ['<?xml version="1.0" encoding="utf-8"?>\n'] if full_document else []
    for name, value in document.items():
        _emit(out, name, value, short_empty_elements)
    return "".join(out)


def _emit(out: list[str], name: str, value: Any, short: bool) -> None:
    _check_name(name)
    if type(value) is str:
        out.append(f"<{name}>{escape(value)}</{name}>" if value or not short else f"<{name}/>")
    elif isinstance(value, list):
        for each in value:
            _element(out, name, each, short)
    elif isinstance(value, str | dict | bytes | bytearray | memoryview) or not hasattr(value, "__iter__"):
        _element(out, name, value, short)
    else:
        for each in value:
            _element(out, name, each, short)


def _element(out: list[str], name: str, value: Any, short: bool) -> None:
    if isinstance(value, dict):
        attributes, text, children = "", "", []
        for key, inner in value.items():
            if key == "#text":
                text = "" if inner is None else _text(inner)
            elif key.startswith("@"):
                _check_name(key[1:])
                attributes += f" {key[1:]}={quoteattr('' if inner is None else _text(inner))}"
            elif not (isinstance(inner, list) and not inner):
                children.append((key, inner))
        if short and not text and not children:
            out.append(f"<{name}{attributes}/>")
            return
        start = len(out)
        out.append(f"<{name}{attributes}>")
        for key, inner in children:
            _emit(out, key, inner, short)
        if text:
            out.append(escape(text))
        if short and len(out) == start + 1:  # its children are lists without an element
            out[start] = f"<{name}{attributes}/>"
            return
        out.append(f"</{name}>")
        return
    text = "" if value is None else _text(value)
    out.append(f"<{name}>{escape(text)}</{name}>" if text or not short else f"<{name}/>")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(xmltodict._convert_value_to_string(value))


@cache
def _check_name(name: str) -> None:
    xmltodict._validate_name(name, "element")


def _install_tags() -> None:
    """For the tags of one resource, moto matches a pattern with the id of every tag there is."""

    @wrap(tags.TagBackend, "describe_tags")
    def describe_tags(original: Any, self: Any, filters: dict[str, list[str]] | None = None) -> Any:
        wanted = (filters or {}).get("resource-id") or []
        if not filters or len(filters) != 1 or len(wanted) != 1 or _PATTERN & set(wanted[0]):
            return original(self, filters)
        name = wanted[0]
        kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(name), "")
        return [
            {"resource_id": name, "key": key, "value": value, "resource_type": kind}
            for key, value in self.tags.get(name, {}).items()
        ]


def _install_instances() -> None:
    """moto copies every reservation there is in order to find one instance, and the loops ask for each instance every second."""

    def every(self: Any) -> list[Any]:
        return [instance for reservation in self.reservations.values() for instance in reservation.instances]

    @replace(instances.InstanceBackend, "get_instance_by_id")
    def get_instance_by_id(self: Any, instance_id: str) -> Any | None:
        for reservation in self.reservations.values():
            for instance in reservation.instances:
                if instance.id == instance_id:
                    return instance
        return None

    @wrap(instances.InstanceBackend, "all_instances")
    def all_instances(original: Any, self: Any, filters: Any = None) -> Any:
        return original(self, filters) if filters else every(self)
