"""Versions of launch templates: based on one another, deleted, numbered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asg_world import World, living
from botocore.exceptions import ClientError

API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference"
AREA = "launch templates"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


def numbers(world: World) -> list[int]:
    found = world.ec2.describe_launch_template_versions(LaunchTemplateId=world.template)["LaunchTemplateVersions"]
    return [entry["VersionNumber"] for entry in found]


@pytest.mark.rule(
    AREA,
    "A version made from a source version inherits its parameters; what is given besides overwrites them.",
    f"{API}/API_CreateLaunchTemplateVersion.html",
)
def test_a_version_inherits_from_its_source(world: World) -> None:
    world.version(UserData="I2Nsb3VkLWNvbmZpZwo=", SecurityGroupIds=["sg-1"])
    world.version(InstanceType="t3.large")
    made = world.ec2.create_launch_template_version(
        LaunchTemplateId=world.template, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-00000000000000009"}
    )["LaunchTemplateVersion"]
    assert made["VersionNumber"] == 3
    assert made["LaunchTemplateData"] == {
        "ImageId": "ami-00000000000000009",
        "InstanceType": "t3.micro",
        "SecurityGroupIds": ["sg-1"],
        "UserData": "I2Nsb3VkLWNvbmZpZwo=",
    }
    assert world.region.ec2.get_launch_template(world.template).get_version(3).user_data, "it launches"
    with pytest.raises(ClientError, match="VersionNotFound"):
        world.ec2.create_launch_template_version(LaunchTemplateId=world.template, SourceVersion="9", LaunchTemplateData={})


@pytest.mark.rule(
    AREA,
    "Versions can be deleted but for the default one; a deleted version's number is not given again.",
    f"{API}/API_DeleteLaunchTemplateVersions.html",
)
def test_versions_are_deleted(world: World) -> None:
    for _ in range(20):
        world.version()
    answer = world.ec2.delete_launch_template_versions(LaunchTemplateId=world.template, Versions=["1", "3", "20", "77"])
    assert [entry["VersionNumber"] for entry in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [3, 20]
    refused = {entry["VersionNumber"]: entry["ResponseError"] for entry in answer["UnsuccessfullyDeletedLaunchTemplateVersions"]}
    assert refused[77]["Code"] == "launchTemplateVersionDoesNotExist"
    assert "default version" in refused[1]["Message"]
    assert numbers(world) == [1, 2, *range(4, 20)]
    assert world.version() == "21"
    with pytest.raises(ClientError, match="VersionNotFound"):
        world.ec2.describe_launch_template_versions(LaunchTemplateId=world.template, Versions=["3"])


def test_a_group_goes_on_from_its_version_when_earlier_ones_are_gone(world: World) -> None:
    world.version()
    world.group(desired=1)
    world.refresh(MinHealthyPercentage=0, InstanceWarmup=0)
    world.ended("Successful")
    world.ec2.delete_launch_template_versions(LaunchTemplateId=world.template, Versions=["2"])
    world.grow(2)
    world.settle(2)
    assert set(world.versions()) == {"3"}
