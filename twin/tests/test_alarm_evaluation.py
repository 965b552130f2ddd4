"""How CloudWatch evaluates an alarm: breaching points, missing ones, and the words for it."""

from __future__ import annotations

import math

import pytest

from twin.control.alarm_evaluation import Definition, Point, evaluate, evaluation_range

DOCS = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring"
AREA = "alarms and events"
NOW = 1_700_000_040.0  # a whole minute, 2023-11-14T22:14:00Z


# The evaluation, as the documentation's tables have it: 0 is a good data point, X a breaching one, - a missing one


def verdict(points: str, needed: int, missing: str, current: str = "current", periods: int = 3) -> str:
    definition = Definition("GreaterThanThreshold", 5.0, periods, 60, needed, missing)
    words = points.split()
    _, end = evaluation_range(definition, NOW)
    found = [
        Point(end - (len(words) - index) * 60, {"0": 1.0, "X": 9.0}[word]) for index, word in enumerate(words) if word != "-"
    ]
    decided = evaluate(definition, found, NOW)
    return decided.state if decided else current


OK, ALARM, UNKNOWN, KEPT = "OK", "ALARM", "INSUFFICIENT_DATA", "current"


@pytest.mark.rule(
    AREA,
    "An alarm whose data is incomplete evaluates the latest points there are, then treats the rest as told.",
    f"{DOCS}/alarms-and-missing-data.html",
)
@pytest.mark.parametrize(
    ("points", "missing", "ignore", "breaching", "not_breaching"),
    [
        ("0 - X - X", OK, OK, OK, OK),
        ("0 - - - -", OK, OK, OK, OK),
        ("- - - - 0", OK, OK, OK, OK),
        ("- - - - -", UNKNOWN, KEPT, ALARM, OK),
        ("0 X X - X", ALARM, ALARM, ALARM, ALARM),
        ("- - X - -", ALARM, KEPT, ALARM, OK),
        ("X - - - -", ALARM, KEPT, ALARM, OK),
        ("- - - - X", UNKNOWN, KEPT, ALARM, OK),
    ],
)
def test_three_out_of_three(points: str, missing: str, ignore: str, breaching: str, not_breaching: str) -> None:
    got = [verdict(points, 3, how) for how in ("missing", "ignore", "breaching", "notBreaching")]
    assert got == [missing, ignore, breaching, not_breaching]


@pytest.mark.rule(AREA, "An M out of N alarm counts breaching points anywhere among the last N.", f"{DOCS}/alarm-evaluation.html")
@pytest.mark.parametrize(
    ("points", "missing", "ignore", "breaching", "not_breaching"),
    [
        ("0 - X - X", ALARM, ALARM, ALARM, ALARM),
        ("0 0 X 0 X", ALARM, ALARM, ALARM, ALARM),
        ("0 - X - -", OK, OK, ALARM, OK),
        ("- - - - 0", OK, OK, ALARM, OK),
        ("- - - X -", ALARM, KEPT, ALARM, OK),
        ("- - - - X", UNKNOWN, KEPT, ALARM, OK),
    ],
)
def test_two_out_of_three(points: str, missing: str, ignore: str, breaching: str, not_breaching: str) -> None:
    got = [verdict(points, 2, how) for how in ("missing", "ignore", "breaching", "notBreaching")]
    assert got == [missing, ignore, breaching, not_breaching]


@pytest.mark.rule(AREA, "An alarm of one period goes into ALARM with one breaching data point.", f"{DOCS}/alarm-evaluation.html")
def test_one_point_is_enough_for_one_period() -> None:
    assert verdict("- - X", 1, "missing", periods=1) == ALARM
    assert verdict("X 0 0", 1, "missing", periods=1) == OK


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [
        ("GreaterThanThreshold", False, False, True),
        ("GreaterThanOrEqualToThreshold", False, True, True),
        ("LessThanThreshold", True, False, False),
        ("LessThanOrEqualToThreshold", True, True, False),
    ],
)
def test_comparisons(comparison: str, below: bool, at: bool, above: bool) -> None:
    definition = Definition(comparison, 5.0, 1, 60)
    assert [definition.breaches(value) for value in (4.9, 5.0, 5.1)] == [below, at, above]


@pytest.mark.rule(
    AREA, "A metric alarm looks at whole periods only, and each minute at those that have ended.", f"{DOCS}/alarm-evaluation.html"
)
def test_the_evaluation_range_ends_with_the_last_whole_minute() -> None:
    definition = Definition("GreaterThanThreshold", 5.0, 1, 300)
    assert evaluation_range(definition, NOW + 40)[1] == NOW
    assert evaluation_range(Definition("GreaterThanThreshold", 5.0, 1, 10), NOW + 49)[1] == NOW + 40


def reason(
    value: float, comparison: str = "GreaterThanThreshold", needed: int | None = 1, periods: int = 1, missing: str = "missing"
) -> str:
    definition = Definition(comparison, 50.0, periods, 60, needed, missing, "Average")
    points = [Point(int(NOW) - 60 * (index + 1), value) for index in range(periods)] if not math.isnan(value) else []
    decided = evaluate(definition, points, NOW)
    assert decided
    return decided.reason


def test_reasons_are_in_the_words_of_aws() -> None:
    assert reason(99.5) == (
        "Threshold Crossed: 1 out of the last 1 datapoints [99.5 (14/11/23 22:13:00)] was greater than the threshold (50.0) "
        "(minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert reason(0.5) == (
        "Threshold Crossed: 1 out of the last 1 datapoints [0.5 (14/11/23 22:13:00)] was not greater than the threshold (50.0) "
        "(minimum 1 datapoint for ALARM -> OK transition)."
    )
    assert reason(3.0, "LessThanThreshold", None, 2) == (
        "Threshold Crossed: 2 datapoints [3.0 (14/11/23 22:13:00), 3.0 (14/11/23 22:12:00)] were less than the threshold (50.0)."
    )
    assert reason(math.nan) == "Insufficient Data: 1 datapoint was unknown."
    assert reason(math.nan, missing="breaching") == (
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [Breaching]."
    )
    assert reason(math.nan, needed=3, periods=3, missing="notBreaching") == (
        "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [NonBreaching]."
    )
    assert reason(60.0, needed=5, periods=5).startswith(
        "Threshold Crossed: 5 out of the last 5 datapoints were greater than the threshold (50.0). "
        "The most recent datapoints which crossed the threshold: [60.0 (14/11/23 22:13:00), "
    )
