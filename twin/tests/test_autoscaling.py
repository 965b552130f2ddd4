"""Auto Scaling groups of real instances: balance, replacement, scaling, deletion, and what they say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import until

from twin.bodies.podman import Podman
from twin.settings import Settings

GROUP = "fleet"


class Fleet:
    def __init__(self, client: Callable[[str], Any]) -> None:
        self.ec2, self.autoscaling = client("ec2"), client("autoscaling")
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{index}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for index, zone in enumerate("abc")
        ]
        self.image = self.ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
        data = {"ImageId": self.image, "InstanceType": "t3.micro"}
        self.template = self.ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData=data)["LaunchTemplate"]
        # A later version with user data, as a deploy makes them.
        data |= {"UserData": "I2Nsb3VkLWNvbmZpZwp7fQo=", "MetadataOptions": {"HttpTokens": "required"}}
        self.ec2.create_launch_template_version(LaunchTemplateId=self.template["LaunchTemplateId"], LaunchTemplateData=data)
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            MinSize=1,
            MaxSize=6,
            DesiredCapacity=3,
            LaunchTemplate={"LaunchTemplateId": self.template["LaunchTemplateId"], "Version": "2"},
            VPCZoneIdentifier=",".join(self.subnets),
            DefaultInstanceWarmup=5,
            InstanceMaintenancePolicy={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200},
            Tags=[{"Key": "Name", "Value": GROUP, "PropagateAtLaunch": True}],
        )

    def group(self) -> dict[str, Any] | None:
        found = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"]
        return found[0] if found else None

    def members(self) -> list[dict[str, Any]]:
        group = self.group()
        return group["Instances"] if group else []

    def settled(self, count: int, without: str = "") -> list[dict[str, Any]]:
        def ready() -> list[dict[str, Any]] | None:
            now = self.members()
            good = len(now) == count and all(member["LifecycleState"] == "InService" for member in now)
            return now if good and without not in {member["InstanceId"] for member in now} else None

        found: list[dict[str, Any]] = until(ready)
        return found

    def activities(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.autoscaling.describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"]
        return found


@pytest.fixture(scope="module")
def fleet(client: Callable[[str], Any]) -> Iterator[Fleet]:
    made = Fleet(client)
    yield made
    if made.group():
        made.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)
        until(lambda: made.group() is None)


def test_instances_spread_over_the_zones_and_come_from_the_version_asked_for(fleet: Fleet) -> None:
    members = fleet.settled(3)
    assert sorted(member["AvailabilityZone"] for member in members) == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert {member["LaunchTemplate"]["Version"] for member in members} == {"2"}
    described = fleet.ec2.describe_instances(InstanceIds=[member["InstanceId"] for member in members])["Reservations"]
    for instance in (instance for entry in described for instance in entry["Instances"]):
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert {"Key": "Name", "Value": GROUP} in instance["Tags"]


def test_what_was_asked_for_is_kept(fleet: Fleet) -> None:
    group = fleet.group()
    assert group
    assert group["DefaultInstanceWarmup"] == 5
    assert group["InstanceMaintenancePolicy"] == {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200}
    assert group["AvailabilityZoneDistribution"] == {"CapacityDistributionStrategy": "balanced-best-effort"}


def test_a_dead_instance_is_replaced_in_its_zone(fleet: Fleet, served: Settings) -> None:
    victim = fleet.settled(3)[0]
    Podman(served).run("kill", victim["InstanceId"])
    members = fleet.settled(3, without=victim["InstanceId"])
    assert Counter(member["AvailabilityZone"] for member in members) == Counter(["us-east-1a", "us-east-1b", "us-east-1c"])
    ended = next(
        entry for entry in fleet.activities() if entry["Description"] == f"Terminating EC2 instance: {victim['InstanceId']}"
    )
    assert "EC2 instance status check failure" in ended["Cause"]
    until(lambda: fleet.activities() and _find(fleet, ended)["StatusCode"] == "Successful")


def _find(fleet: Fleet, activity: dict[str, Any]) -> dict[str, Any]:
    return next(entry for entry in fleet.activities() if entry["ActivityId"] == activity["ActivityId"])


def test_an_instance_said_to_be_unhealthy_is_replaced(fleet: Fleet) -> None:
    victim = fleet.settled(3)[1]["InstanceId"]
    fleet.autoscaling.set_instance_health(InstanceId=victim, HealthStatus="Unhealthy")
    fleet.settled(3, without=victim)


def test_replacement_can_be_suspended(fleet: Fleet, served: Settings) -> None:
    victim = fleet.settled(3)[2]["InstanceId"]
    fleet.autoscaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    Podman(served).run("kill", victim)
    until(lambda: {m["InstanceId"]: m["HealthStatus"] for m in fleet.members()}.get(victim) == "Unhealthy")
    assert victim in {member["InstanceId"] for member in fleet.members()}
    fleet.autoscaling.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    fleet.settled(3, without=victim)


def test_capacity_goes_up_and_down_in_balance(fleet: Fleet) -> None:
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=5)
    assert sorted(Counter(member["AvailabilityZone"] for member in fleet.settled(5)).values()) == [1, 2, 2]
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=3)
    assert sorted(Counter(member["AvailabilityZone"] for member in fleet.settled(3)).values()) == [1, 1, 1]
    with pytest.raises(ClientError, match="above max value 6"):
        fleet.autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=7)


def test_a_launch_that_fails_is_recorded_and_tried_again(fleet: Fleet) -> None:
    template = fleet.template["LaunchTemplateId"]
    bad = fleet.ec2.create_launch_template_version(
        LaunchTemplateId=template, LaunchTemplateData={"ImageId": "ami-00000000000000000", "InstanceType": "t3.micro"}
    )["LaunchTemplateVersion"]["VersionNumber"]
    use = fleet.autoscaling.update_auto_scaling_group
    use(AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateId": template, "Version": str(bad)}, DesiredCapacity=4)
    failed = until(lambda: [entry for entry in fleet.activities() if entry["StatusCode"] == "Failed"])
    assert "ami-00000000000000000" in failed[0]["StatusMessage"]
    use(AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateId": template, "Version": "2"})
    fleet.settled(4)


@pytest.mark.rule(
    "instance refresh",
    "A refresh brings every instance to the version asked for, with no less capacity than before at any time.",
    "https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html",
)
def test_a_refresh_replaces_real_instances(fleet: Fleet) -> None:
    template = fleet.template["LaunchTemplateId"]
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=3)
    old = {member["InstanceId"] for member in fleet.settled(3)}
    version = fleet.ec2.create_launch_template_version(
        LaunchTemplateId=template, LaunchTemplateData={"ImageId": fleet.image, "InstanceType": "t3.small"}
    )["LaunchTemplateVersion"]["VersionNumber"]
    fleet.autoscaling.start_instance_refresh(
        AutoScalingGroupName=GROUP,
        DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": template, "Version": str(version)}},
        Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "InstanceWarmup": 2, "AutoRollback": True},
    )
    serving = []

    def ended() -> dict[str, Any] | None:
        serving.append(sum(1 for member in fleet.members() if member["LifecycleState"] == "InService"))
        found = fleet.autoscaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"][0]
        return found if "EndTime" in found else None

    refresh = until(ended)
    assert (refresh["Status"], refresh["PercentageComplete"], refresh["InstancesToUpdate"]) == ("Successful", 100, 0)
    assert min(serving) >= 3
    members = fleet.settled(3)
    assert not old & {member["InstanceId"] for member in members}
    assert {member["LaunchTemplate"]["Version"] for member in members} == {str(version)}
    group = fleet.group()
    assert group
    assert group["LaunchTemplate"]["Version"] == str(version)


def test_a_group_with_instances_is_deleted_by_force_alone(fleet: Fleet) -> None:
    with pytest.raises(ClientError, match="ResourceInUse"):
        fleet.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP)
    ids = [member["InstanceId"] for member in fleet.members()]
    fleet.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)
    until(lambda: fleet.group() is None)
    described = fleet.ec2.describe_instances(InstanceIds=ids)["Reservations"]
    assert {instance["State"]["Name"] for entry in described for instance in entry["Instances"]} == {"terminated"}
