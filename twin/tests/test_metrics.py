"""CloudWatch's metrics: statistics, percentiles, ageing, and metric math."""

from __future__ import annotations

import pickle
import random
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from observing import World, world_of

from twin.region.metric_math import Context, InvalidExpression, Unsupported
from twin.region.metric_math import evaluate as calculate
from twin.region.metric_store import HIGH, Aggregate, MetricStore, key
from twin.settings import Settings

# Metric math

SERIES: dict[str, Any] = {"m1": {0: 10.0, 60: 20.0, 180: 5.0}, "m2": {0: 2.0, 60: 0.0, 120: 3.0}}


DOCS = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring"
API = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference"
AREA = "alarms and events"
NOW = 1_700_000_040.0  # a whole minute, 2023-11-14T22:14:00Z


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


def test_statistics_agree_with_the_samples() -> None:
    rng = random.Random(7)  # noqa: S311 (no secret)
    values = [rng.uniform(0.001, 3.0) for _ in range(90)]
    sample = Aggregate()
    for value in values:
        sample.add(value)
    assert sample.statistic("Sum") == pytest.approx(sum(values))
    assert sample.statistic("Average") == pytest.approx(statistics.fmean(values))
    assert (sample.statistic("Minimum"), sample.statistic("Maximum")) == (min(values), max(values))
    assert sample.statistic("SampleCount") == 90
    assert sample.statistic("p50") == sorted(values)[44]
    assert sample.statistic("p90") == sorted(values)[80]
    for _ in range(5000):
        sample.add(rng.uniform(0.001, 3.0))
    assert sample.values is not None
    assert len(sample.values) <= 4000
    p99 = sample.statistic("p99")
    assert p99 is not None
    assert p99 == pytest.approx(2.97, rel=0.01)


@pytest.mark.rule(
    AREA,
    "Percentiles of a statistic set are known only where its minimum is its maximum.",
    f"{DOCS}/cloudwatch_concepts.html#Percentiles",
)
def test_statistic_sets_have_no_percentiles() -> None:
    assert Aggregate(10, 55, 1, 10, None).statistic("p90") is None
    assert Aggregate(10, 30, 3, 3, {3.0: 10}).statistic("p90") == 3


@pytest.mark.rule(
    AREA,
    "Data points of less than a minute stay for three hours, then are kept by the minute.",
    f"{DOCS}/cloudwatch_concepts.html#metrics-retention",
)
def test_an_hour_of_seconds_is_right_and_quick_and_ages() -> None:
    store, metric = MetricStore(), key("Own", "Load", {"Host": "a"})
    start = int(NOW)
    for second in range(3600):
        sample = Aggregate()
        sample.add(float(second))
        store.put(metric, start + second, sample, HIGH)
    began = time.process_time()
    minutes = store.query(metric, start, start + 3600, 60)
    seconds = time.process_time() - began
    assert seconds < 1.0
    assert [(at, sample.total) for at, sample in minutes.items()] == [
        (start + 60 * minute, sum(range(60 * minute, 60 * minute + 60))) for minute in range(60)
    ]
    assert len(store) == 3600
    store.prune(start + 3600 + 3 * 3600)
    assert len(store) <= 61
    assert sum(sample.total for sample in store.query(metric, start - 60, start + 3600, 300).values()) == sum(range(3600))
    again: MetricStore = pickle.loads(pickle.dumps(store))  # noqa: S301 (its own)
    assert again.query(metric, start, start + 3600, 300) == store.query(metric, start, start + 3600, 300)
    store.prune(start + 20 * 86400)
    assert len(store) == 0
    assert list(store.metrics()) == []


@pytest.mark.rule(
    AREA, "Each set of dimensions is a metric of its own; none adds up others.", f"{DOCS}/cloudwatch_concepts.html#Dimension"
)
def test_the_api_agrees_with_itself(world: World) -> None:
    cloudwatch = world.client("cloudwatch")
    base = datetime.fromtimestamp(world.wall - 300, UTC)
    host = [{"Name": "Host", "Value": "a"}]
    data: list[dict[str, Any]] = [
        {"MetricName": "Load", "Value": 2.0, "Timestamp": base, "Dimensions": host, "Unit": "Percent"},
        {
            "MetricName": "Load",
            "Values": [4.0, 6.0],
            "Counts": [2.0, 1.0],
            "Timestamp": base,
            "Dimensions": host,
            "Unit": "Percent",
        },
        {"MetricName": "Load", "Value": 100.0, "Timestamp": base, "Unit": "Percent"},
    ]
    cloudwatch.put_metric_data(Namespace="Own", MetricData=data)
    span = {"StartTime": base, "EndTime": base + timedelta(minutes=5)}
    [point] = cloudwatch.get_metric_statistics(
        Namespace="Own",
        MetricName="Load",
        Dimensions=host,
        Period=60,
        Statistics=["Sum", "Average", "Minimum", "Maximum", "SampleCount"],
        **span,
    )["Datapoints"]
    assert (point["Sum"], point["Average"], point["Minimum"], point["Maximum"], point["SampleCount"]) == (16, 4, 2, 6, 4)
    assert (point["Unit"], point["Timestamp"]) == ("Percent", base)
    [point] = cloudwatch.get_metric_statistics(
        Namespace="Own", MetricName="Load", Dimensions=host, Period=60, ExtendedStatistics=["p50", "p100"], **span
    )["Datapoints"]
    assert point["ExtendedStatistics"] == {"p50": 4.0, "p100": 6.0}
    load = {"Metric": {"Namespace": "Own", "MetricName": "Load", "Dimensions": host}, "Period": 60, "Stat": "Sum"}
    results = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "m1", "MetricStat": load, "ReturnData": False}, {"Id": "e1", "Expression": "m1 / 8 * 100"}],
        **span,
    )["MetricDataResults"]
    assert [(result["Id"], result["Values"], result["Timestamps"]) for result in results] == [("e1", [200.0], [base])]
    listed = cloudwatch.list_metrics(Namespace="Own")["Metrics"]
    assert [metric["Dimensions"] for metric in listed] == [host, []]
    assert len(cloudwatch.list_metrics(Namespace="Own", Dimensions=[{"Name": "Host"}])["Metrics"]) == 1


@pytest.mark.rule(AREA, "Data older than two weeks or more than two hours ahead is refused.", f"{API}/API_PutMetricData.html")
@pytest.mark.parametrize("hours", [-15 * 24, 3])
def test_data_of_other_times_is_refused(world: World, hours: int) -> None:
    at = datetime.now(UTC) + timedelta(hours=hours)
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        world.client("cloudwatch").put_metric_data(
            Namespace="Own", MetricData=[{"MetricName": "Load", "Value": 1.0, "Timestamp": at}]
        )


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("m1/m2*100", {0: 500.0}),
        ("m1 + 1", {0: 11.0, 60: 21.0, 180: 6.0}),
        ("SUM([m1, m2])", {0: 12.0, 60: 20.0, 120: 3.0, 180: 5.0}),
        ("SUM(METRICS())", {0: 12.0, 60: 20.0, 120: 3.0, 180: 5.0}),
        ("AVG([m1, m2])", {0: 6.0, 60: 10.0, 120: 3.0, 180: 5.0}),
        ("MAX([m1, m2]) - MIN([m1, m2])", {0: 8.0, 60: 20.0, 120: 0.0, 180: 0.0}),
        ("FILL(m1, 0)", {0: 10.0, 60: 20.0, 120: 0.0, 180: 5.0}),
        ("FILL(m1, REPEAT)", {0: 10.0, 60: 20.0, 120: 20.0, 180: 5.0}),
        ("FILL(m1, 0) - FILL(m2, 0)", {0: 8.0, 60: 20.0, 120: -3.0, 180: 5.0}),
        ("IF(m1 > 8, m1, 0)", {0: 10.0, 60: 20.0, 180: 0.0}),
        ("IF(m1 > 8 AND m1 < 15, 1, -2^2)", {0: 1.0, 60: -4.0, 180: -4.0}),
        ("m1 / MAX(m1)", {0: 0.5, 60: 1.0, 180: 0.25}),
        ("RATE(m1) * PERIOD(m1)", {60: 10.0, 180: -7.5}),
        ("(m1 - 10) * 2", {0: 0.0, 60: 20.0, 180: -10.0}),
    ],
)
def test_metric_math(expression: str, wanted: dict[int, float]) -> None:
    assert calculate(expression, Context(SERIES, ["m1", "m2"], 60, [0, 60, 120, 180])) == wanted


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("m1 +", InvalidExpression),
        ("m3", InvalidExpression),
        ("m1 $ 2", InvalidExpression),
        ("ANOMALY_DETECTION_BAND(m1)", Unsupported),
    ],
)
def test_metric_math_that_cannot_be_read(expression: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        calculate(expression, Context(SERIES, ["m1", "m2"], 60, [0]))
