"""The life of a group's instances: hooks, draining, standby, attaching and detaching, termination, and what is told of it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asg_world import GROUP, World, living
from botocore.exceptions import ClientError
from common import client

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
HOOKS = f"{GUIDE}/lifecycle-hooks-overview.html"
EVENTS = f"{GUIDE}/ec2-auto-scaling-event-reference.html"
STANDBY = f"{GUIDE}/as-enter-exit-standby.html"
ATTACH = f"{GUIDE}/ec2-auto-scaling-detach-attach-instances.html"
LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
AREA = "lifecycle"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


def _hook(world: World, transition: str, name: str = "wait", **options: Any) -> None:
    world.auto.put_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName=name, LifecycleTransition=transition, **options)


def _complete(world: World, result: str, name: str = "wait", **which: str) -> None:
    world.auto.complete_lifecycle_action(
        AutoScalingGroupName=GROUP, LifecycleHookName=name, LifecycleActionResult=result, **which
    )


@pytest.mark.rule(AREA, "A launch hook holds an instance in Pending:Wait until its action is completed with CONTINUE.", HOOKS)
@pytest.mark.rule(AREA, "A completed launch passes Pending:Proceed before it is in service.", HOOKS)
def test_a_launch_waits_for_its_hook(world: World) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING)
    world.grow(1)
    world.run(100)
    (waiting,) = world.ids("Pending:Wait")
    assert world.activities()[0]["StatusCode"] == "MidLifecycleAction"
    _complete(world, "CONTINUE", InstanceId=waiting)
    passed = []
    world.watch.append(lambda: passed.extend(member.lifecycle_state for member in world.members()))
    world.run(2)
    assert passed == ["Pending:Proceed", "InService"]
    assert world.activities()[0]["StatusCode"] == "Successful"


@pytest.mark.rule(AREA, "A launch whose action is abandoned is terminated and another instance launched.", HOOKS)
def test_an_abandoned_launch_is_replaced(world: World) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING)
    world.grow(1)
    world.run(3)
    (first,) = world.ids("Pending:Wait")
    _complete(world, "ABANDON", InstanceId=first)
    world.run(12)
    (second,) = world.ids("Pending:Wait")
    assert second != first
    abandoned = next(entry for entry in world.activities() if entry["StatusCode"] == "Cancelled")
    assert "was abandoned: Lifecycle Action Completed with ABANDON Result" in abandoned["StatusMessage"]
    assert world.region.ec2.get_instance(first).state == "terminated"
    assert world.told("EC2 Instance Launch Unsuccessful")[0]["EC2InstanceId"] == first


@pytest.mark.rule(
    AREA, "When the heartbeat timeout passes, the hook's default result applies.", f"{API}/API_PutLifecycleHook.html"
)
@pytest.mark.parametrize(("default", "state"), [("CONTINUE", "InService"), ("ABANDON", None)])
def test_a_hook_times_out(world: World, default: str, state: str | None) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING, HeartbeatTimeout=60, DefaultResult=default)
    world.grow(1)
    world.run(3)
    (waiting,) = world.ids("Pending:Wait")
    world.run(55)
    assert world.ids("Pending:Wait") == [waiting]
    world.run(10)
    assert {member.instance_id: member.lifecycle_state for member in world.members()}.get(waiting) == state
    if state is None:
        assert any("Heartbeat Timeout" in entry.get("StatusMessage", "") for entry in world.activities())


@pytest.mark.rule(AREA, "A heartbeat starts the timeout anew.", f"{API}/API_RecordLifecycleActionHeartbeat.html")
def test_a_heartbeat_prolongs_the_wait(world: World) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING, HeartbeatTimeout=60)
    world.grow(1)
    world.run(50)
    (waiting,) = world.ids("Pending:Wait")
    world.auto.record_lifecycle_action_heartbeat(AutoScalingGroupName=GROUP, LifecycleHookName="wait", InstanceId=waiting)
    world.run(50)
    assert world.ids("Pending:Wait") == [waiting]
    world.run(20)
    assert waiting not in world.ids("Pending:Wait")


@pytest.mark.rule(
    AREA,
    "No heartbeat keeps an instance waiting longer than 100 heartbeat timeouts, 48 hours at most.",
    f"{API}/API_LifecycleHook.html",
)
def test_the_global_timeout_ends_a_wait(world: World) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING, HeartbeatTimeout=30, DefaultResult="CONTINUE")
    _hook(world, LAUNCHING, "long", HeartbeatTimeout=7200)
    described = world.auto.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"]
    assert [hook["GlobalTimeout"] for hook in described] == [3000, 172800]
    world.auto.delete_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName="long")
    world.grow(1)
    world.run(2)
    (waiting,) = world.ids("Pending:Wait")
    for _ in range(149):
        world.auto.record_lifecycle_action_heartbeat(AutoScalingGroupName=GROUP, LifecycleHookName="wait", InstanceId=waiting)
        world.run(20)
    assert world.ids("Pending:Wait") == [waiting]
    world.auto.record_lifecycle_action_heartbeat(AutoScalingGroupName=GROUP, LifecycleHookName="wait", InstanceId=waiting)
    world.run(24)  # 3000 seconds are over, the last heartbeat's 30 are not
    assert world.ids("InService") == [waiting]


@pytest.mark.rule(AREA, "With several launch hooks an instance enters service when all are completed.", HOOKS)
def test_all_hooks_must_be_completed(world: World) -> None:
    world.group(desired=0)
    _hook(world, LAUNCHING, "first")
    _hook(world, LAUNCHING, "second")
    world.grow(1)
    world.run(3)
    (waiting,) = world.ids("Pending:Wait")
    _complete(world, "CONTINUE", "first", InstanceId=waiting)
    world.run(5)
    assert world.ids("Pending:Wait") == [waiting]
    _complete(world, "CONTINUE", "second", InstanceId=waiting)
    world.run(3)
    assert world.ids("InService") == [waiting]


@pytest.mark.rule("draining", "A terminating instance is deregistered and drains before its hook waits.", HOOKS)
@pytest.mark.rule(AREA, "A termination hook holds an instance in Terminating:Wait, the instance still running.", HOOKS)
@pytest.mark.rule("draining", "While an instance drains, its activity says so, and it keeps running.", f"{API}/API_Activity.html")
def test_a_termination_drains_and_then_waits(world: World) -> None:
    world.group(desired=1)
    arn = world.target_group()
    world.auto.attach_load_balancer_target_groups(AutoScalingGroupName=GROUP, TargetGroupARNs=[arn])
    world.balancers.delay = 30.0
    world.run(2)
    (leaving,) = world.ids()
    targets = world.region.backend("elbv2").target_groups[arn].targets
    assert list(targets) == [leaving]
    _hook(world, TERMINATING)
    world.grow(0)
    world.run(2)
    assert not targets
    assert world.ids("Terminating") == [leaving]
    assert world.activities()[0]["StatusCode"] == "WaitingForELBConnectionDraining"
    assert world.region.ec2.get_instance(leaving).state == "running"
    world.run(31)
    assert world.ids("Terminating:Wait") == [leaving]
    assert world.activities()[0]["StatusCode"] == "MidLifecycleAction"
    assert world.region.ec2.get_instance(leaving).state == "running"
    _complete(world, "CONTINUE", InstanceId=leaving)
    world.run(4)
    assert not world.record.instance_states
    assert world.activities()[0]["StatusCode"] == "Successful"


@pytest.mark.rule(AREA, "A terminating instance is terminated whatever the result; ABANDON ends the waits of other hooks.", HOOKS)
def test_an_abandoned_termination_goes_on(world: World) -> None:
    world.group(desired=1)
    _hook(world, TERMINATING, "first")
    _hook(world, TERMINATING, "second")
    (leaving,) = world.ids()
    world.grow(0)
    world.run(2)
    _complete(world, "ABANDON", "first", InstanceId=leaving)
    world.run(4)
    assert not world.record.instance_states


@pytest.mark.rule(
    AREA, "Deleting a hook ends its waits: launches are abandoned, terminations go on.", f"{API}/API_DeleteLifecycleHook.html"
)
def test_deleting_a_hook_ends_its_waits(world: World) -> None:
    world.group(desired=1)
    _hook(world, TERMINATING, "end")
    world.grow(0)
    world.run(2)
    _hook(world, LAUNCHING, "begin")
    world.grow(1)
    world.run(2)
    (launched,) = world.ids("Pending:Wait")
    assert world.ids("Terminating:Wait")
    for name in ("begin", "end"):
        world.auto.delete_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName=name)
    world.run(15)
    (second,) = world.ids("InService")
    assert second != launched
    assert len(world.record.instance_states) == 1


@pytest.mark.rule(
    "alarms and events", "A waiting instance is told to EventBridge, with the token that completes the action.", EVENTS
)
@pytest.mark.rule(
    AREA,
    "The hook's queue or topic gets the same message, and a test message when it is set.",
    f"{GUIDE}/prepare-for-lifecycle-notifications.html",
)
def test_hooks_notify(world: World) -> None:
    world.group(desired=0)
    sqs, sns = client("sqs"), client("sns")
    queue = sqs.create_queue(QueueName="hooks")["QueueUrl"]
    topic = sns.create_topic(Name="hooks")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    role = _role(arn, topic)
    _hook(world, LAUNCHING, NotificationTargetARN=arn, RoleARN=role, NotificationMetadata="m")
    _hook(world, LAUNCHING, "topic", NotificationTargetARN=topic, RoleARN=role)

    def messages() -> list[dict[str, Any]]:
        got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for each in got:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
        return [json.loads(each["Body"]) for each in got]

    assert [message["Event"] for message in messages()] == ["autoscaling:TEST_NOTIFICATION"] * 2
    world.grow(1)
    world.run(3)
    got = {message["LifecycleHookName"]: message for message in messages()}
    told = {detail["LifecycleHookName"]: detail for detail in world.told("EC2 Instance-launch Lifecycle Action")}
    assert set(got) == set(told) == {"wait", "topic"}
    assert got["wait"]["LifecycleActionToken"] == told["wait"]["LifecycleActionToken"]
    assert told["wait"]["NotificationMetadata"] == "m"
    assert told["wait"]["LifecycleTransition"] == LAUNCHING
    for name in told:
        _complete(world, "CONTINUE", name, LifecycleActionToken=told[name]["LifecycleActionToken"])
    world.run(2)
    assert world.ids("InService") == [told["wait"]["EC2InstanceId"]]


def test_a_hook_whose_role_may_not_notify_is_refused(world: World) -> None:
    world.group(desired=0)
    sqs = client("sqs")
    urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("allowed", "other")]
    arns = [sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"] for url in urls]
    role = _role(arns[0])
    with pytest.raises(ClientError, match=r"Unable to publish test message to notification target .*other using IAM role"):
        _hook(world, LAUNCHING, NotificationTargetARN=arns[1], RoleARN=role)
    assert world.auto.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"] == []
    _hook(world, LAUNCHING, NotificationTargetARN=arns[0], RoleARN=role)
    with pytest.raises(ClientError, match="Unable to publish"):
        _hook(world, LAUNCHING, NotificationTargetARN=arns[1], RoleARN=role)
    (hook,) = world.auto.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"]
    assert hook["NotificationTargetARN"] == arns[0]


def _role(*targets: str) -> str:
    """A role that may send to the queues and topics."""
    iam = client("iam")
    arn = str(iam.create_role(RoleName="hooks", AssumeRolePolicyDocument="{}")["Role"]["Arn"])
    policy = {"Statement": [{"Effect": "Allow", "Action": ["sqs:SendMessage", "sns:Publish"], "Resource": list(targets)}]}
    iam.put_role_policy(RoleName="hooks", PolicyName="notify", PolicyDocument=json.dumps({"Version": "2012-10-17", **policy}))
    return arn


def test_hooks_can_come_with_the_group(world: World) -> None:
    specification = {"LifecycleHookName": "early", "LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 45}
    world.group(desired=1, settle=False, LifecycleHookSpecificationList=[specification])
    world.run(4)
    assert len(world.ids("Pending:Wait")) == 1
    (hook,) = world.auto.describe_lifecycle_hooks(AutoScalingGroupName=GROUP)["LifecycleHooks"]
    assert (hook["LifecycleHookName"], hook["HeartbeatTimeout"], hook["DefaultResult"]) == ("early", 45, "ABANDON")
    assert "RoleARN" not in hook


@pytest.mark.rule(AREA, "Hooks and actions that AWS refuses are a ValidationError.", f"{API}/API_CompleteLifecycleAction.html")
def test_bad_hooks_are_refused(world: World) -> None:
    world.group(desired=1)
    for options, words in (
        ({"HeartbeatTimeout": 29}, "30 to 7200"),
        ({"HeartbeatTimeout": 7201}, "30 to 7200"),
        ({"DefaultResult": "MAYBE"}, "Invalid Lifecycle Action Result"),
        ({"NotificationTargetARN": "arn:aws:lambda:us-east-1:123456789012:function:f"}, "SNS topic or an SQS queue"),
    ):
        with pytest.raises(ClientError, match=f"ValidationError.*{words}"):
            _hook(world, LAUNCHING, **options)
    with pytest.raises(ClientError, match="Invalid Lifecycle Transition"):
        _hook(world, "autoscaling:EC2_INSTANCE_REBOOTING")
    with pytest.raises(ClientError, match="No Lifecycle Hook found"):
        _complete(world, "CONTINUE", InstanceId=world.ids()[0])
    _hook(world, LAUNCHING)
    with pytest.raises(ClientError, match="No active Lifecycle Action found with instance ID"):
        _complete(world, "CONTINUE", InstanceId=world.ids()[0])


@pytest.mark.rule(
    AREA, "An instance in standby is out of the load balancer and not replaced when capacity was decremented.", STANDBY
)
@pytest.mark.rule(AREA, "Leaving standby raises the desired capacity again and brings the instance back into service.", STANDBY)
def test_standby_and_back(world: World) -> None:
    world.group(desired=2)
    arn = world.target_group()
    world.auto.attach_load_balancer_target_groups(AutoScalingGroupName=GROUP, TargetGroupARNs=[arn])
    world.balancers.delay = 10.0
    world.run(2)
    away = world.ids()[0]
    moved = world.auto.enter_standby(AutoScalingGroupName=GROUP, InstanceIds=[away], ShouldDecrementDesiredCapacity=True)
    assert "shrinking the capacity from 2 to 1" in moved["Activities"][0]["Cause"]
    world.run(3)
    assert world.ids("EnteringStandby") == [away]
    world.run(12)
    assert world.ids("Standby") == [away]
    assert away not in world.region.backend("elbv2").target_groups[arn].targets
    assert len(world.record.instance_states) == 2
    world.auto.exit_standby(AutoScalingGroupName=GROUP, InstanceIds=[away])
    world.run(3)
    assert away in world.ids("InService")
    assert world.describe()["DesiredCapacity"] == 2
    assert away in world.region.backend("elbv2").target_groups[arn].targets


@pytest.mark.rule(AREA, "An instance put into standby without decrementing the capacity is replaced.", STANDBY)
@pytest.mark.rule("health and replacement", "Health checks leave instances in standby alone.", STANDBY)
def test_standby_with_a_replacement(world: World) -> None:
    world.group(desired=2)
    away = world.ids()[0]
    world.auto.enter_standby(AutoScalingGroupName=GROUP, InstanceIds=[away], ShouldDecrementDesiredCapacity=False)
    world.run(4)
    assert len(world.ids("InService")) == 2
    world.kill(away)
    world.run(10)
    assert world.ids("Standby") == [away]


@pytest.mark.rule(AREA, "Standby may not take the desired capacity below the minimum size.", f"{API}/API_EnterStandby.html")
def test_standby_keeps_the_minimum(world: World) -> None:
    world.group(desired=2, MinSize=2)
    with pytest.raises(ClientError, match="To place into standby 1 instance, please update the AutoScalingGroup sizes"):
        world.auto.enter_standby(AutoScalingGroupName=GROUP, InstanceIds=world.ids()[:1], ShouldDecrementDesiredCapacity=True)
    with pytest.raises(ClientError, match="is not part of Auto Scaling group"):
        world.auto.enter_standby(
            AutoScalingGroupName=GROUP, InstanceIds=["i-0123456789abcdef0"], ShouldDecrementDesiredCapacity=True
        )


@pytest.mark.rule(AREA, "A detached instance runs on by itself, and is replaced unless the capacity was decremented.", ATTACH)
@pytest.mark.rule(AREA, "Attaching an instance raises the desired capacity by one.", ATTACH)
def test_detaching_and_attaching(world: World) -> None:
    world.group(desired=2)
    free = world.ids()[0]
    world.auto.detach_instances(AutoScalingGroupName=GROUP, InstanceIds=[free], ShouldDecrementDesiredCapacity=False)
    world.run(4)
    assert len(world.ids("InService")) == 2
    assert free not in world.ids()
    assert world.region.ec2.get_instance(free).state == "running"
    world.auto.attach_instances(AutoScalingGroupName=GROUP, InstanceIds=[free])
    world.run(3)
    assert free in world.ids("InService")
    assert world.describe()["DesiredCapacity"] == 3
    world.auto.detach_instances(AutoScalingGroupName=GROUP, InstanceIds=[free], ShouldDecrementDesiredCapacity=True)
    world.run(3)
    assert (len(world.members()), world.describe()["DesiredCapacity"]) == (2, 2)


@pytest.mark.rule(
    AREA, "Attaching beyond the maximum size, or an instance of another group, is refused.", f"{API}/API_AttachInstances.html"
)
def test_what_can_not_be_attached(world: World) -> None:
    world.group(desired=1, MaxSize=1)
    (own,) = world.ids()
    with pytest.raises(ClientError, match="already part of AutoScalingGroup:fleet"):
        world.auto.attach_instances(AutoScalingGroupName=GROUP, InstanceIds=[own])
    image = world.region.ec2.get_instance(own).image_id
    made = world.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=world.subnets[0])["Instances"][0]["InstanceId"]
    with pytest.raises(ClientError, match="'running' state"):
        world.auto.attach_instances(AutoScalingGroupName=GROUP, InstanceIds=[made])
    world.run()
    with pytest.raises(ClientError, match="To attach 1 instance, please update the AutoScalingGroup sizes"):
        world.auto.attach_instances(AutoScalingGroupName=GROUP, InstanceIds=[made])


@pytest.mark.rule(
    "scaling",
    "Terminating a member replaces it, or lowers the desired capacity when asked to.",
    f"{API}/API_TerminateInstanceInAutoScalingGroup.html",
)
def test_terminating_a_member(world: World) -> None:
    world.group(desired=2, MinSize=1)
    first, second = world.ids()
    end = world.auto.terminate_instance_in_auto_scaling_group
    activity = end(InstanceId=first, ShouldDecrementDesiredCapacity=False)["Activity"]
    assert activity["Description"] == f"Terminating EC2 instance: {first}"
    world.settle(2)
    assert first not in world.ids()
    cause = end(InstanceId=second, ShouldDecrementDesiredCapacity=True)["Activity"]["Cause"]
    assert "in response to a user request, shrinking the capacity from 2 to 1." in cause
    world.settle(1)
    with pytest.raises(ClientError, match="will violate group's min size constraint"):
        end(InstanceId=world.ids()[0], ShouldDecrementDesiredCapacity=True)
    with pytest.raises(ClientError, match="No managed instance found"):
        end(InstanceId=second, ShouldDecrementDesiredCapacity=False)


@pytest.mark.rule("alarms and events", "Launches and terminations are told to EventBridge with cause, zone and subnet.", EVENTS)
def test_events_of_launch_and_termination(world: World) -> None:
    world.group(desired=1)
    world.grow(0)
    world.run(4)
    (launched,) = world.told("EC2 Instance Launch Successful")
    (ended,) = world.told("EC2 Instance Terminate Successful")
    assert launched["EC2InstanceId"] == ended["EC2InstanceId"]
    assert launched["Details"] == {"Subnet ID": world.subnets[0], "Availability Zone": "us-east-1a"}
    assert (launched["StatusCode"], ended["StatusCode"]) == ("InProgress", "InProgress")
    assert "increasing the capacity from 0 to 1" in launched["Cause"]


@pytest.mark.rule(
    AREA, "Deleting a group by force ends its instances without waiting for hooks.", f"{API}/API_DeleteAutoScalingGroup.html"
)
def test_a_forced_deletion_waits_for_no_hook(world: World) -> None:
    world.group(desired=2)
    _hook(world, TERMINATING)
    world.auto.enter_standby(AutoScalingGroupName=GROUP, InstanceIds=world.ids()[:1], ShouldDecrementDesiredCapacity=True)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP)
    world.run(2)
    with pytest.raises(ClientError, match="ResourceInUse"):
        world.auto.delete_auto_scaling_group(AutoScalingGroupName=GROUP)
    world.auto.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)
    world.run(4)
    assert not world.auto.describe_auto_scaling_groups()["AutoScalingGroups"]


def test_all_that_is_remembered_can_be_pickled(world: World) -> None:
    world.group(desired=3)
    _hook(world, LAUNCHING)
    world.refresh(MinHealthyPercentage=60)
    world.run(3)
    (waiting,) = [member for member in world.members() if member.actions]
    for kept in (waiting.actions, waiting.activity, world.record.instance_refreshes, list(world.record.scaling_activities)):
        assert pickle.loads(pickle.dumps(kept))  # noqa: S301
    assert world.record.instance_refreshes == pickle.loads(pickle.dumps(world.record.instance_refreshes))  # noqa: S301
