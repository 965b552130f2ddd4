"""The Condition element: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twin.access.patterns import Lookup, arn_matches, expression, matches, substituted


@dataclass(frozen=True)
class Condition:
    """One operator on one key. The set operator is "", "forallvalues" or "foranyvalue"."""

    operator: str
    quantifier: str
    if_exists: bool
    key: str
    values: tuple[str, ...]
    variables: bool

    def holds(self, lookup: Lookup) -> bool:
        found = lookup(self.key)
        if self.operator == "null":
            wanted = {value.lower() for value in self.values}
            return ("true" if not found else "false") in wanted
        test, negated = OPERATORS[self.operator]
        if found is None or (not found and self.quantifier):
            # Without the key, negated operators hold, and so does ForAllValues; others do not.
            return self.if_exists or self.quantifier == "forallvalues" or (negated and self.quantifier != "foranyvalue")
        outcomes = [any(self._compare(test, value, other, lookup) for value in self.values) != negated for other in found]
        return any(outcomes) if self.quantifier == "foranyvalue" else all(outcomes)

    def _compare(self, test: Callable[[str, str], bool], wanted: str, found: str, lookup: Lookup) -> bool:
        if self.variables and "${" in wanted:
            if test is _like:
                pattern = expression(wanted, lookup)
                return pattern is not None and pattern.fullmatch(found) is not None
            replaced = substituted(wanted, lookup)
            if replaced is None:
                return False
            wanted = replaced
        try:
            return test(wanted, found)
        except ValueError:
            return False


def parse(block: dict[str, Any], variables: bool) -> tuple[Condition, ...]:
    """A Condition element's content. Raises ValueError for an operator that does not exist."""
    found = []
    for operator, keys in block.items():
        name = operator.lower()
        quantifier, _, rest = name.rpartition(":")
        if_exists = rest.endswith("ifexists")
        rest = rest.removesuffix("ifexists")
        if quantifier not in ("", "forallvalues", "foranyvalue") or (rest not in OPERATORS and rest != "null"):
            raise ValueError(f"unknown condition operator {operator}")
        for key, values in keys.items():
            listed = values if isinstance(values, list) else [values]
            texts = tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in listed)
            found.append(Condition(rest, quantifier, if_exists, key.lower(), texts, variables))
    return tuple(found)


def _equals(wanted: str, found: str) -> bool:
    return wanted == found


def _equals_ignoring_case(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower()


def _like(wanted: str, found: str) -> bool:
    return matches(wanted, found)


def _numbers(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda wanted, found: test(float(found), float(wanted))


def _dates(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda wanted, found: test(_moment(found), _moment(wanted))


def _moment(text: str) -> float:
    """Seconds since the epoch, of an ISO 8601 date or of such seconds."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_network(wanted: str, found: str) -> bool:
    return ipaddress.ip_address(found) in ipaddress.ip_network(wanted, strict=False)


def _less(one: float, other: float) -> bool:
    return one < other


def _at_most(one: float, other: float) -> bool:
    return one <= other


def _greater(one: float, other: float) -> bool:
    return one > other


def _at_least(one: float, other: float) -> bool:
    return one >= other


def _same(one: float, other: float) -> bool:
    return one == other


# Name: comparison of policy value and request value, and whether the outcome is turned round.
OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "stringequals": (_equals, False),
    "stringnotequals": (_equals, True),
    "stringequalsignorecase": (_equals_ignoring_case, False),
    "stringnotequalsignorecase": (_equals_ignoring_case, True),
    "stringlike": (_like, False),
    "stringnotlike": (_like, True),
    "numericequals": (_numbers(_same), False),
    "numericnotequals": (_numbers(_same), True),
    "numericlessthan": (_numbers(_less), False),
    "numericlessthanequals": (_numbers(_at_most), False),
    "numericgreaterthan": (_numbers(_greater), False),
    "numericgreaterthanequals": (_numbers(_at_least), False),
    "dateequals": (_dates(_same), False),
    "datenotequals": (_dates(_same), True),
    "datelessthan": (_dates(_less), False),
    "datelessthanequals": (_dates(_at_most), False),
    "dategreaterthan": (_dates(_greater), False),
    "dategreaterthanequals": (_dates(_at_least), False),
    "bool": (_equals_ignoring_case, False),
    "binaryequals": (_equals, False),
    "ipaddress": (_in_network, False),
    "notipaddress": (_in_network, True),
    "arnequals": (arn_matches, False),
    "arnlike": (arn_matches, False),
    "arnnotequals": (arn_matches, True),
    "arnnotlike": (arn_matches, True),
}
