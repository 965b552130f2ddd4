"""What state an alarm is in, from its definition and the data points at hand: no clock, no records, nothing to wait for.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from twin.region.timestamps import moment, stamp

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
COMPARISONS = {
    "GreaterThanThreshold": (operator.gt, "greater than the threshold"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to the threshold"),
    "LessThanThreshold": (operator.lt, "less than the threshold"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to the threshold"),
}
# CloudWatch looks for more data points than it evaluates, so that late and missing ones do no harm: its documentation shows
# five for an alarm of three.
EXTRA_PERIODS = 2
_FEW = 5  # data points that a reason lists before it says what they were


@dataclass(frozen=True)
class Definition:
    """What PutMetricAlarm says of the evaluation. `to_alarm` is None where DatapointsToAlarm was left out."""

    comparison: str
    threshold: float
    evaluation_periods: int
    period: int
    to_alarm: int | None = None
    missing: str = "missing"
    statistic: str | None = None

    @property
    def needed(self) -> int:
        return self.to_alarm or self.evaluation_periods

    def breaches(self, value: float) -> bool:
        compare = COMPARISONS[self.comparison][0]
        return bool(compare(value, self.threshold))


@dataclass(frozen=True)
class Point:
    """A data point, named by the start of its period."""

    at: int
    value: float
    count: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """The state, why, and the data points looked at, newest first."""

    state: str
    reason: str
    points: list[Point] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def granularity(period: int) -> int:
    """Seconds between two evaluations: AWS evaluates each minute, alarms of a high resolution every ten seconds."""
    return 60 if period >= 60 else 10


def evaluation_range(definition: Definition, now: float) -> tuple[int, int]:
    """The stretch that an evaluation looks at: whole periods that end with the last whole minute (or ten seconds)."""
    end = int(now) // granularity(definition.period) * granularity(definition.period)
    return end - (definition.evaluation_periods + EXTRA_PERIODS) * definition.period, end


def evaluate(definition: Definition, points: list[Point], now: float) -> Verdict | None:
    """The verdict on `points`, which lie in `evaluation_range`; None when the alarm stays in its state."""
    _, end = evaluation_range(definition, now)
    looked_at = sorted(points, key=lambda point: -point.at)[: definition.evaluation_periods]
    breaching = [point for point in looked_at if definition.breaches(point.value)]
    missing = definition.evaluation_periods - len(looked_at)
    state = _state(definition, looked_at, len(breaching), missing, end)
    if state is None:
        return None
    reason = _reason(definition, state, looked_at, breaching, missing)
    return Verdict(state, reason, looked_at, _data(definition, looked_at, now))


def _state(definition: Definition, looked_at: list[Point], breaching: int, missing: int, end: int) -> str | None:
    needed = definition.needed
    if definition.missing == "breaching":
        return ALARM if breaching + missing >= needed else OK
    if definition.missing == "notBreaching" or not missing or breaching >= needed:
        return ALARM if breaching >= needed else OK
    if len(looked_at) > breaching:
        return OK
    if definition.missing == "ignore":
        return None
    # Only breaching points, and too few of them. When the oldest has had time to be followed by others, and nothing but
    # breaching and missing ones followed, that is an alarm; a point that has just come proves nothing yet.
    if looked_at and (end - looked_at[-1].at) // definition.period >= needed:
        return ALARM
    return INSUFFICIENT_DATA


def _reason(definition: Definition, state: str, looked_at: list[Point], breaching: list[Point], missing: int) -> str:
    """In AWS's words."""
    if state == INSUFFICIENT_DATA:
        return f"Insufficient Data: {_count(missing, 'datapoint')} {_were(missing)} unknown."
    treated = {"breaching": "Breaching", "notBreaching": "NonBreaching"}.get(definition.missing)
    if not looked_at:
        return (
            f"Threshold Crossed: no datapoints were received for {_count(definition.evaluation_periods, 'period')} and "
            f"{_count(missing, 'missing datapoint')} {_were(missing)} treated as [{treated}]."
        )
    # Missing data that decided is the reason too, beside what was there.
    decisive = breaching if state == ALARM else [point for point in looked_at if point not in breaching]
    shown = decisive or looked_at
    said_not = "" if definition.breaches(shown[0].value) else "not "
    compared = f"{said_not}{COMPARISONS[definition.comparison][1]} ({float(definition.threshold)})"
    listed = "[" + ", ".join(f"{float(point.value)} ({moment(point.at):%d/%m/%y %H:%M:%S})" for point in shown) + "]"
    filled = f" and {_count(missing, 'missing datapoint')} {_were(missing)} treated as [{treated}]" if missing and treated else ""
    if definition.to_alarm is None:
        return f"Threshold Crossed: {_count(len(shown), 'datapoint')} {listed} {_were(len(shown))} {compared}{filled}."
    change = "OK -> ALARM" if state == ALARM else "ALARM -> OK"
    least = definition.needed if state == ALARM else definition.evaluation_periods - definition.needed + 1
    minimum = f"(minimum {_count(least, 'datapoint')} for {change} transition)"
    out_of = f"Threshold Crossed: {len(shown)} out of the last {definition.evaluation_periods} datapoints"
    if len(shown) < _FEW:
        return f"{out_of} {listed} {_were(len(shown))} {compared}{filled} {minimum}."
    crossed = f"The most recent datapoints which {'crossed' if not said_not else 'did not cross'} the threshold:"
    return f"{out_of} were {compared}{filled}. {crossed} {listed} {minimum}."


def _data(definition: Definition, looked_at: list[Point], now: float) -> dict[str, Any]:
    data: dict[str, Any] = {"version": "1.0", "queryDate": stamp(now)}
    if looked_at:
        data["startDate"] = stamp(looked_at[-1].at)
    if definition.statistic:
        data["statistic"] = definition.statistic
    data["period"] = definition.period
    data["recentDatapoints"] = [float(point.value) for point in reversed(looked_at)]
    data["threshold"] = float(definition.threshold)
    data["evaluatedDatapoints"] = [
        {"timestamp": stamp(point.at), "sampleCount": float(point.count), "value": float(point.value)} for point in looked_at
    ]
    return data


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
