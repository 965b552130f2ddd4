"""Times of schedules: Unix cron as Auto Scaling takes it, and EventBridge's own with six fields and rates.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_RATE = re.compile(r"rate\((\d+) (minute|minutes|hour|hours|day|days)\)")
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_SEARCH_DAYS = 366 * 5  # how far ahead `following` looks


class InvalidSchedule(ValueError):
    """The expression can't be read."""


@dataclass(frozen=True)
class Cron:
    """The minutes that an expression names. A None field is unrestricted; days of the week count from Sunday, 0.

    `either_day`: Unix cron fires when one of two restricted day fields matches; EventBridge allows only one of them.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    years: frozenset[int] | None = None
    last_day: bool = False
    nth: tuple[int, int] | None = None  # weekday, and which one of the month: 1 to 5, or -1 for the last
    either_day: bool = False

    def matches(self, at: datetime) -> bool:
        if at.minute not in self.minutes or at.hour not in self.hours or at.month not in self.months:
            return False
        return (self.years is None or at.year in self.years) and self._day(at)

    def _day(self, at: datetime) -> bool:
        weekday = (at.weekday() + 1) % 7
        last = calendar.monthrange(at.year, at.month)[1]
        if self.last_day:
            return at.day == last
        if self.nth is not None:
            wanted, which = self.nth
            return weekday == wanted and (at.day > last - 7 if which < 0 else (at.day - 1) // 7 + 1 == which)
        restricted = []
        if self.days is not None:
            restricted.append(at.day in self.days)
        if self.weekdays is not None:
            restricted.append(weekday in self.weekdays)
        if not restricted:
            return True
        return any(restricted) if self.either_day else all(restricted)

    def following(self, after: datetime) -> datetime | None:
        """The first minute that matches after the minute of `after`."""
        at = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        limit = at + timedelta(days=_SEARCH_DAYS)
        while at < limit:
            if not self._possible_day(at):
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _possible_day(self, at: datetime) -> bool:
        return at.month in self.months and (self.years is None or at.year in self.years) and self._day(at)


def unix(expression: str) -> Cron:
    """Minute, hour, day of month, month, day of week."""
    fields = expression.split()
    if len(fields) != 5:
        raise InvalidSchedule(f"{expression}: five fields are needed")
    minute, hour, day, month, weekday = (field.upper() for field in fields)
    weekdays = None if weekday == "*" else frozenset(number % 7 for number in _field(weekday, 0, 7, _named(_DAYS, 0)))
    return Cron(
        minutes=_field(minute, 0, 59),
        hours=_field(hour, 0, 23),
        days=None if day == "*" else _field(day, 1, 31),
        months=_field(month, 1, 12, _MONTHS),
        weekdays=weekdays,
        either_day=True,
    )


def eventbridge(expression: str) -> Cron:
    """cron(minutes hours day-of-month month day-of-week year)."""
    match = re.fullmatch(r"cron\((.*)\)", expression.strip())
    fields = match[1].upper().split() if match else []
    if len(fields) != 6:
        raise InvalidSchedule(f"{expression}: six fields are needed")
    minute, hour, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise InvalidSchedule(f"{expression}: one of day-of-month and day-of-week must be '?'")
    if "W" in day.replace("WED", ""):
        raise InvalidSchedule(f"{expression}: W is not supported by the twin")
    names = _named(_DAYS, 1)
    nth = None
    if matched := re.fullmatch(r"(\w+)#([1-5])", weekday):
        nth = (min(_field(matched[1], 1, 7, names)) - 1, int(matched[2]))
    elif matched := re.fullmatch(r"(\w+)L", weekday):
        nth = (min(_field(matched[1], 1, 7, names)) - 1, -1)
    free = weekday in ("?", "*") or nth is not None
    return Cron(
        minutes=_field(minute, 0, 59),
        hours=_field(hour, 0, 23),
        days=None if day in ("?", "*", "L") else _field(day, 1, 31),
        months=_field(month, 1, 12, _MONTHS),
        weekdays=None if free else frozenset(number - 1 for number in _field(weekday, 1, 7, names)),
        years=None if year == "*" else _field(year, 1970, 2199),
        last_day=day == "L",
        nth=nth,
    )


def rate(expression: str) -> int:
    """Seconds of rate(5 minutes)."""
    match = _RATE.fullmatch(expression.strip())
    if match is None or int(match[1]) < 1 or (match[1] == "1") == match[2].endswith("s"):
        raise InvalidSchedule(f"{expression}: a rate is as in rate(1 hour) or rate(5 minutes)")
    return int(match[1]) * _SECONDS[match[2].removesuffix("s")]


def _named(names: tuple[str, ...], first: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names, first)}


def _field(text: str, low: int, high: int, names: dict[str, int] | None = None) -> frozenset[int]:
    """Numbers of one field: *, lists, ranges, steps, names."""

    def number(word: str) -> int:
        value = (names or {}).get(word, int(word) if word.isdigit() else None)
        if value is None or not low <= value <= high:
            raise InvalidSchedule(f"{word} is not from {low} to {high}")
        return value

    found: set[int] = set()
    for part in text.split(","):
        span, _, stride = part.partition("/")
        if stride and (not stride.isdigit() or int(stride) < 1):
            raise InvalidSchedule(f"{part}: {stride} is no step")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            ends = span.split("-", 1)
            first, last = number(ends[0]), number(ends[1])
            if first > last:
                raise InvalidSchedule(f"{part} runs backwards")
        else:
            first = number(span)
            last = high if stride else first
        found.update(range(first, last + 1, int(stride or 1)))
    return frozenset(found)
