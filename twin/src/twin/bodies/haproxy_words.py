"""Words of HAProxy's configuration: quoting, rule conditions, and the locations of redirects."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from twin.bodies.haproxy_config import Condition, Redirect


@functools.lru_cache(maxsize=8192)  # each second a configuration is written that has most of its words from the last one
def quote(text: str) -> str:
    """One word of configuration, whatever is in it. Raises ValueError for NUL, which HAProxy can't carry."""
    if "\0" in text:
        raise ValueError("a NUL character can't be configured")
    return re.sub(r"[^A-Za-z0-9_./:=,@+-]", lambda found: "".join(f"\\x{byte:02x}" for byte in found.group().encode()), text)


def _wildcards(pattern: str, any_character: str = ".") -> str:
    return "".join({"*": f"{any_character}*", "?": any_character}.get(character) or re.escape(character) for character in pattern)


def condition(wanted: Condition) -> str:
    """An anonymous ACL: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html"""
    patterns = [f"^{_wildcards(value)}$" for value in wanted.values]
    if wanted.field == "path-pattern":
        words = ["path", "-m", "reg", "--", *patterns]
    elif wanted.field == "host-header":
        words = ["req.hdr(host),field(1,:)", "-i", "-m", "reg", "--", *patterns]
    elif wanted.field == "http-header":
        # The name becomes part of a word that HAProxy reads itself.
        if not re.fullmatch(r"[A-Za-z0-9!#$%&*+.^_`|~-]+", wanted.key):
            raise ValueError(f"http-header condition: {wanted.key!r} is no header name")
        words = [f"req.fhdr({wanted.key})", "-i", "-m", "reg", "--", *patterns]
    elif wanted.field == "query-string":
        key = _wildcards(wanted.key, "[^&=]") if wanted.key else "[^&=]*"
        pairs = [f"(^|&)({key}=){'' if wanted.key else '?'}{_wildcards(value, '[^&]')}(&|$)" for value in wanted.values]
        words = ["query", "-i", "-m", "reg", "--", *pairs]
    elif wanted.field == "http-request-method":
        words = ["method", "-m", "str", "--", *wanted.values]
    elif wanted.field == "source-ip":
        words = ["src", *wanted.values]
    else:
        raise ValueError(f"conditions on {wanted.field!r} are not supported by the twin")
    fetch, *rest = words
    return " ".join(("{", _fetch(fetch), *(quote(word) for word in rest), "}"))


def _fetch(expression: str) -> str:
    """A sample fetch: parentheses are HAProxy's own syntax there."""
    return "".join(character if character in "()" else quote(character) for character in expression)


def locations(redirect: Redirect, protocol: str) -> Iterator[tuple[str, str]]:
    """The location as a log-format string, and the condition it is for: a query's "?" stays away where there is no query.

    `protocol` is the listener's own.
    """
    scheme = redirect.protocol.replace("#{protocol}", protocol).lower()
    default_port = "443" if scheme == "https" else "80"
    port = "" if redirect.port == default_port else f":{redirect.port}"
    base = f"{scheme}://{redirect.host}{port}{redirect.path}"
    if redirect.query == "#{query}":
        yield _format(f"{base}?{redirect.query}", protocol), " { query -m len gt 0 }"
        yield _format(base, protocol), ""
    else:
        yield _format(f"{base}?{redirect.query}" if redirect.query else base, protocol), ""


def _format(text: str, protocol: str) -> str:
    fetches = {
        "#{protocol}": protocol,
        "#{host}": "%[req.hdr(host),field(1,:)]",
        "#{port}": "%[dst_port]",
        "#{path}": "%[path,regsub(^/,)]",
        "#{query}": "%[query]",
    }
    parts = re.split(r"(#\{[a-z]+\})", text)
    return "".join(fetches.get(part) or quote(part.replace("%", "%%")) for part in parts)
