"""CloudWatch's metric math: expressions over time series, evaluated point by point.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html

Supported: + - * / ^, comparisons, AND and OR, SUM AVG MIN MAX of arrays and of one series, METRICS(), FILL, IF, ABS, CEIL,
FLOOR, DIFF, RATE, PERIOD. Anything else raises Unsupported; what can't be read raises InvalidExpression.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Series = dict[int, float]  # values by the start of their period
Value = Any  # a Series, a number, or an array (list) of Series

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<string>\"[^\"]*\"|'[^']*')|(?P<operator><=|>=|==|!=|&&|\|\||[-+*/^(),<>\[\]]))"
)
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class InvalidExpression(ValueError):
    """The expression can't be read; the message says where."""


class Unsupported(InvalidExpression):
    """AWS knows the function; the twin does not."""


@dataclass
class Context:
    """What an expression may refer to: series by id (in the order given), the period, and the periods asked for."""

    series: dict[str, Value]
    metrics: list[str]  # ids of those that are metrics, not expressions
    period: int
    slots: list[int]


def evaluate(expression: str, context: Context) -> Value:
    """The value of `expression`: a Series, a number, or an array of Series."""
    parser = _Parser(expression, context)
    value = parser.disjunction()
    if parser.peek() is not None:
        raise InvalidExpression(f"unexpected {parser.peek()!r} in {expression!r}")
    return value


def references(expression: str) -> set[str]:
    """Ids that an expression refers to (ids begin with a lower case letter, functions with a capital)."""
    return {name for kind, name in _tokens(expression) if kind == "name" and name[0].islower()}


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, position = [], 0
    text = expression.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidExpression(f"unexpected {text[position]!r} in {expression!r}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent; every method returns the value of what it has read."""

    def __init__(self, expression: str, context: Context) -> None:
        self.tokens = _tokens(expression)
        self.position = 0
        self.context = context

    def peek(self) -> str | None:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else None

    def take(self, *wanted: str) -> str | None:
        word = self.peek()
        if word in wanted:
            self.position += 1
            return word
        return None

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise InvalidExpression(f"{wanted!r} is missing before {self.peek() or 'the end'!r}")

    def disjunction(self) -> Value:
        left = self.conjunction()
        while self.take("OR", "||"):
            left = _apply(lambda a, b: float(bool(a) or bool(b)), left, self.conjunction())
        return left

    def conjunction(self) -> Value:
        left = self.comparison()
        while self.take("AND", "&&"):
            left = _apply(lambda a, b: float(bool(a) and bool(b)), left, self.comparison())
        return left

    def comparison(self) -> Value:
        left = self.sum()
        while word := self.take(*_COMPARISONS):
            left = _apply(_COMPARISONS[word], left, self.sum())
        return left

    def sum(self) -> Value:
        left = self.product()
        while word := self.take("+", "-"):
            left = _apply(operator.add if word == "+" else operator.sub, left, self.product())
        return left

    def product(self) -> Value:
        left = self.power()
        while word := self.take("*", "/"):
            left = _apply(operator.mul if word == "*" else operator.truediv, left, self.power())
        return left

    def power(self) -> Value:
        left = self.atom()
        return _apply(operator.pow, left, self.power()) if self.take("^") else left

    def atom(self) -> Value:
        if self.take("-"):
            return _apply(operator.mul, -1.0, self.power())
        if self.take("("):
            value = self.disjunction()
            self.expect(")")
            return value
        if self.take("["):
            return self.arguments("]")
        if self.position >= len(self.tokens):
            raise InvalidExpression("the expression ends too early")
        kind, word = self.tokens[self.position]
        self.position += 1
        if kind == "number":
            return float(word)
        if kind == "string":
            return word[1:-1]
        if kind == "name" and self.take("("):
            return self.call(word)
        if kind == "name" and word in self.context.series:
            return self.context.series[word]
        if kind == "name" and word in ("REPEAT", "LINEAR"):
            return word
        raise InvalidExpression(f"{word!r} is not the id of a metric or expression")

    def arguments(self, end: str) -> list[Value]:
        found: list[Value] = []
        while not self.take(end):
            if found:
                self.expect(",")
            found.append(self.disjunction())
        return found

    def call(self, name: str) -> Value:
        arguments = self.arguments(")")
        function = _FUNCTIONS.get(name)
        if function is None:
            raise Unsupported(f"the function {name} is not supported by the twin")
        try:
            return function(self.context, *arguments)
        except TypeError:
            raise InvalidExpression(f"{name} does not take these arguments") from None


def _apply(function: Callable[[float, float], float], left: Value, right: Value) -> Value:
    """Point by point; where one side has no value, or the result is none (as of a division by 0), there is no point."""
    if isinstance(left, list):
        return [_apply(function, each, right) for each in left]
    if isinstance(right, list):
        return [_apply(function, left, each) for each in right]
    if isinstance(left, str) or isinstance(right, str):
        raise InvalidExpression("text can't be part of a calculation")
    if not isinstance(left, dict) and not isinstance(right, dict):
        result = _safe(function, left, right)
        if result is None:
            raise InvalidExpression("a constant part of the expression has no value")
        return result
    slots = [at for at in (left if isinstance(left, dict) else right) if not isinstance(right, dict) or at in right]
    points = {at: _safe(function, _at(left, at), _at(right, at)) for at in slots}
    return {at: value for at, value in points.items() if value is not None}


def _safe(function: Callable[[float, float], float], left: float, right: float) -> float | None:
    try:
        result = function(left, right)
    except (ZeroDivisionError, OverflowError):
        return None
    return float(result) if isinstance(result, int | float) and math.isfinite(result) else None


def _at(value: Value, at: int) -> float:
    return float(value[at] if isinstance(value, dict) else value)


def _reduce(function: Callable[[list[float]], float]) -> Callable[..., Value]:
    """Of an array: a series over all of its points, each from those series that have one. Of a series: a number."""

    def reduce(context: Context, value: Value) -> Value:
        if isinstance(value, dict):
            return function(list(value.values())) if value else {}
        if not isinstance(value, list):
            raise TypeError
        slots = sorted({at for series in value if isinstance(series, dict) for at in series})
        return {at: function([_at(each, at) for each in value if not isinstance(each, dict) or at in each]) for at in slots}

    return reduce


def _each(function: Callable[[float], float]) -> Callable[..., Value]:
    def each(context: Context, value: Value) -> Value:
        return _apply(lambda a, _: float(function(a)), value, 0.0)

    return each


def _metrics(context: Context, containing: str = "") -> Value:
    return [context.series[name] for name in context.metrics if containing in name]


def _fill(context: Context, value: Value, filler: Value) -> Value:
    if isinstance(value, list):
        return [_fill(context, each, filler) for each in value]
    if filler == "LINEAR":
        raise Unsupported("FILL with LINEAR is not supported by the twin")
    filled: Series = {}
    last: float | None = None
    for at in context.slots:
        if at in value:
            last = filled[at] = value[at]
        elif isinstance(filler, dict):
            if at in filler:
                filled[at] = filler[at]
        elif filler != "REPEAT":
            filled[at] = float(filler)
        elif last is not None:
            filled[at] = last
    return filled


def _if(context: Context, condition: Value, then: Value, otherwise: Value = None) -> Value:
    if not isinstance(condition, dict):
        return then if condition else ({} if otherwise is None else otherwise)
    result: Series = {}
    for at, holds in condition.items():
        chosen = then if holds else otherwise
        if chosen is not None and (not isinstance(chosen, dict) or at in chosen):
            result[at] = _at(chosen, at)
    return result


def _difference(context: Context, value: Series) -> Series:
    points = sorted(value.items())
    return {at: number - before for (_, before), (at, number) in itertools.pairwise(points)}


def _rate(context: Context, value: Series) -> Series:
    points = sorted(value.items())
    return {at: (number - before) / (at - then) for (then, before), (at, number) in itertools.pairwise(points)}


def _period(context: Context, value: Value) -> float:
    return float(context.period)


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "SUM": _reduce(math.fsum),
    "AVG": _reduce(lambda values: math.fsum(values) / len(values)),
    "MIN": _reduce(min),
    "MAX": _reduce(max),
    "ABS": _each(abs),
    "CEIL": _each(math.ceil),
    "FLOOR": _each(math.floor),
    "METRICS": _metrics,
    "FILL": _fill,
    "IF": _if,
    "DIFF": _difference,
    "RATE": _rate,
    "PERIOD": _period,
}
