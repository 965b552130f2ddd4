"""CloudWatch: metrics, the evaluation of alarms, and what alarms set going."""

from __future__ import annotations

import json
import math
import pickle
import random
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import allowing, until
from observing import World, world_of

from twin.control.alarm_evaluation import Definition, Point, evaluate, evaluation_range
from twin.region.alarm_rules import InvalidRule, children, holds
from twin.region.metric_math import Context, InvalidExpression, Unsupported
from twin.region.metric_math import evaluate as calculate
from twin.region.metric_store import HIGH, Aggregate, MetricStore, key
from twin.settings import Settings

DOCS = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring"
API = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference"
AREA = "alarms and events"
NOW = 1_700_000_040.0  # a whole minute, 2023-11-14T22:14:00Z


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


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


# Metrics


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


# Metric math

SERIES: dict[str, Any] = {"m1": {0: 10.0, 60: 20.0, 180: 5.0}, "m2": {0: 2.0, 60: 0.0, 120: 3.0}}


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


# Composite rules


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ('ALARM("a")', True),
        ("OK(a) OR OK(b)", True),
        ("ALARM(a) AND ALARM(b)", False),
        ("ALARM(a) AND NOT ALARM(b)", True),
        ("NOT (ALARM(a) AND OK(b))", False),
        ("OK(a) OR ALARM(b) AND TRUE", False),
        ("(OK(b) OR FALSE) AND INSUFFICIENT_DATA(c)", True),
        ("ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:a)", True),
    ],
)
def test_rules_of_composite_alarms(rule: str, wanted: bool) -> None:
    assert holds(rule, {"a": "ALARM", "b": "OK", "c": "INSUFFICIENT_DATA"}.get) is wanted


@pytest.mark.parametrize("rule", ["ALARM(a) AND", "ALARM(a", "a", "ALARM(a) ALARM(b)", ")", "AT_LEAST(1, ALARM, (a))"])
def test_rules_that_cannot_be_read(rule: str) -> None:
    with pytest.raises(InvalidRule):
        holds(rule, lambda name: "OK")


def test_children_are_named_once_and_without_their_arn() -> None:
    assert children('ALARM("a b") OR OK(arn:aws:cloudwatch:us-east-1:1:alarm:c) AND NOT ALARM("a b")') == ["a b", "c"]


# Alarms in time


def alarm(world: World, name: str = "busy", **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "Namespace": "Own",
        "MetricName": "Load",
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 50.0,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    if "Metrics" in options:
        settings = {name: settings[name] for name in ("EvaluationPeriods", "Threshold", "ComparisonOperator")}
    world.client("cloudwatch").put_metric_alarm(AlarmName=name, **{**settings, **options})
    return shown(world, name)


def shown(world: World, name: str = "busy", kind: str = "MetricAlarm") -> dict[str, Any]:
    found: dict[str, Any] = world.client("cloudwatch").describe_alarms(AlarmNames=[name], AlarmTypes=[kind])[f"{kind}s"][0]
    return found


@pytest.mark.rule(AREA, "A new alarm is INSUFFICIENT_DATA until it is evaluated.", f"{API}/API_PutMetricAlarm.html")
@pytest.mark.rule(
    AREA,
    "An alarm that changes state publishes to its topics once, with the old and the new state.",
    f"{DOCS}/alarm-actions.html",
)
def test_an_alarm_goes_through_its_states_and_tells_its_topics(world: World) -> None:
    topic, url = world.topic_to_queue("alerts")
    made = alarm(world, AlarmActions=[topic], OKActions=[topic], InsufficientDataActions=[topic], AlarmDescription="too busy")
    assert (made["StateValue"], made["StateReason"]) == ("INSUFFICIENT_DATA", "Unchecked: Initial alarm creation")
    for value in (80.0, 90.0):
        world.put("Own", "Load", value)
        world.advance(60)
    world.advance(5)
    now = shown(world)
    assert now["StateValue"] == "ALARM"
    assert "2 out of the last 2 datapoints [90.0" in now["StateReason"]
    data = json.loads(now["StateReasonData"])
    assert (data["recentDatapoints"], data["threshold"], data["period"], data["statistic"]) == ([80.0, 90.0], 50.0, 60, "Average")
    [envelope] = [json.loads(message["Body"]) for message in world.received(url)]
    assert envelope["Subject"] == 'ALARM: "busy" in US East (N. Virginia)'
    said = json.loads(envelope["Message"])
    assert (said["OldStateValue"], said["NewStateValue"], said["NewStateReason"]) == (
        "INSUFFICIENT_DATA",
        "ALARM",
        now["StateReason"],
    )
    assert (said["AlarmDescription"], said["AlarmArn"], said["Region"]) == ("too busy", now["AlarmArn"], "US East (N. Virginia)")
    assert said["Trigger"]["MetricName"] == "Load"
    assert (said["Trigger"]["Statistic"], said["Trigger"]["DatapointsToAlarm"]) == ("AVERAGE", 2)
    for _ in range(3):  # the state lasts, and is not told again
        world.put("Own", "Load", 90.0)
        world.advance(60)
    assert world.received(url) == []
    world.put("Own", "Load", 10.0)
    world.advance(65)
    assert shown(world)["StateValue"] == "OK"
    world.advance(300)
    assert shown(world)["StateValue"] == "INSUFFICIENT_DATA"
    states = [json.loads(json.loads(message["Body"])["Message"])["NewStateValue"] for message in world.received(url)]
    assert states == ["OK", "INSUFFICIENT_DATA"]
    history = world.client("cloudwatch").describe_alarm_history(AlarmName="busy")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history if item["HistoryItemType"] == "StateUpdate"] == [
        "Alarm updated from OK to INSUFFICIENT_DATA",
        "Alarm updated from ALARM to OK",
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
    ]
    assert sum(item["HistorySummary"] == f"Successfully executed action {topic}" for item in history) == 3
    assert history[-1]["HistorySummary"] == 'Alarm "busy" created'


@pytest.mark.rule(AREA, "Replacing an alarm keeps its state.", f"{API}/API_PutMetricAlarm.html")
@pytest.mark.rule(
    AREA, "SetAlarmState holds until the next evaluation, and its actions are carried out.", f"{API}/API_SetAlarmState.html"
)
@pytest.mark.rule(
    AREA, "While its actions are disabled, an alarm changes state and does nothing more.", f"{API}/API_DisableAlarmActions.html"
)
def test_a_state_that_was_set_is_temporary(world: World) -> None:
    topic, url = world.topic_to_queue("alerts")
    cloudwatch = world.client("cloudwatch")
    alarm(world, AlarmActions=[topic], TreatMissingData="notBreaching")
    world.advance(5)
    assert shown(world)["StateValue"] == "OK"
    cloudwatch.set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    assert (shown(world)["StateValue"], shown(world)["StateReason"]) == ("ALARM", "a drill")
    assert alarm(world, AlarmActions=[topic], TreatMissingData="notBreaching", Threshold=60.0)["StateValue"] == "ALARM"
    world.advance(70)
    assert shown(world)["StateValue"] == "OK"
    assert len(world.received(url)) == 1
    cloudwatch.disable_alarm_actions(AlarmNames=["busy"])
    cloudwatch.set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    world.tick()
    assert shown(world)["StateValue"] == "ALARM"
    assert world.received(url) == []
    with pytest.raises(ClientError, match="ResourceNotFound"):
        cloudwatch.set_alarm_state(AlarmName="none", StateValue="ALARM", StateReason="a drill")


@pytest.mark.rule(
    AREA,
    "High-resolution alarms have periods of 10, 20 or 30 seconds and are evaluated every ten seconds.",
    f"{DOCS}/alarm-evaluation.html",
)
def test_high_resolution(world: World) -> None:
    alarm(world, Period=10, EvaluationPeriods=1, DatapointsToAlarm=1, Statistic="Maximum")
    world.put("Own", "Load", 70.0, resolution=HIGH)
    world.advance(12, step=1)
    assert shown(world)["StateValue"] == "ALARM"
    world.put("Own", "Load", 7.0, resolution=HIGH)
    world.advance(10, step=1)
    assert shown(world)["StateValue"] == "OK"


def query(name: str, metric: str, statistic: str = "Sum") -> dict[str, Any]:
    stat = {"Metric": {"Namespace": "Own", "MetricName": metric}, "Period": 60, "Stat": statistic}
    return {"Id": name, "MetricStat": stat, "ReturnData": False}


@pytest.mark.rule(
    AREA, "An alarm may watch a metric math expression, as an error rate.", f"{DOCS}/Create-alarm-on-metric-math-expression.html"
)
def test_an_alarm_on_an_expression(world: World) -> None:
    rate = {"Id": "e1", "Expression": "FILL(bad, 0) / all * 100", "Label": "error rate", "ReturnData": True}
    metrics = [query("bad", "Errors"), query("all", "Requests"), rate]
    topic, url = world.topic_to_queue("alerts")
    alarm(world, Metrics=metrics, EvaluationPeriods=1, Threshold=5.0, AlarmActions=[topic])
    world.put("Own", "Requests", 100.0)
    world.advance(65)
    assert shown(world)["StateValue"] == "OK"
    world.put("Own", "Requests", 100.0)
    world.put("Own", "Errors", 6.0)
    world.advance(60)
    assert shown(world)["StateValue"] == "ALARM"
    assert "[6.0 (" in shown(world)["StateReason"]
    trigger = json.loads(json.loads(world.received(url)[0]["Body"])["Message"])["Trigger"]
    assert [entry["Id"] for entry in trigger["Metrics"]] == ["bad", "all", "e1"]


@pytest.mark.rule(
    AREA,
    "A percentile alarm may wait until it has samples enough to mean something.",
    f"{DOCS}/percentiles-with-low-samples.html",
)
def test_percentiles_with_few_samples(world: World) -> None:
    options = {"Statistic": "Average", "EvaluationPeriods": 1, "DatapointsToAlarm": 1}
    cloudwatch = world.client("cloudwatch")
    for name, low in (("patient", "ignore"), ("hasty", "evaluate")):
        settings = {**options, "ExtendedStatistic": "p90", "EvaluateLowSampleCountPercentile": low}
        del settings["Statistic"]
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="Own",
            MetricName="Load",
            Period=60,
            Threshold=50.0,
            ComparisonOperator="GreaterThanThreshold",
            **settings,
        )
    world.put("Own", "Load", 99.0)
    world.advance(65)
    assert (shown(world, "hasty")["StateValue"], shown(world, "patient")["StateValue"]) == ("ALARM", "INSUFFICIENT_DATA")
    for _ in range(100):
        world.put("Own", "Load", 99.0)
    world.advance(60)
    assert shown(world, "patient")["StateValue"] == "ALARM"


@pytest.mark.rule(
    AREA,
    "A composite alarm follows the states of others by its rule, and tells which one changed it.",
    f"{DOCS}/Create_Composite_Alarm.html",
)
@pytest.mark.rule(AREA, "DescribeAlarms shows composite alarms only when asked for them.", f"{API}/API_DescribeAlarms.html")
@pytest.mark.rule(AREA, "An alarm that a composite one depends on can't be deleted.", f"{API}/API_DeleteAlarms.html")
def test_composite_alarms(world: World) -> None:
    topic, url = world.topic_to_queue("alerts")
    cloudwatch = world.client("cloudwatch")
    for name in ("first", "second", "maintenance"):
        alarm(world, name, MetricName=name, EvaluationPeriods=1, DatapointsToAlarm=1, TreatMissingData="notBreaching")
    rule = 'ALARM(first) AND ALARM("second") AND NOT ALARM(maintenance)'
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule=rule, AlarmActions=[topic], OKActions=[topic])
    cloudwatch.put_composite_alarm(AlarmName="above", AlarmRule="ALARM(both)")
    assert shown(world, "both", "CompositeAlarm")["StateValue"] == "INSUFFICIENT_DATA"
    world.advance(5)
    both = shown(world, "both", "CompositeAlarm")
    assert (both["StateValue"], both["AlarmRule"]) == ("OK", rule)
    assert both["StateReason"] == f"{both['AlarmArn']} was created and its alarm rule evaluates to OK"
    assert len(world.received(url)) == 1
    world.put("Own", "first", 99.0)
    world.advance(60)
    assert shown(world, "both", "CompositeAlarm")["StateValue"] == "OK"
    world.put("Own", "first", 99.0)
    world.put("Own", "second", 99.0)
    world.advance(60)
    both = shown(world, "both", "CompositeAlarm")
    assert both["StateValue"] == "ALARM"
    assert both["StateReason"].startswith(f"{shown(world, 'second')['AlarmArn']} transitioned to ALARM at ")
    assert shown(world, "above", "CompositeAlarm")["StateValue"] == "ALARM"
    said = json.loads(json.loads(world.received(url)[0]["Body"])["Message"])
    assert [child["Arn"] for child in said["TriggeringChildren"]] == [shown(world, "second")["AlarmArn"]]
    cloudwatch.set_alarm_state(AlarmName="maintenance", StateValue="ALARM", StateReason="planned work")
    world.tick()
    assert shown(world, "both", "CompositeAlarm")["StateValue"] == "OK"
    assert {entry["AlarmName"] for entry in cloudwatch.describe_alarms()["MetricAlarms"]} == {"first", "second", "maintenance"}
    assert cloudwatch.describe_alarms()["CompositeAlarms"] == []
    parents = cloudwatch.describe_alarms(ParentsOfAlarmName="first", AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert [entry["AlarmName"] for entry in parents] == ["both"]
    with pytest.raises(ClientError, match="Cannot delete first as there are composite alarm"):
        cloudwatch.delete_alarms(AlarmNames=["first"])
    with pytest.raises(ClientError, match="depend on itself"):
        cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule="ALARM(above)")
    with pytest.raises(ClientError, match="do not exist"):
        cloudwatch.put_composite_alarm(AlarmName="odd", AlarmRule="ALARM(nobody)")
    cloudwatch.delete_alarms(AlarmNames=["above", "both", "first"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}, "not supported by the twin|Invalid arn"),
        ({"AlarmActions": ["arn:aws:automate:us-east-1:123456789012:ec2:recover"]}, "not supported by the twin"),
        ({"AlarmActions": ["alerts"]}, "Invalid arn syntax"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "not supported by the twin"),
        ({"Period": 45}, "multiple of 60"),
        ({"Period": 600, "EvaluationPeriods": 200}, "must be <= 86400"),
        ({"DatapointsToAlarm": 3}, "less than or equal"),
        ({"TreatMissingData": "invent"}, "TreatMissingData"),
        ({"Metrics": [{"Id": "e1", "Expression": "SELECT AVG(x) FROM y", "Period": 60}]}, "not supported by the twin"),
        ({"Metrics": [{"Id": "e1", "Expression": "1 +", "Period": 60}]}, "Error in expression"),
        ({"Metrics": [query("a", "x"), query("b", "y")]}, "Exactly one element"),
    ],
)
def test_alarms_that_are_refused(world: World, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words) as refused:
        alarm(world, **options)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert world.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


@pytest.mark.rule(AREA, "An alarm can invoke a Lambda function with the alarm's data.", f"{DOCS}/alarms-and-actions-Lambda.html")
def test_an_alarm_invokes_a_function(world: World) -> None:
    function = world.function("page", "lambda.alarms.cloudwatch.amazonaws.com")
    alarm(world, AlarmActions=[function, function.replace("page", "missing")])
    world.client("cloudwatch").set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    world.tick()
    [(name, event)] = world.functions.events
    assert (name, event["source"], event["alarmData"]["state"]["value"]) == (function, "aws.cloudwatch", "ALARM")
    items = world.client("cloudwatch").describe_alarm_history(AlarmName="busy", HistoryItemType="Action")["AlarmHistoryItems"]
    assert sorted(item["HistorySummary"].split(" action ")[0] for item in items) == ["Failed to execute", "Successfully executed"]


@pytest.mark.rule(
    AREA,
    "A topic's default policy lets the account's alarms publish; one without them fails the action, as the history says.",
    "https://repost.aws/knowledge-center/cloudwatch-receive-sns-for-alarm-trigger",
)
def test_topics_and_functions_must_let_alarms_in(world: World) -> None:
    sns, (url, queue) = world.client("sns"), world.queue("alerts")
    topics = [sns.create_topic(Name=name)["TopicArn"] for name in ("default", "closed")]
    for topic in topics:
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    policy = allowing("sns:Publish", topics[1], "events.amazonaws.com")
    sns.set_topic_attributes(TopicArn=topics[1], AttributeName="Policy", AttributeValue=policy)
    function = world.function("closed", "events.amazonaws.com")
    alarm(world, AlarmActions=[*topics, function])
    world.client("cloudwatch").set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    world.tick()
    assert [json.loads(message["Body"])["TopicArn"] for message in world.received(url)] == [topics[0]]
    items = world.client("cloudwatch").describe_alarm_history(AlarmName="busy", HistoryItemType="Action")["AlarmHistoryItems"]
    failed = [item["HistorySummary"] for item in items if item["HistorySummary"].startswith("Failed")]
    assert len(failed) == 2
    assert any(f"is not authorized to perform: SNS:Publish on resource: {topics[1]}" in words for words in failed)
    assert world.functions.events == []


def test_records_survive_pickling(world: World) -> None:
    alarm(world, TreatMissingData="breaching")
    world.advance(5)
    kept = pickle.loads(pickle.dumps(dict(world.region.backend("cloudwatch").alarms)))["busy"]  # noqa: S301
    assert (kept.state_value, len(kept.history_items), kept.evaluated_at) == ("ALARM", 2, world.started)


# Deliveries


@pytest.mark.rule(
    AREA,
    "SNS tries an HTTP endpoint again after a server's error.",
    "https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html",
)
def test_an_alarm_reaches_a_web_server(world: World) -> None:
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.headers["x-amz-sns-message-type"], body))
            self.send_response(503 if len(got) == 1 else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer((world.region.settings.address, 0), Handler)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    sns = world.client("sns")
    topic = sns.create_topic(Name="pager")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://{world.region.settings.address}:{server.server_port}/")
    alarm(world, AlarmActions=[topic])
    world.client("cloudwatch").set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    world.tick()
    until(lambda: len(got) == 2, 30)
    server.shutdown()
    server.server_close()
    assert {kind for kind, _ in got} == {"Notification"}
    assert json.loads(got[1][1]["Message"])["NewStateReason"] == "a drill"


def test_a_served_twin_evaluates_alarms_and_tells_a_queue(client: Callable[[str], Any]) -> None:
    cloudwatch, sns, sqs = client("cloudwatch"), client("sns"), client("sqs")
    url = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = allowing("sqs:SendMessage", arn, "sns.amazonaws.com")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    at = datetime.now(UTC) - timedelta(seconds=12)
    for seconds in (0, 5, 10):
        sample = {"MetricName": "Load", "Value": 99.0, "Timestamp": at + timedelta(seconds=seconds), "StorageResolution": 1}
        cloudwatch.put_metric_data(Namespace="Own", MetricData=[sample])
    cloudwatch.put_metric_alarm(
        AlarmName="served",
        Namespace="Own",
        MetricName="Load",
        Statistic="Maximum",
        Period=10,
        EvaluationPeriods=1,
        Threshold=50.0,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[topic],
    )
    [message] = until(lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"), 60)
    said = json.loads(json.loads(message["Body"])["Message"])
    assert (said["AlarmName"], said["NewStateValue"]) == ("served", "ALARM")
