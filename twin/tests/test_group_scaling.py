"""Capacity: balance over zones, termination policies, suspended processes, and what is refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asg_world import GROUP, ZONES, World, living
from botocore.exceptions import ClientError

from twin.region.autoscaling import change_capacity
from twin.region.ec2 import set_state

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
BALANCE = f"{GUIDE}/ec2-auto-scaling-availability-zone-balanced.html"
BENEFITS = f"{GUIDE}/auto-scaling-benefits.html"
SUSPEND = f"{GUIDE}/as-suspend-resume-processes.html"
TERMINATION = f"{GUIDE}/ec2-auto-scaling-termination-policies.html"
ACTIVITIES = f"{GUIDE}/ec2-auto-scaling-verify-scaling-activity.html"
REPLACEMENT = "health and replacement"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


# Suspended processes


@pytest.mark.rule(
    "scaling", "With Launch suspended nothing is launched; with Terminate suspended nothing is terminated.", SUSPEND
)
def test_launch_and_terminate_suspended(world: World) -> None:
    world.group(desired=2)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Launch", "Terminate"])
    (first, *_) = world.describe()["SuspendedProcesses"]
    assert first["SuspensionReason"].startswith("User suspended at ")
    world.grow(3)
    world.run(5)
    assert len(world.members()) == 2
    world.grow(1)
    world.run(5)
    assert len(world.members()) == 2
    world.auto.resume_processes(AutoScalingGroupName=GROUP)
    world.settle(1)
    with pytest.raises(ClientError, match="processes are invalid: Sleep"):
        world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Sleep"])


@pytest.mark.rule(
    REPLACEMENT, "With HealthCheck suspended nothing is marked unhealthy, but what users mark is replaced.", SUSPEND
)
def test_health_checks_suspended(world: World) -> None:
    world.group(desired=2)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["HealthCheck"])
    dead, marked = world.ids()
    world.kill(dead)
    world.run(5)
    assert {member.health_status for member in world.members()} == {"Healthy"}
    world.auto.set_instance_health(InstanceId=marked, HealthStatus="Unhealthy")
    world.run(3)
    assert dead in world.ids()
    assert marked not in world.ids()


@pytest.mark.rule(REPLACEMENT, "With ReplaceUnhealthy suspended instances are marked unhealthy and stay.", SUSPEND)
def test_replacement_suspended(world: World) -> None:
    world.group(desired=1)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    (only,) = world.ids()
    world.kill(only)
    world.run(5)
    assert [(m.instance_id, m.health_status) for m in world.members()] == [(only, "Unhealthy")]


@pytest.mark.rule("load balancing", "With AddToLoadBalancer suspended, new instances are not registered.", SUSPEND)
@pytest.mark.rule(
    "load balancing",
    "Attaching a target group registers the instances in service; detaching deregisters them.",
    f"{API}/API_AttachLoadBalancerTargetGroups.html",
)
def test_registration(world: World) -> None:
    world.group(desired=1)
    arn = world.behind_a_load_balancer()
    targets = world.region.backend("elbv2").target_groups[arn].targets
    assert list(targets) == world.ids()
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AddToLoadBalancer"])
    world.grow(2)
    world.settle(2)
    assert len(targets) == 1
    world.auto.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AddToLoadBalancer"])
    world.run(2)
    assert set(targets) == set(world.ids())
    world.auto.detach_traffic_sources(AutoScalingGroupName=GROUP, TrafficSources=[{"Identifier": arn}])
    world.run(2)
    assert not targets
    world.auto.attach_traffic_sources(AutoScalingGroupName=GROUP, TrafficSources=[{"Identifier": arn, "Type": "elbv2"}])
    world.run(2)
    assert set(targets) == set(world.ids())
    assert world.auto.describe_traffic_sources(AutoScalingGroupName=GROUP)["TrafficSources"][0]["Identifier"] == arn
    with pytest.raises(ClientError, match="Provided Target Groups may not be valid"):
        world.auto.attach_load_balancer_target_groups(AutoScalingGroupName=GROUP, TargetGroupARNs=[f"{arn}0"])


# Balance


@pytest.mark.rule("balance", "Instances are launched in the zone that has the fewest.", BENEFITS)
def test_launches_spread(world: World) -> None:
    world.group(desired=7)
    assert sorted(world.zones().values()) == [2, 2, 3]


@pytest.mark.rule("balance", "With balanced-best-effort, what a zone has no capacity for is launched in another one.", BALANCE)
@pytest.mark.rule(
    "balance", "A launch refused for lack of capacity is a failed activity with EC2's words.", f"{GUIDE}/ts-as-capacity.html"
)
@pytest.mark.rule(
    "balance",
    "When the zone has capacity again, the group rebalances: it launches there before it terminates elsewhere.",
    BENEFITS,
)
def test_best_effort(world: World) -> None:
    world.group(desired=3)
    world.region.faults.no_capacity.add("us-east-1c")
    lost = next(member for member in world.members() if member.availability_zone == "us-east-1c")
    world.kill(lost.instance_id)
    world.run(5)
    assert sorted(world.zones().items()) == [("us-east-1a", 2), ("us-east-1b", 1)]
    failed = next(entry for entry in world.activities() if entry["StatusCode"] == "Failed")
    assert "InsufficientInstanceCapacity - We currently do not have sufficient t3.micro capacity" in failed["StatusMessage"]
    assert "(us-east-1c)" in failed["StatusMessage"]
    world.run(120)
    assert len(world.members()) == 3
    world.region.faults.no_capacity.clear()
    least = []
    world.watch.append(lambda: least.append((world.serving(), len(world.members()))))
    world.run(120)
    assert world.zones() == Counter(ZONES)
    assert min(serving for serving, _ in least) == 3
    assert max(have for _, have in least) == 4


@pytest.mark.rule(
    "balance", "With balanced-only, launches are tried again in the zone that has no capacity, and not elsewhere.", BALANCE
)
def test_balanced_only(world: World) -> None:
    world.group(desired=3, AvailabilityZoneDistribution={"CapacityDistributionStrategy": "balanced-only"})
    world.region.faults.no_capacity.add("us-east-1b")
    world.kill(next(member for member in world.members() if member.availability_zone == "us-east-1b").instance_id)
    world.run(60)
    assert world.zones() == Counter(["us-east-1a", "us-east-1c"])
    assert sum(1 for entry in world.activities() if entry["StatusCode"] == "Failed") > 1
    world.grow(6)
    world.run(60)
    assert world.zones() == Counter(["us-east-1a", "us-east-1c"] * 2)
    world.region.faults.no_capacity.clear()
    world.run(90)
    assert world.zones() == Counter(ZONES * 2)


@pytest.mark.rule("balance", "A group that terminates instances in one zone by hand rebalances.", BENEFITS)
@pytest.mark.rule("balance", "With AZRebalance suspended a group stays out of balance.", SUSPEND)
def test_rebalancing(world: World) -> None:
    world.group(desired=6)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AZRebalance"])
    for member in [member for member in world.members() if member.availability_zone == "us-east-1a"]:
        world.auto.terminate_instance_in_auto_scaling_group(InstanceId=member.instance_id, ShouldDecrementDesiredCapacity=True)
    world.run(30)
    assert world.zones() == Counter({"us-east-1b": 2, "us-east-1c": 2})
    world.auto.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AZRebalance"])
    seen = []
    world.watch.append(lambda: seen.append((world.serving(), len(world.members()))))
    world.run(30)
    assert sorted(world.zones().values()) == [1, 1, 2]
    assert (min(serving for serving, _ in seen), max(have for _, have in seen)) == (4, 5)


@pytest.mark.rule(
    "balance",
    "Instances in a zone that the group has left are moved to its other zones.",
    f"{GUIDE}/as-add-availability-zone.html",
)
def test_a_zone_that_is_left(world: World) -> None:
    world.group(desired=3)
    world.update(VPCZoneIdentifier=",".join(world.subnets[:2]))
    world.run(30)
    assert sorted(world.zones().items()) == [("us-east-1a", 2), ("us-east-1b", 1)] or sorted(world.zones().items()) == [
        ("us-east-1a", 1),
        ("us-east-1b", 2),
    ]


@pytest.mark.rule(
    "faults",
    "RunInstances in a zone without capacity is refused with InsufficientInstanceCapacity.",
    "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html",
)
def test_ec2_refuses_without_capacity(world: World) -> None:
    world.group(desired=1, zones="ab")
    image = world.members()[0].instance.image_id
    world.region.faults.no_capacity.add("us-east-1b")
    run = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    with pytest.raises(ClientError, match=r"InsufficientInstanceCapacity.*\(us-east-1b\).*choosing us-east-1a"):
        world.ec2.run_instances(**run, SubnetId=world.subnets[1])
    assert world.ec2.run_instances(**run, SubnetId=world.subnets[0])["Instances"]


# Scaling in


@pytest.mark.rule("scaling", "Scaling in takes from the zone with the most instances first.", TERMINATION)
@pytest.mark.rule(
    "scaling", "By default, of the zone's instances that of the oldest launch template version goes first.", TERMINATION
)
def test_the_default_termination_policy(world: World) -> None:
    world.group(desired=3)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["AZRebalance"])
    world.update(LaunchTemplate={"LaunchTemplateId": world.template, "Version": world.version()})
    world.grow(4)
    world.settle(4)
    assert world.zones()["us-east-1a"] == 2
    world.grow(3)
    world.settle(3)
    assert world.zones() == Counter(ZONES)
    assert next(m for m in world.members() if m.availability_zone == "us-east-1a").launch_template["Version"] == "2"


@pytest.mark.rule("scaling", "OldestInstance and NewestInstance take the oldest and the newest instance.", TERMINATION)
@pytest.mark.parametrize(("policy", "goes"), [("OldestInstance", 0), ("NewestInstance", -1)])
def test_termination_policies(world: World, policy: str, goes: int) -> None:
    world.group(desired=4, zones="a", TerminationPolicies=[policy])
    order = [member.instance_id for member in sorted(world.members(), key=lambda member: member.instance.launch_time)]
    world.grow(3)
    world.settle(3)
    assert order[goes] not in world.ids()
    assert world.describe()["TerminationPolicies"] == [policy]
    with pytest.raises(ClientError, match="is not valid"):
        world.update(TerminationPolicies=["Youngest"])


@pytest.mark.rule(
    "scaling",
    "Instances protected from scale in are spared, and said to be when no other is left.",
    f"{GUIDE}/ec2-auto-scaling-instance-protection.html",
)
@pytest.mark.rule(
    REPLACEMENT,
    "Protection from scale in does not keep an unhealthy instance.",
    f"{GUIDE}/ec2-auto-scaling-instance-protection.html",
)
def test_protection_from_scale_in(world: World) -> None:
    world.group(desired=2)
    kept = world.ids()
    world.auto.set_instance_protection(AutoScalingGroupName=GROUP, InstanceIds=kept, ProtectedFromScaleIn=True)
    world.grow(1)
    world.run(10)
    assert world.ids() == kept
    failed = [entry for entry in world.activities() if entry["StatusCode"] == "Failed"]
    assert [entry["StatusMessage"] for entry in failed] == [
        "Could not scale to desired capacity because all remaining instances are protected from scale-in."
    ]
    world.kill(kept[0])
    world.run(5)
    assert world.ids() == kept[1:]


# What is said and refused


@pytest.mark.rule("scaling", "An activity's cause says who changed the capacity, and what followed from that.", ACTIVITIES)
def test_causes(world: World) -> None:
    world.group(desired=1)
    world.grow(3)
    world.settle(3)
    cause = world.activities()[0]["Cause"]
    assert "a user request explicitly set group desired capacity changing the desired capacity from 1 to 3.  At " in cause
    assert cause.endswith(
        "an instance was started in response to a difference between desired and actual capacity, "
        "increasing the capacity from 1 to 3."
    )
    words = "a monitor alarm low in state ALARM triggered policy cpu changing the desired capacity from 3 to 2."
    change_capacity(world.region, world.record, 2, words)
    world.settle(2)
    cause = world.activities()[0]["Cause"]
    assert words in cause
    assert "shrinking the capacity from 3 to 2.  At " in cause
    assert cause.endswith("was selected for termination.")


@pytest.mark.rule("scaling", "New bounds move the desired capacity into them.", f"{API}/API_UpdateAutoScalingGroup.html")
def test_bounds_move_the_capacity(world: World) -> None:
    world.group(desired=2)
    world.update(MinSize=3)
    assert world.describe()["DesiredCapacity"] == 3
    world.update(MinSize=0, MaxSize=1)
    assert world.describe()["DesiredCapacity"] == 1
    world.settle(1)
    world.update(MaxSize=5)
    assert world.describe()["DesiredCapacity"] == 1


@pytest.mark.rule("scaling", "Sizes that contradict each other are a ValidationError.", f"{API}/API_CreateAutoScalingGroup.html")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"MinSize": 2, "MaxSize": 1}, "Max bound, 1, must be greater than or equal to min bound, 2"),
        ({"DesiredCapacity": 40}, "Desired capacity:40 must be between the specified min size:0 and max size:30"),
        ({"HealthCheckType": "HTTP"}, "Invalid health check type"),
        ({"InstanceMaintenancePolicy": {"MinHealthyPercentage": 50}}, "must be specified"),
        ({"InstanceMaintenancePolicy": {"MinHealthyPercentage": 50, "MaxHealthyPercentage": 200}}, "greater than 100"),
        ({"InstanceMaintenancePolicy": {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 90}}, "between 100 and 200"),
        ({"AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "reservations-then-balanced"}}, "not supported"),
        ({"HealthCheckType": "EBS"}, "not supported by the twin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)  # fmt: skip
def test_parameters_are_checked(world: World, options: dict[str, Any], words: str) -> None:
    world.group(desired=0)
    with pytest.raises(ClientError, match=f"ValidationError.*{words}"):
        world.update(**options)


def test_a_launch_configuration_will_do(world: World) -> None:
    world.group(desired=0)
    image = world.region.ec2.get_launch_template(world.template).get_version("1").image_id
    world.auto.create_launch_configuration(LaunchConfigurationName="old", ImageId=image, InstanceType="t3.nano")
    world.update(LaunchConfigurationName="old", DesiredCapacity=1)
    world.settle(1)
    (member,) = world.describe()["Instances"]
    assert (member["InstanceType"], member["LaunchConfigurationName"]) == ("t3.nano", "old")
    assert "LaunchTemplate" not in member


@pytest.mark.rule(
    "network",
    "Without a free address in its subnet a launch is refused with InsufficientFreeAddressesInSubnet.",
    "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html",
)
def test_addresses_come_back(world: World) -> None:
    world.group(desired=1, zones="a")
    subnet = world.ec2.create_subnet(VpcId=world.vpc, CidrBlock="10.9.200.0/28", AvailabilityZone="us-east-1b")["Subnet"]
    run = {"ImageId": world.members()[0].instance.image_id, "SubnetId": subnet["SubnetId"]}
    made = world.ec2.run_instances(**run, MinCount=11, MaxCount=11)["Instances"]
    with pytest.raises(ClientError, match="InsufficientFreeAddressesInSubnet"):
        world.ec2.run_instances(**run, MinCount=1, MaxCount=1)
    world.ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in made])
    world.run(2)
    assert len(world.ec2.run_instances(**run, MinCount=11, MaxCount=11)["Instances"]) == 11


def test_one_broken_group_keeps_no_other_from_running(world: World) -> None:
    world.group(desired=1)
    other = {"LaunchTemplateId": world.template, "Version": "1"}
    world.auto.create_auto_scaling_group(
        AutoScalingGroupName="broken", MinSize=0, MaxSize=1, LaunchTemplate=other, VPCZoneIdentifier=world.subnets[0]
    )
    groups = world.region.backend("autoscaling").autoscaling_groups
    groups["broken"].desired_capacity = "many"
    groups.move_to_end("broken", last=False)
    world.grow(2)
    world.settle(2)


def test_a_round_over_a_hundred_instances_is_short(world: World) -> None:
    world.group(desired=100, MaxSize=120)
    world.behind_a_load_balancer()
    began = time.process_time()
    for _ in range(20):
        world.loop.tick()
    assert (time.process_time() - began) / 20 < 0.1
    victim = world.members()[50].instance
    set_state(victim, "stopped", "Server.InternalError", "The machine failed")
    world.run(5)
    assert len(world.ids("InService")) == 100
