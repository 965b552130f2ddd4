"""The rule of a composite alarm: ALARM("a") AND NOT (OK(b) OR TRUE).

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html
"""

from __future__ import annotations

import re
from collections.abc import Callable

STATES = ("ALARM", "OK", "INSUFFICIENT_DATA")
_TOKEN = re.compile(
    r"\s*(?:(?P<test>ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:\"(?P<quoted>[^\"]+)\"|'(?P<single>[^']+)'|(?P<bare>[^\s()\"']+))\s*\)"
    r"|(?P<word>AND|OR|NOT|TRUE|FALSE)\b|(?P<bracket>[()]))"
)


class InvalidRule(ValueError):
    """The rule can't be read; the message says where."""


def alarm_name(reference: str) -> str:
    """The name in a reference by name or by ARN."""
    return reference.split(":alarm:", 1)[1] if reference.startswith("arn:") and ":alarm:" in reference else reference


def children(rule: str) -> list[str]:
    """Names of the alarms that the rule looks at, in its order."""
    return list(dict.fromkeys(name for kind, name in _tokens(rule) if kind in STATES))


def holds(rule: str, state_of: Callable[[str], str | None]) -> bool:
    """Whether the rule is true; `state_of` gives an alarm's state by name, or None when there is no such alarm."""
    tokens = _tokens(rule)
    position = 0

    def take(*wanted: str) -> bool:
        nonlocal position
        if position < len(tokens) and tokens[position][0] in wanted:
            position += 1
            return True
        return False

    def disjunction() -> bool:
        result = conjunction()
        while take("OR"):
            result = conjunction() or result
        return result

    def conjunction() -> bool:
        result = negation()
        while take("AND"):
            result = negation() and result
        return result

    def negation() -> bool:
        nonlocal position
        if take("NOT"):
            return not negation()
        if take("("):
            result = disjunction()
            if not take(")"):
                raise InvalidRule("a closing parenthesis is missing")
            return result
        if position >= len(tokens):
            raise InvalidRule("the rule ends too early")
        kind, name = tokens[position]
        position += 1
        if kind in STATES:
            return state_of(name) == kind
        if kind in ("TRUE", "FALSE"):
            return kind == "TRUE"
        raise InvalidRule(f"unexpected {kind}")

    result = disjunction()
    if position < len(tokens):
        raise InvalidRule(f"unexpected {tokens[position][0]}")
    return result


def _tokens(rule: str) -> list[tuple[str, str]]:
    """Pairs of kind and alarm name; the name is empty for words and brackets."""
    found: list[tuple[str, str]] = []
    text, position = rule.strip(), 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidRule(f"unexpected {text[position : position + 20]!r}")
        if match["test"]:
            found.append((match["test"], alarm_name(match["quoted"] or match["single"] or match["bare"])))
        else:
            found.append((match["word"] or match["bracket"], ""))
        position = match.end()
    return found
