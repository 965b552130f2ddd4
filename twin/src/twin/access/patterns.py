"""Wildcards and policy variables: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LITERALS = {"*": r"\*", "?": r"\?", "$": r"\$"}
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*,\s*'([^']*)'\s*")

# Gives a condition key's values; None when the request has no such key.
Lookup = Callable[[str], "list[str] | None"]


@functools.lru_cache(maxsize=8192)
def compiled(pattern: str, ignore_case: bool = False) -> re.Pattern[str]:
    """A pattern in which * stands for any characters and ? for one."""
    text = "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def matches(pattern: str, value: str) -> bool:
    return pattern == "*" or compiled(pattern).fullmatch(value) is not None


def substituted(text: str, lookup: Lookup) -> str | None:
    """`text` with its variables' values; None when one has none, and then the element matches nothing."""
    return _substitute(text, lookup, lambda value: value, plain=True)


def expression(pattern: str, lookup: Lookup) -> re.Pattern[str] | None:
    """As `compiled`, for a pattern with variables: what they stand for is literal, even if it has wildcards."""
    text = _substitute(pattern, lookup, re.escape, plain=False)
    return None if text is None else re.compile(text, re.DOTALL)


def _substitute(text: str, lookup: Lookup, quote: Callable[[str], str], plain: bool) -> str | None:
    parts: list[str] = []
    for index, part in enumerate(_VARIABLE.split(text)):
        if index % 2 == 0:
            parts.append(part if plain else compiled(part).pattern)
        elif part in _LITERALS:
            parts.append(part if plain else _LITERALS[part])
        else:
            default = _DEFAULT.fullmatch(part)
            values = lookup(default[1] if default else part.strip())
            if values and len(values) == 1:
                parts.append(quote(values[0]))
            elif default:
                parts.append(quote(default[2]))
            else:
                return None
    return "".join(parts)


def arn_matches(pattern: str, value: str) -> bool:
    """Each of an ARN's six parts by itself, as the ARN operators compare."""
    wanted, found = pattern.split(":", 5), value.split(":", 5)
    return len(wanted) == len(found) == 6 and all(matches(one, other) for one, other in zip(wanted, found, strict=True))
