"""Scheduled actions of Auto Scaling groups, once and again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from observing import World, world_of

from twin.region import cron
from twin.region.timestamps import moment
from twin.settings import Settings

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
AREA = "scaling"


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


def schedule(world: World, name: str = "morning", **options: Any) -> None:
    world.client("autoscaling").put_scheduled_update_group_action(
        AutoScalingGroupName="fleet", ScheduledActionName=name, **options
    )


def later(world: World, seconds: float) -> datetime:
    return moment(world.wall + seconds).replace(tzinfo=UTC)


@pytest.mark.rule(
    AREA,
    "A scheduled action sets minimum, maximum and desired capacity at its time, once, and is gone.",
    f"{GUIDE}/ec2-auto-scaling-scheduled-scaling.html",
)
def test_a_single_scheduled_action(world: World) -> None:
    group = world.group("fleet", desired=2, low=1, high=4)
    schedule(world, StartTime=later(world, 600), MinSize=3, MaxSize=8, DesiredCapacity=6)
    [shown] = world.client("autoscaling").describe_scheduled_actions()["ScheduledUpdateGroupActions"]
    assert (shown["StartTime"], shown["DesiredCapacity"]) == (later(world, 600), 6)
    world.advance(595)
    assert group.desired_capacity == 2
    world.advance(10)
    assert (group.min_size, group.max_size, group.desired_capacity) == (3, 8, 6)
    assert "a scheduled action update of AutoScalingGroup constraints to min: 3, max: 8, desired: 6 changing the desired " in (
        group.capacity_cause
    )
    assert world.client("autoscaling").describe_scheduled_actions()["ScheduledUpdateGroupActions"] == []


@pytest.mark.rule(
    AREA,
    "A recurring action runs at each time of its cron expression, and sizes that it leaves out stay.",
    f"{GUIDE}/ec2-auto-scaling-scheduled-scaling.html",
)
@pytest.mark.rule(AREA, "While ScheduledActions is suspended, none is executed.", f"{GUIDE}/as-suspend-resume-processes.html")
def test_a_recurring_scheduled_action(world: World) -> None:
    group = world.group("fleet", desired=2, low=1, high=4)
    schedule(world, Recurrence="*/10 * * * *", MinSize=3)
    world.advance(601)
    assert (group.min_size, group.max_size, group.desired_capacity) == (3, 4, 3)
    group.min_size, group.desired_capacity = 1, 1
    world.client("autoscaling").suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["ScheduledActions"])
    world.advance(600)
    assert group.min_size == 1
    world.client("autoscaling").resume_processes(AutoScalingGroupName="fleet", ScalingProcesses=["ScheduledActions"])
    world.advance(600)
    assert group.desired_capacity == 3


@pytest.mark.rule(
    AREA, "A recurrence may be in a time zone, and follows its summer time.", f"{GUIDE}/ec2-auto-scaling-scheduled-scaling.html"
)
def test_recurrence_in_a_time_zone(world: World) -> None:
    world.group("fleet", desired=2)
    schedule(world, Recurrence="30 8 * * *", TimeZone="Asia/Kolkata", DesiredCapacity=3)
    [shown] = world.client("autoscaling").describe_scheduled_actions()["ScheduledUpdateGroupActions"]
    assert (shown["StartTime"].hour, shown["StartTime"].minute, shown["TimeZone"]) == (3, 0, "Asia/Kolkata")


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("30 0 1 1,6,12 *", "2026-06-01 00:30"),
        ("0 9 * * MON-FRI", "2026-03-02 09:00"),
        ("*/20 * * * *", "2026-02-27 10:20"),
        ("0 0 13 * 5", "2026-03-06 00:00"),  # the 13th, or a Friday
        ("5 4 * * 7", "2026-03-01 04:05"),
    ],
)
def test_unix_cron(expression: str, following: str) -> None:
    found = cron.unix(expression).following(datetime(2026, 2, 27, 10, 17))
    assert f"{found:%Y-%m-%d %H:%M}" == following


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Recurrence": "every day", "MinSize": 1}, "is invalid"),
        ({"Recurrence": "0 9 * * *"}, "At least one of"),
        ({"MinSize": 1}, "StartTime or Recurrence"),
        ({"StartTime": datetime(2020, 1, 1, tzinfo=UTC), "MinSize": 1}, "start time is in the past"),
        ({"Recurrence": "0 9 * * *", "TimeZone": "Mars/Base", "MinSize": 1}, "time zone"),
        ({"Recurrence": "0 9 * * *", "MinSize": 3, "MaxSize": 2}, "must not be greater"),
    ],
)
def test_schedules_that_are_refused(world: World, options: dict[str, Any], words: str) -> None:
    world.group("fleet", desired=1)
    with pytest.raises(ClientError, match=words) as refused:
        schedule(world, **options)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
