"""moto's answers, made without its detours: the same bytes for a small part of the time.

Each replacement keeps what moto does, and only that; test_speed.py compares the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import xmltodict
from moto.core import responses, serialize
from moto.ec2 import utils
from moto.ec2.models import instances, tags
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.iam import models as iam_models
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from twin.region import structures
from twin.region.patch import replace, wrap
from twin.region.region import Region

_PATTERN = frozenset("*?.^$+{}[]()|\\")


def install(region: Region) -> None:
    _install_dispatch()
    _install_account(region)
    _install_actions()
    structures.install()
    module: Any = SimpleNamespace(unparse=unparse)
    replace(serialize, "xmltodict")(module)
    _install_tags()
    _install_instances()
    _install_filters()
    _install_request_ids()


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


def _install_actions() -> None:
    """moto looks through all of a service's methods for every request."""
    original = responses.method_names_from_class  # type: ignore[attr-defined]  # moto's own, imported there
    replace(responses, "method_names_from_class")(cache(original))


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
    if isinstance(value, list):
        for each in value:
            _element(out, name, each, short)
    elif isinstance(value, str | dict | bytes | bytearray | memoryview) or not hasattr(value, "__iter__"):
        _element(out, name, value, short)
    else:
        for each in value:
            _element(out, name, each, short)


def _element(out: list[str], name: str, value: Any, short: bool) -> None:
    if not isinstance(value, dict):
        text = "" if value is None else _text(value)
        out.append(f"<{name}>{escape(text)}</{name}>" if text or not short else f"<{name}/>")
        return
    attributes, text, start = "", "", len(out)
    out.append("")  # the opening tag, once its attributes are known
    for key, inner in value.items():
        if key not in _CHECKED:
            if key == "#text":
                text = "" if inner is None else _text(inner)
                continue
            if key.startswith("@"):
                _check_name(key[1:])
                attributes += f" {key[1:]}={quoteattr('' if inner is None else _text(inner))}"
                continue
            if isinstance(inner, list) and not inner:
                continue
            _check_name(key)
            _CHECKED.add(key)
        kind = type(inner)
        if kind is str:
            if "&" in inner or "<" in inner or ">" in inner:
                inner = escape(inner)
            out.append(f"<{key}>{inner}</{key}>" if inner or not short else f"<{key}/>")
        elif kind is int:
            out.append(f"<{key}>{inner}</{key}>")
        elif kind is dict:
            _element(out, key, inner, short)
        elif kind is list:
            for each in inner:
                _element(out, key, each, short)
        else:
            _emit(out, key, inner, short)
    if short and not text and len(out) == start + 1:  # nothing, or lists without an element
        out[start] = f"<{name}{attributes}/>"
        return
    out[start] = f"<{name}{attributes}>"
    out.append(f"{escape(text)}</{name}>")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(xmltodict._convert_value_to_string(value))


# Names of elements, known to be sound: those of AWS's shapes.
_CHECKED: set[str] = set()


@cache
def _check_name(name: str) -> None:
    xmltodict._validate_name(name, "element")


def _install_tags() -> None:
    """For the tags of one resource, moto matches a pattern with the id of every tag there is."""

    @wrap(tags.TagBackend, "describe_tags")
    def describe_tags(original: Any, self: Any, filters: dict[str, list[str]] | None = None) -> Any:
        wanted = (filters or {}).get("resource-id") or []
        if not filters or len(filters) != 1 or len(wanted) != 1 or not _PATTERN.isdisjoint(wanted[0]):
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


def _install_filters() -> None:
    """moto translates a filter's values anew for each record."""
    replace(utils, "simple_aws_filter_to_re")(lru_cache(maxsize=1024)(utils.simple_aws_filter_to_re))


def _install_request_ids() -> None:
    """moto looks through a whole answer for an id of the request to replace, where most have none."""

    original = responses.BaseResponse._enrich_response

    def enrich(headers: dict[str, str], body: Any) -> Any:
        if isinstance(body, str) and "<RequestId>" in body:
            return original(headers, body)
        return original(headers, None)[0], body

    replace(responses.BaseResponse, "_enrich_response")(staticmethod(enrich))
