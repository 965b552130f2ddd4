"""What is refused before anything changes, the table of releases, and what is removed in the end."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError
from rollouts import GROUP, NAME, Fleet, Region, until

pytestmark = pytest.mark.long


def test_what_is_refused_changes_nothing(region: Region, fleet: Fleet) -> None:
    foreign = fleet.image(Project="another")
    breaking, untold = fleet.image(head="0002", floor="0002"), fleet.image(head="")
    fleet.failed = fleet.image(Test="failed")
    before = fleet.everything()
    refusals = {
        "is no image id": {"deploy_image_id": "resolve:ssm:/image"},
        "does not exist in this region": {"deploy_image_id": "ami-0123456789abcdef0"},
        "is not ours: it must belong to this account and have the tag Project=evenkeel": {"deploy_image_id": foreign},
        "is failed, not available": {"deploy_image_id": fleet.failed},
        "There is no Auto Scaling group other-fleet": {"deploy_name": "other"},
        "No image of evenkeel was baked from commit": {},
        "its migrations break the release that runs now": {"deploy_image_id": breaking},
        f"{untold}: no tags SchemaHead and SchemaFloor": {"deploy_image_id": untold},
    }
    for words, ended in zip(refusals, region.run_all("deploy", refusals.values()), strict=True):
        assert ended.status != 0, words
        assert words in ended.text, ended.text
    assert fleet.everything() == before
    for image in (foreign, breaking, untold):
        fleet.ec2.deregister_image(ImageId=image)


def test_a_fleet_in_trouble_is_left_alone(region: Region, fleet: Fleet) -> None:
    image, before = fleet.image(), fleet.everything()[:3]
    alarm = fleet.alarm("ALARM")
    ended = region.run("deploy", deploy_image_id=image)
    assert ended.status != 0
    assert f"{alarm} is in ALARM" in ended.text, ended.text

    fleet.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Launch"])
    victim = fleet.group()["Instances"][0]["InstanceId"]
    fleet.auto.terminate_instance_in_auto_scaling_group(InstanceId=victim, ShouldDecrementDesiredCapacity=False)
    until("the loss", lambda: len(fleet.healthy()) == 2)
    ended = region.run("deploy", deploy_image_id=image)
    assert ended.status != 0
    assert "The fleet is degraded: 2 of 3 instances are healthy" in ended.text, ended.text

    asked = region.run("deploy", "--check", deploy_image_id=image, deploy_degraded=True)
    assert asked.status == 0, asked.text
    assert "Alarms: none is named evenkeel-rollout-* and silent" in asked.text
    fleet.auto.resume_processes(AutoScalingGroupName=GROUP)
    fleet.watch.delete_alarms(AlarmNames=[alarm])
    until("a healthy fleet", lambda: len(fleet.healthy()) == 3)
    assert fleet.everything()[:3] == before

    ended = region.run("rollback")
    assert ended.status != 0
    assert "Nothing ran before launch template version 1" in ended.text, ended.text


def test_releases_and_what_is_removed(region: Region, fleet: Fleet) -> None:
    old, breaking = fleet.image(), fleet.image(head="0003", floor="0001")
    elsewhere = fleet.image()
    subnet = fleet.group()["VPCZoneIdentifier"].split(",")[0]
    fleet.ec2.run_instances(ImageId=elsewhere, MinCount=1, MaxCount=1, SubnetId=subnet, InstanceType="t3.micro")
    image = fleet.image(commit="0123456789ab", head="0002")
    time.sleep(1.1)  # dates are in whole seconds, and the next one is to be the newest
    spare = fleet.image()
    for number in range(2):  # versions that nobody ever used
        fleet.ec2.create_launch_template_version(
            LaunchTemplateId=fleet.template, SourceVersion="1", LaunchTemplateData={"ImageId": spare, "KeyName": f"k{number}"}
        )
    before, snapshots = fleet.everything(), fleet.snapshots(old)
    assert snapshots

    asked = region.run("retention", "--check", deploy_keep=1)
    assert asked.status == 0, asked.text
    assert "Would remove launch template versions 2 and images ami-" in asked.text
    assert fleet.everything() == before

    ended = region.run("deploy", deploy_image_id=image, deploy_keep=1)
    assert ended.status == 0, ended.text
    assert "Removing launch template versions 2, 3 and images ami-" in ended.text, ended.text
    # What runs, what a rollback would run; of the images besides: one that an instance elsewhere runs, the newest, and the one
    # with the newest schema.
    assert fleet.versions() == {1: fleet.first, 4: image}
    mine = [{"Name": "tag:Project", "Values": [NAME]}]
    left = {entry["ImageId"] for entry in fleet.ec2.describe_images(Owners=["self"], Filters=mine)["Images"]}
    assert left - {fleet.failed} == {fleet.first, image, elsewhere, spare, breaking}
    with pytest.raises(ClientError, match="NotFound"):
        fleet.ec2.describe_snapshots(SnapshotIds=snapshots)

    listed = region.run("releases")
    assert listed.status == 0, listed.text
    header, *rows = [line.split() for line in listed.text.splitlines() if line]
    assert header[0] == "START"
    assert {image, "0123456789ab", "(runs"} <= set(rows[0])
    assert {"Created", fleet.first} <= set(rows[-1])
