"""Fault Injection Service: templates that are checked, experiments that run, faults that end with them. In simulated time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import client, undoing
from moto import mock_aws

from twin.bodies.podman import Podman
from twin.control.experiments import Experiments
from twin.region import fis
from twin.region.ec2 import set_state
from twin.region.region import Region
from twin.settings import Settings

REFERENCE = "https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html"
EXPERIMENTS = "https://docs.aws.amazon.com/fis/latest/userguide/experiments.html"
STOP = "https://docs.aws.amazon.com/fis/latest/userguide/stop-conditions.html"
TARGETS = "https://docs.aws.amazon.com/fis/latest/userguide/targets.html"
NONE = [{"source": "none"}]


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class World:
    def __init__(self, region: Region) -> None:
        self.region, self.now = region, 1000.0
        region.clock = lambda: self.now
        self.fis, self.ec2, self.cloudwatch, iam = map(client, ("fis", "ec2", "cloudwatch", "iam"))
        self.iam = iam
        trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self.role = iam.create_role(RoleName="experiment", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        self.may("*")
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.image = self.ec2.register_image(Name="any")["ImageId"]
        self.subnets, self.instances = {}, {}
        for number, zone in enumerate("abc"):
            made = self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")
            self.subnets[zone] = made["Subnet"]["SubnetId"]
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "Tier", "Value": "app"}]}]
            run = {"ImageId": self.image, "MinCount": 2, "MaxCount": 2, "SubnetId": self.subnets[zone]}
            made = self.ec2.run_instances(**run, TagSpecifications=tags)["Instances"]
            self.instances[zone] = [entry["InstanceId"] for entry in made]
        self.cloudwatch.put_metric_alarm(
            AlarmName="errors",
            MetricName="Errors",
            Namespace="Test",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
        self.alarm = self.cloudwatch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"][0]["AlarmArn"]
        self.loop = Experiments(region)

    def may(self, *actions: str) -> None:
        """What the experiments' role is allowed, instead of what it was before."""
        document = policy({"Effect": "Allow", "Action": list(actions), "Resource": "*"})
        self.iam.put_role_policy(RoleName="experiment", PolicyName="faults", PolicyDocument=document)

    def template(self, actions: dict[str, Any], targets: dict[str, Any] | None = None, **options: Any) -> str:
        options = {"description": "test", "roleArn": self.role, "stopConditions": NONE, **options}
        made = self.fis.create_experiment_template(actions=actions, targets=targets or {}, **options)
        return str(made["experimentTemplate"]["id"])

    def start(self, actions: dict[str, Any], targets: dict[str, Any] | None = None, **options: Any) -> str:
        started = self.fis.start_experiment(experimentTemplateId=self.template(actions, targets, **options))
        assert started["experiment"]["state"]["status"] == "initiating"
        self.step()
        return str(started["experiment"]["id"])

    def step(self, seconds: float = 0.5) -> None:
        self.now += seconds
        self.loop.tick()

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.fis.get_experiment(id=experiment_id)["experiment"]
        return found

    def status(self, experiment_id: str) -> str:
        return str(self.experiment(experiment_id)["state"]["status"])

    def states(self, zone: str) -> list[str]:
        return [self.region.ec2.get_instance(instance_id).state for instance_id in self.instances[zone]]

    def settle(self) -> None:
        """Stand in for the bodies: what was asked to change has changed."""
        after = {"stopping": "stopped", "shutting-down": "terminated", "pending": "running"}
        for instance in self.region.ec2.all_instances():
            if instance.state in after:
                set_state(instance, after[instance.state])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = Settings(state=tmp_path, store=tmp_path / "store", name="test-fis", slot=64)
    with undoing(), mock_aws():
        region = Region(settings, Podman(settings))
        network: Any = SimpleNamespace(namespace=lambda resource_id: f"test-fis.{resource_id}")
        region.network = network
        fis.install(region)
        yield World(region)


def wait(seconds: str = "PT1M", **options: Any) -> dict[str, Any]:
    return {"actionId": "aws:fis:wait", "parameters": {"duration": seconds}, **options}


def in_zone(zone: str, mode: str = "ALL") -> dict[str, Any]:
    return {
        "resourceType": "aws:ec2:instance",
        "resourceTags": {"Tier": "app"},
        "filters": [{"path": "Placement.AvailabilityZone", "values": [f"us-east-1{zone}"]}],
        "selectionMode": mode,
    }


@pytest.mark.rule(
    "faults", "An experiment goes from initiating to running to completed when its actions have ended.", EXPERIMENTS
)
@pytest.mark.rule("faults", "An action starts when every action that it names in startAfter has completed.", REFERENCE)
def test_actions_run_in_their_order(world: World) -> None:
    found = world.start({"first": wait("PT30S"), "second": wait("PT20S", startAfter=["first"])})
    world.step()
    state = {name: action["state"]["status"] for name, action in world.experiment(found)["actions"].items()}
    assert (world.status(found), state) == ("running", {"first": "running", "second": "pending"})
    world.step(30)
    world.step()
    state = {name: action["state"]["status"] for name, action in world.experiment(found)["actions"].items()}
    assert state == {"first": "completed", "second": "running"}
    world.step(21)
    ended = world.experiment(found)
    assert ended["state"]["status"] == "completed"
    assert ended["endTime"] >= ended["startTime"]


@pytest.mark.rule("faults", "aws:ec2:stop-instances stops the instances that tags and filters select, and no others.", TARGETS)
@pytest.mark.rule("faults", "With startInstancesAfterDuration the action starts them again at its end.", REFERENCE)
def test_the_instances_of_a_zone_stop_and_start_again(world: World) -> None:
    action = {
        "actionId": "aws:ec2:stop-instances",
        "targets": {"Instances": "zone"},
        "parameters": {"startInstancesAfterDuration": "PT2M"},
    }
    found = world.start({"stop": action}, {"zone": in_zone("a")})
    world.step()
    world.settle()
    assert (world.states("a"), world.states("b")) == (["stopped"] * 2, ["running"] * 2)
    resolved = world.fis.list_experiment_resolved_targets(experimentId=found)["resolvedTargets"]
    assert {entry["targetInformation"]["arn"].rsplit("/", 1)[1] for entry in resolved} == set(world.instances["a"])
    world.step(119)
    assert world.status(found) == "running"
    world.step(2)
    world.settle()
    assert (world.status(found), world.states("a")) == ("completed", ["running"] * 2)


@pytest.mark.rule("faults", "COUNT(n) and PERCENT(n) choose that part of the matching resources.", TARGETS)
@pytest.mark.parametrize(("mode", "count"), [("COUNT(1)", 1), ("PERCENT(50)", 1), ("COUNT(9)", 2), ("ALL", 2)])
def test_a_part_of_the_targets(world: World, mode: str, count: int) -> None:
    action = {"actionId": "aws:ec2:terminate-instances", "targets": {"Instances": "zone"}}
    found = world.start({"end": action}, {"zone": in_zone("b", mode)})
    world.step()
    assert world.states("b").count("running") == 2 - count
    world.settle()
    world.step()
    assert world.status(found) == "completed"


@pytest.mark.rule(
    "faults", "With no resource for a target the experiment fails, unless emptyTargetResolutionMode is skip.", TARGETS
)
def test_empty_targets(world: World) -> None:
    actions = {"end": {"actionId": "aws:ec2:terminate-instances", "targets": {"Instances": "zone"}}}
    nobody = {"zone": {**in_zone("a"), "resourceTags": {"Tier": "nobody's"}}}
    failed = world.experiment(world.start(actions, nobody))
    assert failed["state"]["status"] == "failed"
    assert "empty set" in failed["state"]["reason"]
    skipped = world.start(actions, nobody, experimentOptions={"emptyTargetResolutionMode": "skip"})
    world.step()
    assert world.experiment(skipped)["actions"]["end"]["state"]["status"] == "skipped"
    assert world.status(skipped) == "completed"


@pytest.mark.rule("faults", "A stop condition's alarm in ALARM stops the experiment, and its actions end.", STOP)
def test_an_alarm_stops_the_experiment(world: World) -> None:
    condition = [{"source": "aws:cloudwatch:alarm", "value": world.alarm}]
    capacity = {
        "actionId": "aws:ec2:api-insufficient-instance-capacity-error",
        "targets": {"Roles": "who"},
        "parameters": {"availabilityZoneIdentifiers": "us-east-1a", "duration": "PT10M", "percentage": "100"},
    }
    who = {"who": {"resourceType": "aws:iam:role", "resourceArns": [world.role], "selectionMode": "ALL"}}
    found = world.start({"capacity": capacity, "later": wait(startAfter=["capacity"])}, who, stopConditions=condition)
    world.step()
    assert world.region.faults.refuses_launch("us-east-1a", world.role)
    world.cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="too many")
    world.step()
    stopped = world.experiment(found)
    assert stopped["state"]["status"] == "stopped"
    assert world.alarm in stopped["state"]["reason"]
    assert {name: action["state"]["status"] for name, action in stopped["actions"].items()} == {
        "capacity": "stopped",
        "later": "cancelled",
    }
    assert not world.region.faults.refuses_launch("us-east-1a", world.role)


@pytest.mark.rule("faults", "An experiment does not start while a stop condition's alarm is in ALARM.", STOP)
def test_no_start_in_alarm(world: World) -> None:
    world.cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="too many")
    found = world.start({"wait": wait()}, stopConditions=[{"source": "aws:cloudwatch:alarm", "value": world.alarm}])
    assert world.status(found) == "failed"


@pytest.mark.rule(
    "faults", "StopExperiment ends the running actions; an experiment that has ended can't be stopped.", EXPERIMENTS
)
def test_stopping(world: World) -> None:
    subnet = f"arn:aws:ec2:us-east-1:123456789012:subnet/{world.subnets['a']}"
    target = {"net": {"resourceType": "aws:ec2:subnet", "resourceArns": [subnet], "selectionMode": "ALL"}}
    cut = {
        "actionId": "aws:network:disrupt-connectivity",
        "targets": {"Subnets": "net"},
        "parameters": {"scope": "all", "duration": "PT2M"},
    }
    found = world.start({"cut": cut}, target)
    world.step()
    assert world.region.faults.disrupted == {world.subnets["a"]: "all"}
    assert world.fis.stop_experiment(id=found)["experiment"]["state"]["status"] == "stopping"
    world.step()
    assert world.status(found) == "stopped"
    assert not world.region.faults.disrupted
    with pytest.raises(ClientError, match="has ended already"):
        world.fis.stop_experiment(id=found)


@pytest.mark.rule("faults", "aws:ec2:asg-insufficient-instance-capacity-error refuses launches of its groups alone.", REFERENCE)
def test_a_capacity_fault_is_its_targets_alone(world: World) -> None:
    autoscaling = client("autoscaling")
    made = world.ec2.create_launch_template(LaunchTemplateName="any", LaunchTemplateData={"ImageId": world.image})
    template = made["LaunchTemplate"]["LaunchTemplateId"]
    for name in ("one", "two"):
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, MaxSize=3, VPCZoneIdentifier=world.subnets["a"],
            LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
            Tags=[{"Key": "Name", "Value": name, "PropagateAtLaunch": False}],
        )  # fmt: skip
    groups = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    arns = {group["AutoScalingGroupName"]: group["AutoScalingGroupARN"] for group in groups}
    action = {
        "actionId": "aws:ec2:asg-insufficient-instance-capacity-error",
        "targets": {"AutoScalingGroups": "group"},
        "parameters": {"availabilityZoneIdentifiers": "us-east-1a, us-east-1b", "duration": "PT5M"},
    }
    target = {"resourceType": "aws:ec2:autoscaling-group", "resourceTags": {"Name": "one"}, "selectionMode": "ALL"}
    found = world.start({"capacity": action}, {"group": target})
    world.step()

    def refuses(zone: str, arn: str) -> bool:
        return world.region.faults.refuses_launch(zone, arn)

    assert refuses("us-east-1a", arns["one"])
    assert refuses("us-east-1b", arns["one"])
    assert not refuses("us-east-1c", arns["one"])
    assert not refuses("us-east-1a", arns["two"])
    world.step(301)
    assert world.status(found) == "completed"
    assert not refuses("us-east-1a", arns["one"])


def test_a_zone_without_power_is_dark_until_the_action_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []
    monkeypatch.setattr("twin.bodies.power.cut", lambda names: killed.extend(names) or len(killed))
    action = {"actionId": "twin:zone:power-loss", "parameters": {"availabilityZoneIdentifier": "us-east-1a", "duration": "PT1M"}}
    found = world.start({"dark": action})
    world.step()
    assert world.region.faults.dark == {"us-east-1a"}
    assert {f"test-fis.{instance}" for instance in world.instances["a"]} <= set(killed)
    assert not {f"test-fis.{instance}" for instance in world.instances["b"]} & set(killed)
    world.step(61)
    assert world.status(found) == "completed"
    assert not world.region.faults.dark


def test_a_restarted_region_knows_its_faults_again(world: World) -> None:
    action = {"actionId": "twin:zone:power-loss", "parameters": {"availabilityZoneIdentifier": "us-east-1a", "duration": "PT5M"}}
    world.may("logs:GetLogEvents")  # no API has this effect, so that no permission is asked for
    world.start({"dark": action})
    world.step()
    world.region.faults = type(world.region.faults)()
    Experiments(world.region).adopt()
    assert world.region.faults.dark == {"us-east-1a"}


@pytest.mark.rule(
    "faults", "An action that can't be carried out fails the experiment, and later actions don't begin.", EXPERIMENTS
)
def test_a_failing_action_fails_the_experiment(world: World) -> None:
    check = {
        "actionId": "aws:cloudwatch:assert-alarm-state",
        "parameters": {"alarmArns": world.alarm, "alarmStates": "ALARM"},
    }
    found = world.start({"check": check, "then": wait(startAfter=["check"])})
    world.step()
    failed = world.experiment(found)
    assert failed["state"]["status"] == "failed"
    assert "not in ALARM" in failed["state"]["reason"]
    assert failed["actions"]["then"]["state"]["status"] == "cancelled"


CAPACITY = {"availabilityZoneIdentifiers": "us-east-1a", "duration": "PT1M", "percentage": "100"}
NETWORK = [f"ec2:{name}NetworkAcl" for name in ("Create", "Delete")] + [
    "ec2:CreateNetworkAclEntry",
    "ec2:CreateTags",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:ReplaceNetworkAclAssociation",
]


@pytest.mark.rule("faults", "An action for which the experiment's role lacks a permission fails the experiment.", REFERENCE)
@pytest.mark.parametrize(
    ("action", "key", "parameters", "needed"),
    [
        ("aws:ec2:stop-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:StopInstances"]),
        (
            "aws:ec2:stop-instances",
            "Instances",
            {"startInstancesAfterDuration": "PT1M"},
            ["ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances"],
        ),
        ("aws:ec2:terminate-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:TerminateInstances"]),
        ("aws:ec2:reboot-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:RebootInstances"]),
        ("aws:ec2:api-insufficient-instance-capacity-error", "Roles", CAPACITY, ["ec2:InjectApiError"]),
        ("aws:network:disrupt-connectivity", "Subnets", {"scope": "all", "duration": "PT1M"}, NETWORK),
    ],
)
def test_a_missing_permission_fails_exactly_there(
    world: World, action: str, key: str, parameters: dict[str, str], needed: list[str]
) -> None:
    subnet = f"arn:aws:ec2:us-east-1:123456789012:subnet/{world.subnets['a']}"
    targets = {
        "Instances": in_zone("a"),
        "Roles": {"resourceType": "aws:iam:role", "resourceArns": [world.role], "selectionMode": "ALL"},
        "Subnets": {"resourceType": "aws:ec2:subnet", "resourceArns": [subnet], "selectionMode": "ALL"},
    }
    wanted = {"act": {"actionId": action, "targets": {key: "them"}, "parameters": parameters}, "then": wait(startAfter=["act"])}
    for missing in needed:
        world.may(*(name for name in needed if name != missing), "logs:GetLogEvents")
        found = world.experiment(world.start(wanted, {"them": targets[key]}))
        assert found["state"]["status"] in ("running", "failed")
        world.step()
        failed = world.experiment(found["id"])
        assert failed["state"]["status"] == "failed"
        assert f"is not authorized to perform: {missing}" in failed["state"]["reason"]
        assert failed["actions"]["then"]["state"]["status"] == "cancelled"
        assert world.states("a") == ["running"] * 2
    world.may(*needed)
    found = world.start(wanted, {"them": targets[key]})
    world.step()
    assert world.experiment(found)["actions"]["act"]["state"]["status"] in ("running", "completed")


@pytest.mark.rule("faults", "The condition keys of ec2:InjectApiError narrow it to an action and its targets.", REFERENCE)
@pytest.mark.parametrize(("arn", "allowed"), [("arn:aws:iam::123456789012:role/exp*", True), ("arn:aws:iam::*:role/b", False)])
def test_injecting_can_be_narrowed(world: World, arn: str, allowed: bool) -> None:
    condition = {
        "StringEquals": {"ec2:FisActionId": "aws:ec2:api-insufficient-instance-capacity-error"},
        "ForAllValues:ArnLike": {"ec2:FisTargetArns": [arn]},
    }
    document = policy({"Effect": "Allow", "Action": "ec2:InjectApiError", "Resource": "*", "Condition": condition})
    world.iam.put_role_policy(RoleName="experiment", PolicyName="faults", PolicyDocument=document)
    action = {
        "actionId": "aws:ec2:api-insufficient-instance-capacity-error",
        "targets": {"Roles": "who"},
        "parameters": CAPACITY,
    }
    target = {"resourceType": "aws:iam:role", "resourceArns": [world.role], "selectionMode": "ALL"}
    found = world.start({"capacity": action}, {"who": target})
    world.step()
    assert world.status(found) == ("running" if allowed else "failed")


@pytest.mark.rule(
    "faults",
    "The experiment's role must trust fis.amazonaws.com.",
    "https://docs.aws.amazon.com/fis/latest/userguide/getting-started-iam-service-role.html",
)
def test_a_role_that_does_not_trust_fis(world: World) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    world.iam.update_assume_role_policy(RoleName="experiment", PolicyDocument=policy(trust))
    failed = world.experiment(world.start({"wait": wait()}))
    assert failed["state"]["status"] == "failed"
    assert failed["state"]["error"]["code"] == "UnauthorizedOperation"
    assert "can't be assumed" in failed["state"]["reason"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"actions": {"a": {"actionId": "aws:ssm:send-command", "parameters": {"duration": "PT1M"}}}},
            "not supported by the twin",
        ),
        ({"actions": {"a": {"actionId": "aws:fis:wait"}}}, "requires the parameter duration"),
        ({"actions": {"a": wait("5 minutes")}}, "ISO 8601"),
        ({"actions": {"a": wait("PT13H")}}, "12 hours"),
        ({"actions": {"a": wait(startAfter=["b"])}}, "startAfter names b"),
        ({"actions": {"a": wait(startAfter=["b"]), "b": wait(startAfter=["a"])}}, "circle"),
        ({"actions": {"a": {"actionId": "aws:ec2:stop-instances"}}}, "one target, under the key Instances"),
        ({"targets": {"t": in_zone("a")}}, "not used by any action"),
        ({"targets": {"t": {**in_zone("a"), "selectionMode": "SOME"}}}, "selectionMode"),
        ({"targets": {"t": {**in_zone("a"), "resourceType": "aws:eks:cluster"}}}, "not supported by the twin"),
        (
            {"targets": {"t": {**in_zone("a"), "filters": [{"path": "Hypervisor", "values": ["xen"]}]}}},
            "not supported by the twin",
        ),
        ({"stopConditions": [{"source": "aws:cloudwatch:alarm"}]}, "ARN"),
    ],
)
def test_what_can_not_be_carried_out_is_refused_at_once(world: World, change: dict[str, Any], words: str) -> None:
    wanted: dict[str, Any] = {"actions": {"a": wait()}, **change}
    with pytest.raises(ClientError, match=words) as refused:
        world.template(**wanted)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
