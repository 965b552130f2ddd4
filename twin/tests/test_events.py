"""EventBridge: the region's own events, rules, targets, transformers, dead letters, schedules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import allowing
from observing import World, world_of

from twin.region import cron, ec2
from twin.settings import Settings

GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide"
AREA = "alarms and events"


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


def rule(world: World, pattern: dict[str, Any], name: str = "watch", **target: Any) -> str:
    """A rule with one target; returns the URL of the queue that is the target unless another is given."""
    url, arn = world.queue(name)
    world.client("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
    world.client("events").put_targets(Rule=name, Targets=[{"Id": "one", "Arn": arn, **target}])
    return url


def launched(world: World, group: str = "fleet", seconds: int = 12) -> None:
    detail = {"AutoScalingGroupName": group, "EC2InstanceId": "i-1", "StatusCode": "InProgress", "Seconds": seconds}
    arn = f"arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:1:autoScalingGroupName/{group}"
    world.region.emit("aws.autoscaling", "EC2 Instance Launch Successful", [arn, "arn:aws:ec2:::instance/i-1"], detail)


def bodies(world: World, url: str) -> list[Any]:
    return [json.loads(message["Body"]) for message in world.received(url)]


@pytest.mark.rule(AREA, "A rule on Auto Scaling's events delivers the whole event to a queue.", f"{GUIDE}/eb-events.html")
def test_the_regions_own_events_reach_a_queue(world: World) -> None:
    url = rule(world, {"source": ["aws.autoscaling"], "detail-type": ["EC2 Instance Launch Successful"]})
    launched(world)
    world.region.emit("aws.autoscaling", "EC2 Instance Terminate Successful", [], {})
    [event] = bodies(world, url)
    assert set(event) == {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
    assert (event["version"], event["source"], event["account"], event["region"]) == (
        "0",
        "aws.autoscaling",
        "123456789012",
        "us-east-1",
    )
    assert event["detail"]["EC2InstanceId"] == "i-1"
    assert event["resources"][1] == "arn:aws:ec2:::instance/i-1"
    datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.rule(
    AREA,
    "A pattern matches when every field named in it does; of a field's alternatives one suffices.",
    f"{GUIDE}/eb-event-patterns.html",
)
@pytest.mark.rule(
    AREA, "Patterns compare by prefix, suffix, numeric range, absence and exclusion.", f"{GUIDE}/eb-create-pattern-operators.html"
)
@pytest.mark.parametrize(
    ("detail", "matches"),
    [
        ({"AutoScalingGroupName": ["other", "fleet"]}, True),
        ({"AutoScalingGroupName": ["other"]}, False),
        ({"AutoScalingGroupName": [{"prefix": "fl"}], "Seconds": [{"numeric": [">", 10, "<=", 12]}]}, True),
        ({"AutoScalingGroupName": [{"prefix": "fl"}], "Seconds": [{"numeric": [">", 12]}]}, False),
        ({"AutoScalingGroupName": [{"anything-but": ["fleet"]}]}, False),
        ({"AutoScalingGroupName": [{"anything-but": {"prefix": "spare"}}]}, True),
        ({"AutoScalingGroupName": [{"suffix": "eet"}], "Cause": [{"exists": False}]}, True),
        ({"Cause": [{"exists": True}]}, False),
        ({"$or": [{"Seconds": [1]}, {"StatusCode": ["InProgress"]}]}, True),
        ({"AutoScalingGroupName": [{"wildcard": "f*t"}]}, True),
    ],
)
def test_patterns(world: World, detail: dict[str, Any], matches: bool) -> None:
    url = rule(world, {"detail": detail})
    launched(world)
    assert len(world.received(url)) == matches
    event = {"source": "x", "detail": {"AutoScalingGroupName": "fleet", "Seconds": 12, "StatusCode": "InProgress"}}
    asked = world.client("events").test_event_pattern(EventPattern=json.dumps({"detail": detail}), Event=json.dumps(event))
    assert asked["Result"] is matches


@pytest.mark.parametrize("pattern", ['{"detail": {"a": [{"sounds-like": "b"}]}}', '{"source": "aws.ec2"}', '{"source": []}', "{"])
def test_patterns_that_are_refused(world: World, pattern: str) -> None:
    with pytest.raises(ClientError, match="InvalidEventPatternException"):
        world.client("events").put_rule(Name="odd", EventPattern=pattern)


@pytest.mark.rule(AREA, "A disabled rule gets nothing.", f"{GUIDE}/eb-delete-rule.html")
def test_a_disabled_rule_is_silent(world: World) -> None:
    url = rule(world, {"source": ["aws.autoscaling"]})
    world.client("events").disable_rule(Name="watch")
    launched(world)
    assert world.received(url) == []
    world.client("events").enable_rule(Name="watch")
    launched(world)
    assert len(world.received(url)) == 1


@pytest.mark.rule(
    AREA,
    "A target gets a constant, a part of the event, or a template filled from it.",
    f"{GUIDE}/eb-transform-target-input.html",
)
def test_what_targets_get(world: World) -> None:
    source = {"source": ["aws.autoscaling"]}
    constant = rule(world, source, "constant", Input='{"page": "me"}')
    part = rule(world, source, "part", InputPath="$.detail.AutoScalingGroupName")
    paths = {
        "group": "$.detail.AutoScalingGroupName",
        "first": "$.resources[1]",
        "none": "$.detail.Nothing",
        "n": "$.detail.Seconds",
    }
    template = '{"text": "<group> took <n> s<none>", "n": <n>, "first": <first>, "rule": <aws.events.rule-name>, "none": <none>}'
    filled = rule(world, source, "filled", InputTransformer={"InputPathsMap": paths, "InputTemplate": template})
    launched(world, 'fl"eet')
    assert bodies(world, constant) == [{"page": "me"}]
    assert bodies(world, part) == ['fl"eet']
    assert bodies(world, filled) == [
        {"text": 'fl"eet took 12 s', "n": 12, "first": "arn:aws:ec2:::instance/i-1", "rule": "filled", "none": None}
    ]


@pytest.mark.rule(AREA, "Rules deliver to topics, functions and log groups.", f"{GUIDE}/eb-targets.html")
def test_other_targets(world: World) -> None:
    topic, url = world.topic_to_queue("events")
    world.client("logs").create_log_group(logGroupName="/events/all")
    stored = "arn:aws:logs:us-east-1:123456789012:log-group:/events/*:*"
    policy = allowing(["logs:CreateLogStream", "logs:PutLogEvents"], stored, "events.amazonaws.com")
    world.client("logs").put_resource_policy(policyName="events", policyDocument=policy)
    function = world.function("page", "events.amazonaws.com")
    arns = [topic, function, "arn:aws:logs:us-east-1:123456789012:log-group:/events/all"]
    world.client("events").put_rule(Name="all", EventPattern='{"source": ["aws.autoscaling"]}')
    world.client("events").put_targets(Rule="all", Targets=[{"Id": str(index), "Arn": arn} for index, arn in enumerate(arns)])
    launched(world)
    kind = "EC2 Instance Launch Successful"
    [message] = bodies(world, url)
    assert json.loads(message["Message"])["detail-type"] == kind
    [(name, event)] = world.functions.events
    assert (name, event["detail-type"]) == (function, kind)
    [logged] = world.client("logs").filter_log_events(logGroupName="/events/all")["events"]
    assert json.loads(logged["message"])["detail-type"] == kind


@pytest.mark.rule(
    AREA,
    "A target whose own policy does not let EventBridge in gets nothing; a topic's default policy does not.",
    f"{GUIDE}/eb-use-resource-based.html",
)
def test_targets_must_let_eventbridge_in(world: World) -> None:
    lost, dead = world.queue("lost", "events.amazonaws.com")
    closed, queue = world.queue("closed", "sns.amazonaws.com")
    _, open_to_topics = world.queue("topics", "sns.amazonaws.com")
    topic = world.client("sns").create_topic(Name="default")["TopicArn"]
    world.client("logs").create_log_group(logGroupName="/closed")
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/closed"
    arns = {queue, topic, world.function("closed", "sns.amazonaws.com"), group}
    world.client("events").put_rule(Name="all", EventPattern='{"source": ["aws.autoscaling"]}')
    targets = [{"Id": str(n), "Arn": arn, "DeadLetterConfig": {"Arn": dead}} for n, arn in enumerate(arns)]
    # Nor does a dead letter get into a queue that is not open to EventBridge.
    targets[0]["DeadLetterConfig"] = {"Arn": open_to_topics}
    world.client("events").put_targets(Rule="all", Targets=targets)
    launched(world)
    told = [message["MessageAttributes"] for message in world.received(lost)]
    assert {said["TARGET_ARN"]["StringValue"] for said in told} == {target["Arn"] for target in targets[1:]}
    assert {said["ERROR_CODE"]["StringValue"] for said in told} == {"NO_PERMISSIONS"}
    assert world.received(closed) == world.functions.events == []


@pytest.mark.rule(
    AREA,
    "aws:SourceArn in a queue's policy limits it to one rule.",
    f"{GUIDE}/eb-use-resource-based.html",
)
def test_a_queue_for_one_rule(world: World) -> None:
    url, arn = world.queue("one")
    policy = json.loads(allowing("sqs:SendMessage", arn, "events.amazonaws.com"))
    policy["Statement"][0]["Condition"] = {"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/first"}}
    world.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    for name in ("first", "second"):
        world.client("events").put_rule(Name=name, EventPattern='{"source": ["aws.autoscaling"]}')
        world.client("events").put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn, "Input": json.dumps(name)}])
    launched(world)
    assert bodies(world, url) == ["first"]


@pytest.mark.rule(
    AREA,
    "An event whose target is not there goes to the target's dead-letter queue, with the reason.",
    f"{GUIDE}/eb-rule-dlq.html",
)
def test_dead_letters(world: World) -> None:
    url, arn = world.queue("lost")
    gone = arn.replace("lost", "gone")
    rule(world, {"source": ["aws.autoscaling"]}, DeadLetterConfig={"Arn": arn}, Arn=gone)
    launched(world)
    [message] = world.received(url)
    said = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert (said["TARGET_ARN"], said["RULE_ARN"].split("/")[-1]) == (gone, "watch")
    assert said["ERROR_CODE"]
    assert said["ERROR_MESSAGE"]
    assert json.loads(message["Body"])["detail-type"] == "EC2 Instance Launch Successful"


@pytest.mark.rule(
    AREA,
    "PutEvents judges each entry by itself, and no one may speak for AWS.",
    "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html",
)
def test_events_of_ones_own(world: World) -> None:
    url = rule(world, {"source": ["own.shop"]})
    answer = world.client("events").put_events(
        Entries=[
            {"Source": "own.shop", "DetailType": "Order", "Detail": '{"id": 7}', "Time": datetime(2026, 1, 2, tzinfo=UTC)},
            {"Source": "aws.ec2", "DetailType": "Order", "Detail": "{}"},
            {"Source": "own.shop", "DetailType": "Order", "Detail": "{"},
            {"Source": "own.shop", "Detail": "{}"},
        ]
    )
    assert answer["FailedEntryCount"] == 3
    codes = [entry.get("ErrorCode") for entry in answer["Entries"]]
    assert codes == [None, "NotAuthorizedForSourceException", "MalformedDetail", "InvalidArgument"]
    [event] = bodies(world, url)
    assert (event["id"], event["detail"], event["time"]) == (answer["Entries"][0]["EventId"], {"id": 7}, "2026-01-02T00:00:00Z")


def test_an_archive_keeps_and_replays(world: World) -> None:
    events = world.client("events")
    url = rule(world, {"source": ["own.shop"]})
    bus = events.describe_event_bus(Name="default")["Arn"]
    made = events.create_archive(ArchiveName="all", EventSourceArn=bus)["ArchiveArn"]
    events.put_events(Entries=[{"Source": "own.shop", "DetailType": "Order", "Detail": '{"id": 7}'}])
    assert events.describe_archive(ArchiveName="all")["EventCount"] == 1
    assert len(bodies(world, url)) == 1
    span = {"EventStartTime": datetime(2020, 1, 1, tzinfo=UTC), "EventEndTime": datetime(2040, 1, 1, tzinfo=UTC)}
    events.start_replay(ReplayName="again", EventSourceArn=made, Destination={"Arn": bus}, **span)
    [event] = bodies(world, url)
    assert (event["detail"], event["replay-name"]) == ({"id": 7}, "again")
    assert events.describe_archive(ArchiveName="all")["EventCount"] == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"Arn": "arn:aws:states:us-east-1:123456789012:stateMachine:x"}, "not supported by the twin"),
        ({"Input": "{"}, "JSON text in Input"),
        ({"Input": "{}", "InputPath": "$.detail"}, "Only one of"),
    ],
)
def test_targets_that_are_refused(world: World, target: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        rule(world, {"source": ["own.shop"]}, **target)


@pytest.mark.rule(
    AREA,
    "EC2 tells of each change of an instance's state.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html",
)
def test_instances_tell_of_their_states(world: World) -> None:
    url = rule(world, {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]})
    instance = SimpleNamespace(id="i-0a", _state=SimpleNamespace(name="pending", code=0))
    for state in ("pending", "running", "running", "stopping"):
        ec2.set_state(instance, state)
    assert [event["detail"] for event in bodies(world, url)] == [
        {"instance-id": "i-0a", "state": state} for state in ("pending", "running", "stopping")
    ]


@pytest.mark.rule(
    AREA,
    "CloudWatch tells EventBridge of each change of an alarm's state.",
    "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html",
)
def test_alarms_tell_of_their_states(world: World) -> None:
    url = rule(world, {"source": ["aws.cloudwatch"], "detail": {"state": {"value": ["ALARM"]}}})
    cloudwatch = world.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="busy",
        Namespace="Own",
        MetricName="Load",
        Dimensions=[{"Name": "Host", "Value": "a"}],
        Statistic="Average",
        Period=300,
        EvaluationPeriods=1,
        Threshold=50.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName="busy", StateValue="ALARM", StateReason="a drill")
    [event] = bodies(world, url)
    assert event["detail-type"] == "CloudWatch Alarm State Change"
    detail = event["detail"]
    assert (detail["previousState"]["value"], detail["state"]["reason"]) == ("INSUFFICIENT_DATA", "a drill")
    [metric] = detail["configuration"]["metrics"]
    assert metric["metricStat"] == {
        "metric": {"namespace": "Own", "name": "Load", "dimensions": {"Host": "a"}},
        "period": 300,
        "stat": "Average",
    }


# Schedules


@pytest.mark.rule(
    AREA, "A scheduled rule sends its event at its rate while it is enabled.", f"{GUIDE}/eb-create-rule-schedule.html"
)
def test_scheduled_rules(world: World) -> None:
    url, arn = world.queue("often")
    events = world.client("events")
    events.put_rule(Name="often", ScheduleExpression="rate(5 minutes)")
    events.put_targets(Rule="often", Targets=[{"Id": "one", "Arn": arn}])
    world.advance(295)
    launched(world)  # a rule without a pattern matches no event
    assert world.received(url) == []
    world.advance(10)
    [event] = bodies(world, url)
    assert (event["detail-type"], event["source"], event["resources"][0][-6:]) == ("Scheduled Event", "aws.events", "/often")
    events.disable_rule(Name="often")
    world.advance(600)
    assert world.received(url) == []


AT = datetime(2026, 2, 27, 10, 17)


@pytest.mark.rule(
    AREA, "A schedule's cron expression has six fields, and only one of the two days.", f"{GUIDE}/eb-scheduled-rule-pattern.html"
)
@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("cron(0/15 * * * ? *)", "2026-02-27 10:30"),
        ("cron(0 8 1 * ? *)", "2026-03-01 08:00"),
        ("cron(15 10 ? * MON-FRI *)", "2026-03-02 10:15"),
        ("cron(0 18 ? * 6L 2026-2027)", "2026-02-27 18:00"),
        ("cron(0 0 L * ? *)", "2026-02-28 00:00"),
        ("cron(0 9 ? * 2#1 *)", "2026-03-02 09:00"),
        ("cron(30 12 29 FEB ? *)", "2028-02-29 12:30"),
    ],
)
def test_cron_of_eventbridge(expression: str, following: str) -> None:
    found = cron.eventbridge(expression).following(AT)
    assert f"{found:%Y-%m-%d %H:%M}" == following
    assert found is not None
    assert cron.eventbridge(expression).matches(found)


@pytest.mark.parametrize(
    "expression",
    ["cron(0 8 1 * 2 *)", "cron(0 8 ? * ? *)", "cron(61 8 1 * ? *)", "cron(0 8 * * *)", "rate(0 minutes)", "rate(1 minutes)"],
)
def test_schedules_that_are_refused(world: World, expression: str) -> None:
    with pytest.raises(ClientError, match="ScheduleExpression is not valid"):
        world.client("events").put_rule(Name="odd", ScheduleExpression=expression)
