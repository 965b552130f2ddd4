"""How far policies scale: target tracking, steps, adjustments."""

from __future__ import annotations

from typing import Any

import pytest

from twin.control.policies import Capacity, adjust, pick_step, step, track_in, track_out

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
AREA = "scaling"
TRACKING, STEPS = f"{GUIDE}/as-scaling-target-tracking.html", f"{GUIDE}/as-scaling-simple-step.html"


@pytest.mark.rule(AREA, "Target tracking scales out in proportion to the metric, rounding up.", TRACKING)
@pytest.mark.rule(AREA, "Instances that warm up are no capacity yet, but are not asked for a second time.", TRACKING)
@pytest.mark.parametrize(
    ("capacity", "value", "wanted"),
    [
        (Capacity(4, 4), 100.0, 8),
        (Capacity(4, 4), 60.0, 5),
        (Capacity(3, 3), 75.0, 5),
        (Capacity(4, 4), 50.0, None),
        (Capacity(8, 4, launching=4), 100.0, None),
        (Capacity(8, 4, launching=4), 110.0, 9),
    ],
)
def test_scale_out_of_target_tracking(capacity: Capacity, value: float, wanted: int | None) -> None:
    assert track_out(capacity, value, 50.0) == wanted


@pytest.mark.rule(AREA, "Target tracking scales in gradually, never below what the metric asks for.", TRACKING)
@pytest.mark.rule(AREA, "A scale-in can't start while a scale-out goes on; what terminates still counts as capacity.", TRACKING)
@pytest.mark.parametrize(
    ("capacity", "value", "wanted"),
    [
        (Capacity(4, 4), 10.0, 3),
        (Capacity(40, 40), 10.0, 36),
        (Capacity(4, 4), 40.0, None),
        (Capacity(4, 4), 37.0, 3),
        (Capacity(4, 3, launching=1), 10.0, None),
        (Capacity(3, 3, terminating=1), 35.0, None),
        (Capacity(3, 3), 33.0, 2),
    ],
)
def test_scale_in_of_target_tracking(capacity: Capacity, value: float, wanted: int | None) -> None:
    assert track_in(capacity, value, 50.0) == wanted


OUT = [
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 0},
    {"MetricIntervalLowerBound": 10, "MetricIntervalUpperBound": 20, "ScalingAdjustment": 10},
    {"MetricIntervalLowerBound": 20, "ScalingAdjustment": 30},
]
IN = [
    {"MetricIntervalLowerBound": -10, "MetricIntervalUpperBound": 0, "ScalingAdjustment": 0},
    {"MetricIntervalLowerBound": -20, "MetricIntervalUpperBound": -10, "ScalingAdjustment": -10},
    {"MetricIntervalUpperBound": -20, "ScalingAdjustment": -30},
]


@pytest.mark.rule(AREA, "Above the threshold a step includes its lower bound, below it its upper bound.", STEPS)
@pytest.mark.parametrize(
    ("steps", "difference", "wanted"),
    [
        (OUT, 5, 0),
        (OUT, 10, 10),
        (OUT, 19.9, 10),
        (OUT, 20, 30),
        (IN, -10, -10),
        (IN, -9, 0),
        (IN, -20, -30),
        (IN, -50, -30),
        (OUT, -1, None),
    ],
)
def test_which_step(steps: list[dict[str, Any]], difference: float, wanted: int | None) -> None:
    assert pick_step(steps, difference) == wanted


class Policy:
    def __init__(self, kind: str, least: int = 0) -> None:
        self.adjustment_type, self.min_adjustment_magnitude = kind, least


@pytest.mark.rule(
    AREA, "A step counts from the instances that are warm: 10 + 10 %, then 30 % of the same 10 while one warms up.", STEPS
)
def test_the_documented_example_of_steps() -> None:
    percent = Policy("PercentChangeInCapacity")
    assert step(Capacity(10, 10), percent, 10) == 11
    assert step(Capacity(11, 10, launching=1), percent, 10) is None
    assert step(Capacity(11, 10, launching=1), percent, 30) == 13
    assert step(Capacity(11, 11), percent, 30) == 14
    assert step(Capacity(14, 14), percent, -10) == 13
    assert step(Capacity(13, 13), percent, -30) == 10
    assert step(Capacity(13, 12, launching=1), percent, -30) is None


@pytest.mark.rule(AREA, "Percentages round towards zero, but never to no change, and MinAdjustmentMagnitude sets a floor.", STEPS)
@pytest.mark.parametrize(
    ("current", "kind", "by", "least", "wanted"),
    [
        (3, "ChangeInCapacity", 5, 0, 8),
        (3, "ExactCapacity", 5, 0, 5),
        (10, "PercentChangeInCapacity", 127, 0, 22),
        (10, "PercentChangeInCapacity", 6, 0, 11),
        (10, "PercentChangeInCapacity", -6, 0, 9),
        (10, "PercentChangeInCapacity", -66, 0, 4),
        (4, "PercentChangeInCapacity", 25, 2, 6),
        (4, "PercentChangeInCapacity", -25, 2, 2),
    ],
)
def test_adjustments(current: int, kind: str, by: int, least: int, wanted: int) -> None:
    assert adjust(current, kind, by, least) == wanted
