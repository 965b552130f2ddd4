"""Fault Injection Service: templates that are checked, experiments that run, faults that end with them. In simulated time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from common import client as client_here
from common import until
from faults_world import World, experimenting, in_zone, policy, wait

from twin.control.experiments import Experiments
from twin.settings import Settings

REFERENCE = "https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html"
EXPERIMENTS = "https://docs.aws.amazon.com/fis/latest/userguide/experiments.html"
STOP = "https://docs.aws.amazon.com/fis/latest/userguide/stop-conditions.html"
TARGETS = "https://docs.aws.amazon.com/fis/latest/userguide/targets.html"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with experimenting(tmp_path) as made:
        yield made


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
    autoscaling = client_here("autoscaling")
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


def test_a_service_is_unavailable_until_the_action_ends(world: World) -> None:
    action = {"actionId": "twin:service:unavailable", "parameters": {"service": "sns", "duration": "PT1M"}}
    world.may("logs:GetLogEvents")
    found = world.start({"down": action})
    world.step()
    assert world.region.faults.unavailable == {"sns"}
    world.step(61)
    assert world.status(found) == "completed"
    assert not world.region.faults.unavailable


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"actions": {"a": {"actionId": "aws:ssm:send-command", "parameters": {"duration": "PT1M"}}}},
            "not supported by the twin",
        ),
        ({"actions": {"a": {"actionId": "aws:fis:wait"}}}, "requires the parameter duration"),
        ({"actions": {"a": wait("5 minutes")}}, "ISO 8601"),
        (
            {"actions": {"a": {"actionId": "twin:service:unavailable", "parameters": {"service": "tea", "duration": "PT1M"}}}},
            "tea is no service",
        ),
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


@pytest.mark.rule(
    "faults",
    "aws:ec2:api-insufficient-instance-capacity-error refuses RunInstances and StartInstances of its roles in its zones alone.",
    REFERENCE,
)
def test_a_role_without_capacity(client: Callable[[str], Any], served: Settings) -> None:
    iam, ec2, injector = client("iam"), client("ec2"), client("fis")
    operator = client("sts").get_caller_identity()["Arn"]
    roles = {}
    for name, principal in (("launcher", {"AWS": operator}), ("injector", {"Service": "fis.amazonaws.com"})):
        trust = policy({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})
        roles[name] = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        everything = policy({"Effect": "Allow", "Action": "*", "Resource": "*"})
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=everything)
    key = client("sts").assume_role(RoleArn=roles["launcher"], RoleSessionName="test")["Credentials"]
    session: Any = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], region_name=served.region)
    as_role = session.client("ec2", endpoint_url=served.endpoint_url)
    vpc = ec2.create_vpc(CidrBlock="10.39.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.39.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"]
        for n, zone in enumerate("ab")
    ]
    run = {"ImageId": ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"], "MinCount": 1, "MaxCount": 1}
    action = {
        "actionId": "aws:ec2:api-insufficient-instance-capacity-error",
        "targets": {"Roles": "who"},
        "parameters": {"availabilityZoneIdentifiers": "us-east-1a", "duration": "PT10M", "percentage": "100"},
    }
    template = injector.create_experiment_template(
        description="no capacity",
        roleArn=roles["injector"],
        stopConditions=[{"source": "none"}],
        targets={"who": {"resourceType": "aws:iam:role", "resourceArns": [roles["launcher"]], "selectionMode": "ALL"}},
        actions={"capacity": action},
    )["experimentTemplate"]["id"]
    stopped = [ec2.run_instances(**run, SubnetId=subnet)["Instances"][0]["InstanceId"] for subnet in subnets]
    ec2.get_waiter("instance_running").wait(InstanceIds=stopped)
    ec2.stop_instances(InstanceIds=stopped)
    ec2.get_waiter("instance_stopped").wait(InstanceIds=stopped)
    started = injector.start_experiment(experimentTemplateId=template)["experiment"]["id"]

    def status() -> str:
        return str(injector.get_experiment(id=started)["experiment"]["state"]["status"])

    def action_runs() -> bool:
        actions = injector.get_experiment(id=started)["experiment"]["actions"]
        return bool(actions["capacity"]["state"]["status"] == "running")

    until(action_runs)
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        as_role.run_instances(**run, SubnetId=subnets[0])
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        as_role.start_instances(InstanceIds=stopped[:1])
    as_role.start_instances(InstanceIds=stopped[1:])
    ec2.start_instances(InstanceIds=stopped[:1])
    launched = [
        *stopped,
        as_role.run_instances(**run, SubnetId=subnets[1])["Instances"][0]["InstanceId"],
        ec2.run_instances(**run, SubnetId=subnets[0])["Instances"][0]["InstanceId"],
    ]
    injector.stop_experiment(id=started)
    until(lambda: status() == "stopped")
    launched.append(as_role.run_instances(**run, SubnetId=subnets[0])["Instances"][0]["InstanceId"])
    ec2.terminate_instances(InstanceIds=launched)
