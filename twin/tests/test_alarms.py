"""CloudWatch's alarms in time: composite rules, and what alarms set going."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import allowing, until
from observing import World, world_of

from twin.region.alarm_rules import InvalidRule, children, holds
from twin.region.metric_store import HIGH
from twin.settings import Settings

DOCS = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring"
API = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference"
AREA = "alarms and events"


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


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
