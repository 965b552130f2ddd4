"""Metrics that arrive in logs, and those that queues, topics and functions have by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from observing import World, world_of

from twin.settings import Settings

SPECIFICATION = (
    "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"
)


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        made.client("logs").create_log_group(logGroupName="app")
        made.client("logs").create_log_stream(logGroupName="app", logStreamName="one")
        yield made


def line(sets: list[list[str]], *names: str, namespace: str = "Own", **members: Any) -> str:
    metrics = [{"Name": name, "Unit": "Count"} for name in names]
    directive = {"Namespace": namespace, "Dimensions": sets, "Metrics": metrics}
    return json.dumps({"_aws": {"Timestamp": members.pop("at"), "CloudWatchMetrics": [directive]}, **members})


def log(world: World, *lines: str) -> None:
    events = [{"timestamp": int(world.wall * 1000), "message": each} for each in lines]
    world.client("logs").put_log_events(logGroupName="app", logStreamName="one", logEvents=events)


def sums(world: World, namespace: str, name: str, **dimensions: str) -> dict[str, float]:
    given = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    points = world.client("cloudwatch").get_metric_statistics(
        Namespace=namespace, MetricName=name, Dimensions=given, StartTime=world.wall - 600, EndTime=world.wall + 600,
        Period=60, Statistics=["Sum", "SampleCount", "Maximum"],
    )["Datapoints"]  # fmt: skip
    return {
        "sum": sum(point["Sum"] for point in points),
        "count": sum(point["SampleCount"] for point in points),
        "most": max((point["Maximum"] for point in points), default=0),
    }


@pytest.mark.rule("alarms and events", "Log events in the embedded metric format become metrics.", SPECIFICATION)
@pytest.mark.rule("alarms and events", "An embedded metric is published once for each of its sets of dimensions.", SPECIFICATION)
def test_metrics_in_logs(world: World) -> None:
    at = int(world.wall * 1000)
    log(
        world,
        line([["service"], ["service", "zone"]], "Sent", "Age", at=at, service="mail", zone="a", Sent=1, Age=[2, 4.5]),
        line([[]], "Sent", at=at, Sent={"Values": [3, 5], "Counts": [2, 1], "Max": 5, "Min": 3, "Sum": 11, "Count": 3}),
        "START RequestId",
        '{"_aws": "no metrics at all"}',
        '{"_aws": broken',
    )
    assert sums(world, "Own", "Sent", service="mail") == {"sum": 1, "count": 1, "most": 1}
    assert sums(world, "Own", "Age", service="mail", zone="a") == {"sum": 6.5, "count": 2, "most": 4.5}
    assert sums(world, "Own", "Sent") == {"sum": 11, "count": 3, "most": 5}
    assert sums(world, "AWS/Logs", "EMFValidationErrors", LogGroupName="app")["count"] == 0


@pytest.mark.rule(
    "alarms and events", "Embedded metrics that break the specification count as EMFValidationErrors.", SPECIFICATION
)
@pytest.mark.parametrize(
    "members",
    [
        {"service": 1, "Sent": 1},
        {"Sent": 1},
        {"service": "mail"},
        {"service": "mail", "Sent": "many"},
        {"service": "mail", "Sent": [1.0] * 101},
        {"service": "mail", "Sent": True},
        {"service": "mail", "Sent": {"Values": [1]}},
        {"service": "mail", "Sent": {"Values": [1], "Counts": ["many"]}},
        {"service": "mail", "Sent": 10**400},
        {"service": "mail", "Sent": 1, "at": float("nan")},
        {"service": "mail", "Sent": 1, "at": 1e300},
    ],
)
def test_what_breaks_the_specification_is_counted(world: World, members: dict[str, Any]) -> None:
    log(world, line([["service"]], "Sent", **{"at": int(world.wall * 1000), **members}))
    assert sums(world, "Own", "Sent", service="mail")["count"] == 0
    assert sums(world, "AWS/Logs", "EMFValidationErrors", LogGroupName="app")["sum"] == 1


def test_queues_and_topics_are_counted(world: World) -> None:
    _, url = world.topic_to_queue("orders")
    topic = world.client("sns").list_topics()["Topics"][0]["TopicArn"]
    for _ in range(3):
        world.client("sns").publish(TopicArn=topic, Message="order")
    world.client("sqs").receive_message(QueueUrl=url, VisibilityTimeout=600)
    world.advance(60)
    assert sums(world, "AWS/SQS", "ApproximateNumberOfMessagesVisible", QueueName="orders")["most"] == 2
    assert sums(world, "AWS/SQS", "ApproximateNumberOfMessagesNotVisible", QueueName="orders")["most"] == 1
    assert sums(world, "AWS/SNS", "NumberOfMessagesPublished", TopicName="orders")["sum"] == 3
