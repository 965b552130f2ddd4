"""Scaling policies: a group that follows them through simulated time, and the metrics that they follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import until
from observing import World, world_of
from test_instances import launch

from twin.bodies.usage import cpu_seconds
from twin.region.timestamps import moment
from twin.settings import Settings

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
AREA = "scaling"
TRACKING, STEPS = f"{GUIDE}/as-scaling-target-tracking.html", f"{GUIDE}/as-scaling-simple-step.html"


@pytest.fixture
def world(twin_settings: Settings) -> Iterator[World]:
    with world_of(twin_settings) as made:
        yield made


OUT = [
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 0},
    {"MetricIntervalLowerBound": 10, "MetricIntervalUpperBound": 20, "ScalingAdjustment": 10},
    {"MetricIntervalLowerBound": 20, "ScalingAdjustment": 30},
]


# Policies in time


def track(world: World, group: str, name: str = "cpu", target: float = 50.0, **options: Any) -> dict[str, str]:
    """A target tracking policy on CPU, or on what `options` say; returns its alarms by side."""
    spec = options.pop("spec", {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}})
    answer = world.client("autoscaling").put_scaling_policy(
        AutoScalingGroupName=group,
        PolicyName=name,
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={"TargetValue": target, **spec, **options.pop("tracking", {})},
        **options,
    )
    return {entry["AlarmName"].split(f"{group}-")[1].split("-")[0]: entry["AlarmName"] for entry in answer["Alarms"]}


def busy(world: World, group: Any, minutes: int, cpu: float, warm: bool = True) -> None:
    """Minutes in which the group's CPU is at `cpu`; its instances come and go at once."""
    for _ in range(minutes):
        world.put("AWS/EC2", "CPUUtilization", cpu, AutoScalingGroupName=group.name)
        world.advance(60)
        world.follow(group, warm)


@pytest.mark.rule(AREA, "Target tracking makes two alarms: three minutes above the target, fifteen below it.", TRACKING)
@pytest.mark.rule(
    AREA,
    "An alarm calls its scaling policy again for every minute that its state lasts.",
    "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html",
)
def test_target_tracking_scales_out_and_in(world: World) -> None:
    group = world.group("fleet", desired=2, low=2, high=6, DefaultInstanceWarmup=0)
    alarms = track(world, "fleet")
    shown = world.client("cloudwatch").describe_alarms(AlarmNames=list(alarms.values()))["MetricAlarms"]
    assert sorted((entry["ComparisonOperator"], entry["EvaluationPeriods"], entry["Threshold"]) for entry in shown) == [
        ("GreaterThanThreshold", 3, 50.0),
        ("LessThanThreshold", 15, 35.0),
    ]
    busy(world, group, 2, 90.0)
    assert group.desired_capacity == 2
    busy(world, group, 2, 90.0)
    assert group.desired_capacity >= 4  # 2 * 90 / 50, rounded up
    assert (
        f"a monitor alarm {alarms['AlarmHigh']} in state ALARM triggered policy cpu changing the desired capacity from 2 to 4."
        in (group.capacity_cause)
    )
    busy(world, group, 4, 90.0)
    assert group.desired_capacity == 6  # never above the maximum
    busy(world, group, 13, 10.0)
    assert group.desired_capacity == 6
    busy(world, group, 4, 10.0)
    assert group.desired_capacity in (4, 5)  # one at a time
    assert "triggered policy cpu changing the desired capacity from" in group.capacity_cause
    busy(world, group, 6, 10.0)
    assert group.desired_capacity == 2  # never below the minimum


@pytest.mark.rule(
    AREA,
    "New instances count once their warmup is over: a scale-out is not repeated before.",
    f"{GUIDE}/ec2-auto-scaling-default-instance-warmup.html",
)
def test_warmup_holds_a_second_scale_out_back(world: World) -> None:
    group = world.group("fleet", desired=2, high=10, DefaultInstanceWarmup=300)
    track(world, "fleet")
    busy(world, group, 4, 90.0, warm=False)
    assert group.desired_capacity == 4
    busy(world, group, 4, 90.0, warm=False)
    assert group.desired_capacity == 4
    busy(world, group, 2, 90.0, warm=False)
    assert group.desired_capacity == 8


@pytest.mark.rule(AREA, "With DisableScaleIn a policy only scales out.", TRACKING)
@pytest.mark.rule(AREA, "A disabled policy is kept, and does nothing.", f"{GUIDE}/as-enable-disable-scaling-policy.html")
@pytest.mark.rule(AREA, "Deleting a policy deletes the alarms that were made for it.", f"{API}/API_DeletePolicy.html")
def test_policies_may_be_halved_disabled_and_deleted(world: World) -> None:
    group = world.group("fleet", desired=2, DefaultInstanceWarmup=0)
    autoscaling = world.client("autoscaling")
    assert set(track(world, "fleet")) == {"AlarmHigh", "AlarmLow"}
    first = track(world, "fleet", tracking={"DisableScaleIn": True})
    assert set(first) == {"AlarmHigh"}
    assert set(track(world, "fleet", tracking={"DisableScaleIn": True}, Enabled=False)) == {"AlarmHigh"}
    [policy] = autoscaling.describe_policies(AutoScalingGroupName="fleet")["ScalingPolicies"]
    assert (policy["Enabled"], policy["PolicyType"]) == (False, "TargetTrackingScaling")
    busy(world, group, 5, 90.0)
    assert group.desired_capacity == 2
    track(world, "fleet", tracking={"DisableScaleIn": True})
    [policy] = autoscaling.describe_policies()["ScalingPolicies"]
    assert (policy["Enabled"], [entry["AlarmName"] for entry in policy["Alarms"]]) == (True, [first["AlarmHigh"]])
    busy(world, group, 2, 90.0)
    assert group.desired_capacity > 2
    autoscaling.delete_policy(AutoScalingGroupName="fleet", PolicyName="cpu")
    assert world.client("cloudwatch").describe_alarms()["MetricAlarms"] == []


@pytest.mark.rule(
    AREA, "While AlarmNotification is suspended, alarms change no capacity.", f"{GUIDE}/as-suspend-resume-processes.html"
)
def test_suspended_alarm_notification(world: World) -> None:
    group = world.group("fleet", desired=2, DefaultInstanceWarmup=0)
    track(world, "fleet")
    world.client("autoscaling").suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["AlarmNotification"])
    busy(world, group, 5, 90.0)
    assert group.desired_capacity == 2
    world.client("autoscaling").resume_processes(AutoScalingGroupName="fleet", ScalingProcesses=["AlarmNotification"])
    busy(world, group, 2, 90.0)
    assert group.desired_capacity > 2


@pytest.mark.rule(AREA, "Several target tracking policies scale out when any asks for it, and in only when all do.", TRACKING)
def test_several_policies(world: World) -> None:
    group = world.group("fleet", desired=20, high=60, DefaultInstanceWarmup=0)
    track(world, "fleet")
    own = {"MetricName": "Jobs", "Namespace": "Own", "Statistic": "Average", "Dimensions": [{"Name": "Fleet", "Value": "fleet"}]}
    track(world, "fleet", "jobs", 10.0, spec={"CustomizedMetricSpecification": own})

    def minutes(number: int, cpu: float, jobs: float) -> None:
        for _ in range(number):
            world.put("Own", "Jobs", jobs, Fleet="fleet")
            busy(world, group, 1, cpu)

    minutes(18, 5.0, 9.2)  # idle by CPU; by jobs a little, but not under nine tenths of the target
    assert group.desired_capacity == 20
    minutes(4, 5.0, 15.0)
    assert group.desired_capacity > 20
    minutes(2, 5.0, 1.0)
    high = group.desired_capacity
    minutes(16, 5.0, 1.0)
    assert group.desired_capacity < high


@pytest.mark.rule(AREA, "Requests per target are counted as zero where none came, so that an idle group scales in.", TRACKING)
def test_request_count_per_target(world: World) -> None:
    group = world.group("fleet", desired=3, low=1, DefaultInstanceWarmup=120)
    label = "app/front/50dc6c495c0c9188/targetgroup/web/943f017f100becff"
    predefined = {"PredefinedMetricType": "ALBRequestCountPerTarget", "ResourceLabel": label}
    alarms = track(world, "fleet", "requests", 1000.0, spec={"PredefinedMetricSpecification": predefined})
    [high] = world.client("cloudwatch").describe_alarms(AlarmNames=[alarms["AlarmHigh"]])["MetricAlarms"]
    assert (high["MetricName"], high["Statistic"]) == ("RequestCountPerTarget", "Sum")
    assert high["Dimensions"] == [{"Name": "TargetGroup", "Value": "targetgroup/web/943f017f100becff"}]
    for _ in range(6):
        for _ in range(15):  # 4500 requests a minute, in parts, spread over the instances there are
            share = 300.0 / len(group.instance_states)
            world.put("AWS/ApplicationELB", "RequestCountPerTarget", share, TargetGroup="targetgroup/web/943f017f100becff")
        world.advance(60)
        world.follow(group, warm=False)
    assert group.desired_capacity == 5
    world.advance(13 * 60, step=20)
    assert group.desired_capacity == 5
    world.advance(3 * 60, step=20)
    assert group.desired_capacity < 5


def steps(world: World, group: str, **options: Any) -> str:
    settings: dict[str, Any] = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    answer = world.client("autoscaling").put_scaling_policy(
        AutoScalingGroupName=group, PolicyName="steps", PolicyType="StepScaling", **{**settings, **options}
    )
    return str(answer["PolicyARN"])


def load_alarm(world: World, policy: str, **options: Any) -> None:
    settings: dict[str, Any] = {
        "Threshold": 50.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 1,
        **options,
    }
    world.client("cloudwatch").put_metric_alarm(
        AlarmName="load", Namespace="Own", MetricName="Load", Statistic="Average", Period=60, AlarmActions=[policy], **settings
    )


@pytest.mark.rule(AREA, "Step scaling picks its step by how far the metric is beyond the alarm's threshold.", STEPS)
def test_step_scaling(world: World) -> None:
    group = world.group("fleet", desired=4, DefaultInstanceWarmup=0)
    policy = steps(
        world,
        "fleet",
        StepAdjustments=[
            {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 20, "ScalingAdjustment": 1},
            {"MetricIntervalLowerBound": 20, "ScalingAdjustment": 3},
        ],
    )
    load_alarm(world, policy)
    [shown] = world.client("autoscaling").describe_policies(PolicyNames=["steps"])["ScalingPolicies"]
    assert (shown["MetricAggregationType"], [entry["AlarmName"] for entry in shown["Alarms"]]) == ("Average", ["load"])
    world.put("Own", "Load", 60.0)
    world.advance(65)
    assert group.desired_capacity == 5
    world.follow(group)
    world.put("Own", "Load", 75.0)
    world.advance(60)
    assert group.desired_capacity == 8
    assert (
        "a monitor alarm load in state ALARM triggered policy steps changing the desired capacity from 5 to 8."
        in group.capacity_cause
    )


@pytest.mark.rule(
    AREA,
    "Simple scaling waits for its activity to end and its cooldown to pass.",
    f"{GUIDE}/ec2-auto-scaling-scaling-cooldowns.html",
)
@pytest.mark.rule(AREA, "ExecutePolicy honours the cooldown only when asked to.", f"{API}/API_ExecutePolicy.html")
def test_simple_scaling_and_its_cooldown(world: World) -> None:
    group = world.group("fleet", desired=2)
    autoscaling = world.client("autoscaling")
    policy = autoscaling.put_scaling_policy(
        AutoScalingGroupName="fleet", PolicyName="simple", AdjustmentType="ChangeInCapacity", ScalingAdjustment=1, Cooldown=180
    )["PolicyARN"]
    load_alarm(world, policy, TreatMissingData="ignore")
    world.put("Own", "Load", 90.0)
    world.advance(65)
    assert group.desired_capacity == 3
    world.advance(60)
    world.follow(group)  # only now has it launched: the cooldown begins here
    world.advance(100)
    assert group.desired_capacity == 3
    execute = {"AutoScalingGroupName": "fleet", "PolicyName": "simple"}
    with pytest.raises(ClientError, match="ScalingActivityInProgress"):
        autoscaling.execute_policy(**execute, HonorCooldown=True)
    autoscaling.execute_policy(**execute)
    assert group.desired_capacity == 4
    assert "a user request executed policy simple changing the desired capacity from 3 to 4." in group.capacity_cause
    world.follow(group)
    world.advance(300)
    assert group.desired_capacity == 5


@pytest.mark.rule(
    AREA,
    "ExecutePolicy of a step policy needs a metric value and a threshold to choose the step by.",
    f"{API}/API_ExecutePolicy.html",
)
def test_executing_a_step_policy(world: World) -> None:
    group = world.group("fleet", desired=2)
    steps(world, "fleet")
    execute: dict[str, Any] = {"AutoScalingGroupName": "fleet", "PolicyName": "steps"}
    autoscaling = world.client("autoscaling")
    with pytest.raises(ClientError, match="MetricValue and BreachThreshold"):
        autoscaling.execute_policy(**execute)
    with pytest.raises(ClientError, match="No StepAdjustment"):
        autoscaling.execute_policy(**execute, MetricValue=40, BreachThreshold=50)
    autoscaling.execute_policy(**execute, MetricValue=59, BreachThreshold=50)
    assert group.desired_capacity == 3
    with pytest.raises(ClientError, match="No such policy: none"):
        autoscaling.execute_policy(AutoScalingGroupName="fleet", PolicyName="none")


@pytest.mark.rule(
    AREA, "Policies of one name on two groups are two policies, and go with their group.", f"{API}/API_PutScalingPolicy.html"
)
def test_policies_belong_to_their_group(world: World) -> None:
    for name in ("one", "two"):
        world.group(name, desired=1)
        track(world, name)
    autoscaling = world.client("autoscaling")
    assert len(autoscaling.describe_policies()["ScalingPolicies"]) == 2
    del world.region.backend("autoscaling").autoscaling_groups["one"]
    world.tick()
    assert [entry["AutoScalingGroupName"] for entry in autoscaling.describe_policies()["ScalingPolicies"]] == ["two"]
    alarms = world.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {entry["AlarmName"].split("-")[1] for entry in alarms} == {"two"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"PolicyType": "PredictiveScaling"}, "not supported by the twin"),
        ({"AdjustmentType": "Double", "ScalingAdjustment": 1}, "AdjustmentType must be"),
        ({"AdjustmentType": "ChangeInCapacity"}, "ScalingAdjustment must be specified"),
        ({"PolicyType": "StepScaling", "AdjustmentType": "ChangeInCapacity"}, "At least one StepAdjustment"),
        ({"PolicyType": "StepScaling", "AdjustmentType": "ChangeInCapacity", "StepAdjustments": [OUT[0], OUT[2]]}, "gap"),
        (
            {"PolicyType": "StepScaling", "AdjustmentType": "ChangeInCapacity", "StepAdjustments": OUT[:2]},
            "unspecified upper bound",
        ),
        ({"PolicyType": "TargetTrackingScaling"}, "Exactly one of"),
    ],
)
def test_policies_that_are_refused(world: World, options: dict[str, Any], words: str) -> None:
    world.group("fleet", desired=1)
    autoscaling = world.client("autoscaling")
    with pytest.raises(ClientError, match=words) as refused:
        autoscaling.put_scaling_policy(AutoScalingGroupName="fleet", PolicyName="odd", **options)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert autoscaling.describe_policies()["ScalingPolicies"] == []


# Metrics of groups and instances


@pytest.mark.rule(
    AREA,
    "A group publishes the metrics that were enabled for it each minute; without a list, all.",
    f"{GUIDE}/ec2-auto-scaling-metrics.html",
)
def test_metrics_of_a_group(world: World) -> None:
    group = world.group("fleet", desired=3, low=1, high=5)
    group.instance_states[0].lifecycle_state = "Terminating:Wait"
    autoscaling = world.client("autoscaling")
    autoscaling.enable_metrics_collection(AutoScalingGroupName="fleet", Granularity="1Minute")
    autoscaling.disable_metrics_collection(AutoScalingGroupName="fleet", Metrics=["GroupMinSize"])
    start = moment(world.wall).replace(tzinfo=UTC)
    world.advance(60)
    wanted = {"GroupInServiceInstances": 2, "GroupTerminatingInstances": 1, "GroupTotalInstances": 3, "GroupMaxSize": 5}
    for name, value in wanted.items():
        [point] = world.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/AutoScaling",
            MetricName=name,
            Dimensions=[{"Name": "AutoScalingGroupName", "Value": "fleet"}],
            StartTime=start,
            EndTime=start + timedelta(minutes=1),
            Period=60,
            Statistics=["Average"],
        )["Datapoints"]
        assert (point["Average"], point["Timestamp"]) == (value, start)
    names = {entry["MetricName"] for entry in world.client("cloudwatch").list_metrics(Namespace="AWS/AutoScaling")["Metrics"]}
    assert "GroupMinSize" not in names
    assert len(names) == 12


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_cpu_time_of_a_control_group(tmp_path: Path, kind: str) -> None:
    if kind == "v1":
        group = tmp_path / "cpu,cpuacct" / "box"
        group.mkdir(parents=True)
        (group / "cpuacct.usage").write_text("2500000000\n")
        membership = "5:memory:/box\n4:cpu,cpuacct:/box\n0::/box/init.scope\n"
    else:
        group = tmp_path / "box"
        group.mkdir()
        (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
        membership = "0::/box/init.scope\n"
    assert cpu_seconds(membership, tmp_path) == 2.5


def test_a_served_twin_measures_its_instances(client: Callable[[str], Any]) -> None:
    # Something to do, but not so much that others suffer: an idle machine's minute may round to nothing.
    work = "#!/bin/sh\ntimeout 600 sh -c 'while :; do seq 2000 >/dev/null; sleep 0.05; done' &\n"
    instance = launch(client("ec2"), UserData=work)["InstanceId"]
    cloudwatch = client("cloudwatch")

    def busy() -> Any:
        now = datetime.now(UTC)
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            Dimensions=[{"Name": "InstanceId", "Value": instance}],
            StartTime=now - timedelta(minutes=10),
            EndTime=now,
            Period=60,
            Statistics=["Average", "SampleCount"],
        )["Datapoints"]
        return next((point for point in found if point["Average"] > 0), None)

    measured = until(busy, 300)
    assert measured["Average"] <= 100
    assert (measured["Unit"], measured["SampleCount"]) == ("Percent", 1)
    client("ec2").terminate_instances(InstanceIds=[instance])
