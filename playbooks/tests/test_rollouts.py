"""Rollouts that run: to their end, interrupted, rolled back, and taken up again."""

from __future__ import annotations

import json
import subprocess

import pytest
from rollouts import GROUP, Fleet, Region, kill, until

pytestmark = pytest.mark.long

ARN = "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/"
# What the role of a pipeline that deploys needs; docs/operations.md has it in words.
DEPLOYER = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeInstanceRefreshes",
                "autoscaling:DescribeLifecycleHooks",
                "autoscaling:DescribeScalingActivities",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:GetMetricData",
                "ec2:DescribeImages",
                "ec2:DescribeLaunchTemplateVersions",
                "ec2:DescribeLaunchTemplates",
                "elasticloadbalancing:DescribeTags",
                "elasticloadbalancing:DescribeTargetGroupAttributes",
                "elasticloadbalancing:DescribeTargetGroups",
                "elasticloadbalancing:DescribeTargetHealth",
            ],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": ["autoscaling:StartInstanceRefresh", "autoscaling:RollbackInstanceRefresh"],
            "Resource": f"{ARN}{GROUP}",
        },
        {"Effect": "Allow", "Action": "ec2:CreateLaunchTemplateVersion", "Resource": "arn:aws:ec2:*:*:launch-template/*"},
        {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"},
    ],
}


def key_of(region: Region, name: str, policy: dict[str, object]) -> dict[str, str]:
    """An access key of a user who may do no more than the policy says."""
    iam = region.client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}


def lines_until(process: subprocess.Popen[str], words: str) -> str:
    """What a run says until it has said that."""
    assert process.stdout
    found = ""
    while words not in found:
        line = process.stdout.readline()
        assert line, found
        found += line
    return found


def test_a_deploy_replaces_the_fleet_zone_by_zone(region: Region, fleet: Fleet) -> None:
    before = fleet.everything()
    version = fleet.newest_version()
    image = fleet.image()
    asked = region.run("deploy", "--check", deploy_image_id=image)
    assert asked.status == 0, asked.text
    assert f"Would roll {image} (service 1." in asked.text
    assert f"Launch template version to be made from {version}." in asked.text
    assert "1 s at 33 %" in asked.text
    assert "Alarms: none is named evenkeel-rollout-* and silent" in asked.text
    assert fleet.everything()[:3] == before[:3]

    ended = region.run("deploy", deploy_image_id=image)
    assert ended.status == 0, ended.text
    assert "Successful after" in ended.text
    assert "0 answered 5xx by instances" in ended.text
    assert fleet.running() == {image}
    assert int(fleet.group()["LaunchTemplate"]["Version"]) == fleet.newest_version() > version
    newest = fleet.ec2.describe_launch_template_versions(LaunchTemplateId=fleet.template, Versions=["$Latest"])
    (made,) = newest["LaunchTemplateVersions"]
    assert made["LaunchTemplateData"]["UserData"], "all else is as it was"
    assert made["VersionDescription"] == "Signup fleet", "Terraform finds nothing to change"

    progress = ended.progress
    assert len(progress) == len({line.split("  ", 1)[1] for line in progress}), "a line only where something has changed"
    assert "1 old" in progress[0]
    assert "us-east-1a 1 new | us-east-1b 1 new | us-east-1c 1 new" in progress[-1]
    assert any("warming" in line for line in progress)
    preferences = fleet.refreshes()[0]["Preferences"]
    assert preferences["CheckpointPercentages"] == [33, 100]
    assert (preferences["MinHealthyPercentage"], preferences["MaxHealthyPercentage"]) == (100, 200)
    assert preferences["AutoRollback"]
    assert preferences["SkipMatching"]

    count = len(fleet.refreshes())
    again = region.run("deploy", deploy_image_id=image)
    assert again.status == 0
    assert "Nothing to do" in again.text
    assert len(fleet.refreshes()) == count
    assert "Successful" not in again.text


def test_a_rollout_goes_on_without_the_one_who_started_it(region: Region, fleet: Fleet) -> None:
    key = key_of(region, "deployer", DEPLOYER)
    image, other = fleet.image(), fleet.image()
    # Two more operators come before it is over, however long a busy machine takes to start them.
    first = region.start("deploy", deploy_image_id=image, deploy_checkpoint_delay_seconds=120, key=key)
    lines_until(first, "InProgress")
    region.client("iam").delete_access_key(UserName="deployer", AccessKeyId=key["access_key_id"])
    ended = region.end(first)
    assert ended.status != 0
    assert "the credentials are not valid any more" in ended.text, ended.text
    assert "Run the same command again" in ended.text
    assert fleet.status() == "InProgress"

    refused, attached = region.start("deploy", deploy_image_id=other), region.start("deploy", deploy_image_id=image)
    lines_until(attached, "InProgress")
    kill(attached)
    ended = region.end(refused)
    assert ended.status != 0
    assert f"A refresh to {image} is under way" in ended.text, ended.text

    ended = region.run("deploy", deploy_image_id=image)
    assert ended.status == 0, ended.text
    assert f"A rollout of {image}" in ended.text
    assert "Successful after" in ended.text
    assert fleet.running() == {image}


def test_a_bad_image_is_rolled_back_and_the_reason_told(region: Region, fleet: Fleet) -> None:
    before = fleet.running()
    ended = region.run("deploy", deploy_image_id=fleet.image(Test="bad"), deploy_failures_allowed=99)
    assert ended.status != 0
    assert "the refresh ended RollbackSuccessful" in ended.text, ended.text
    assert "did not pass its health checks" in ended.text
    assert "Terminating EC2 instance" in ended.text, "what the group's activities say"
    assert "answered 5xx by instances" in ended.text
    assert fleet.running() == before


def test_a_bad_image_is_not_tried_for_an_hour(region: Region, fleet: Fleet) -> None:
    before = fleet.running()
    ended = region.run("deploy", deploy_image_id=fleet.image(Test="bad"), deploy_failures_allowed=0)
    assert ended.status != 0
    assert "the refresh ended RollbackSuccessful" in ended.text, ended.text
    assert "rolling back: 1 of the new instances failed their health checks (i-" in ended.text
    assert fleet.running() == before


def test_an_alarm_rolls_back(region: Region, fleet: Fleet) -> None:
    before, alarm = fleet.running(), fleet.alarm("OK")
    run = region.start("deploy", deploy_image_id=fleet.image(), deploy_checkpoint_delay_seconds=30)
    assert f"Alarms: {alarm}." in lines_until(run, "InProgress")
    fleet.alarm("ALARM")
    ended = region.end(run)
    assert ended.status != 0
    assert f"CloudWatch alarm {alarm} is in ALARM state" in ended.text, ended.text
    assert f"alarm {alarm}: a test" in ended.text
    assert fleet.running() == before
    fleet.watch.delete_alarms(AlarmNames=[alarm])


@pytest.mark.usefixtures("region")
def test_rollback_takes_a_running_rollout_back(region: Region, fleet: Fleet) -> None:
    before = fleet.running()
    run = region.start("deploy", deploy_image_id=fleet.image(), deploy_checkpoint_delay_seconds=60)
    lines_until(run, "InProgress")
    ended = region.run("rollback")
    assert ended.status == 0, ended.text
    assert "RollbackSuccessful after" in ended.text
    followed = region.end(run)
    assert followed.status != 0
    assert "Rollback initiated due to user request" in followed.text, followed.text
    assert fleet.running() == before


def test_rollback_brings_back_what_ran_before(region: Region, fleet: Fleet) -> None:
    now, versions = fleet.running(), fleet.versions()
    ended = region.run("rollback")
    assert ended.status == 0, ended.text
    assert "Launch template version 2." in ended.text
    assert fleet.running() == {versions[2]} != now
    assert fleet.versions() == versions, "the version is there already"
    until("the group's version", lambda: fleet.group()["LaunchTemplate"]["Version"] == "2")
