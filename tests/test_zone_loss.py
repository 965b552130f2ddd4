"""The loss of a zone: its power goes at once, with the database's primary in it, under load."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from load import Load, load
from support import Platform, wait_until

from evenkeel import status

RATE = 50
# Detection: two failed checks five seconds apart, each with two seconds to answer.
WINDOW = 2 * 5 + 2 * 2
AFTER = 120


def experiment(platform: Platform, zone: str, minutes: int) -> str:
    """An experiment template that takes a zone's power for some minutes; returns its id."""
    iam, fis = platform.target.client("iam"), platform.target.client("fis")
    trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
    name = "zone-power-loss"
    try:
        role = iam.get_role(RoleName=name)["Role"]["Arn"]
    except ClientError:
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    parameters = {"availabilityZoneIdentifier": zone, "duration": f"PT{minutes}M"}
    made = fis.create_experiment_template(
        description="A zone loses its power",
        roleArn=role,
        stopConditions=[{"source": "none"}],
        actions={"power": {"actionId": "twin:zone:power-loss", "parameters": parameters}},
    )
    return str(made["experimentTemplate"]["id"])


def fleet(platform: Platform) -> list[dict[str, str]]:
    return status.fleet(platform.target, platform.outputs["autoscaling_group_name"])


def database(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = platform.target.client("rds").describe_db_instances()["DBInstances"][0]
    return found


def full(platform: Platform, zones: set[str]) -> bool:
    """Whether the fleet is whole and healthy in these zones alone."""
    rows = fleet(platform)
    return len(rows) == 3 == status.healthy(rows) and {row["zone"] for row in rows} == zones


def found_users(platform: Platform, emails: list[str]) -> int:
    """How many of the addresses the database has, by its own count, in the primary's container."""
    listed = ",".join(f"'{email}'" for email in emails)
    primary = primary_container(platform)
    query = f"SELECT count(*) FROM users WHERE email IN ({listed})"  # noqa: S608 (addresses of our own making)
    answer = platform.podman("exec", primary, "psql", "-U", "rdsadmin", "-h", "/tmp", "-d", "signup", "-tAc", query)  # noqa: S108
    return int(answer)


def primary_container(platform: Platform) -> str:
    """The container that runs the database and takes writes."""
    for name in platform.podman("ps", "--format={{.Names}}").split():
        if not name.startswith(f"{database(platform)['DBInstanceIdentifier']}-"):
            continue
        ask = ("exec", name, "psql", "-U", "rdsadmin", "-h", "/tmp", "-d", "postgres", "-tAc", "SELECT pg_is_in_recovery()")  # noqa: S108
        if platform.podman(*ask, check=False) == "f":
            return name
    raise AssertionError("no container takes writes")


def first_signup_after(running: Load, moment: float) -> float:
    """Seconds from `moment` to the first answer to a signup that left after the last one that the detection window saw fail."""
    signups = [one for one in running.sent(moment) if one.signup]
    failed = [one.at for one in signups if one.status != 201 and one.at < moment + WINDOW]
    good = [one.at + one.seconds for one in signups if one.status == 201 and (not failed or one.at > max(failed))]
    return round(min(good) - moment, 1)


def test_a_zone_goes_dark_with_the_database_in_it(platform: Platform) -> None:
    zones = {row["zone"] for row in fleet(platform)}
    before = database(platform)
    assert before["MultiAZ"]
    dark, spare = before["AvailabilityZone"], before["SecondaryAvailabilityZone"]
    assert len(zones) == 3
    assert dark in zones
    template = experiment(platform, dark, 4)
    fis = platform.target.client("fis")
    moment = 0.0
    started = ""
    try:
        with load(platform.url, RATE) as running:
            wait_until("some requests before the fault", lambda: len(running.outcomes) > 5 * RATE)
            moment = time.monotonic()
            started = fis.start_experiment(experimentTemplateId=template)["experiment"]["id"]
            wait_until("the database in the other zone", lambda: database(platform)["AvailabilityZone"] == spare)
            promoted = time.monotonic() - moment
            wait_until("full capacity in the other zones", lambda: full(platform, zones - {dark}))
            restored = time.monotonic() - moment
            with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
                launch_in(platform, dark)
            wait_until("two minutes under load", lambda: time.monotonic() > moment + WINDOW + AFTER, seconds=300)
    finally:
        if started:
            fis.stop_experiment(id=started)
    wait_until("the end of the experiment", lambda: fis.get_experiment(id=started)["experiment"]["state"]["status"] == "stopped")
    wait_until("an instance in each zone again", lambda: full(platform, zones), seconds=300)
    wait_until("a standby again", lambda: database(platform).get("SecondaryAvailabilityZone"), seconds=300)

    inside = running.failed(moment, moment + WINDOW)
    sent, late = running.sent(since=moment + WINDOW), running.failed(since=moment + WINDOW)
    # A service that has more to hash than cores to do it says so; that is no trace of the zone, but it counts as no success.
    lost = [(round(one.at - moment, 1), one.status, one.words) for one in late if "Too many" not in one.words]
    print(
        f"\n{len(running.sent())} requests; {len(inside)} failed in {WINDOW} s of detection, {len(late)} of {len(sent)} later; "
        f"database in the other zone after {promoted:.1f} s, signups again after {first_signup_after(running, moment)} s, "
        f"capacity after {restored:.1f} s"
    )
    assert not lost, f"failures after the detection window: {lost}"
    assert len(late) <= 0.005 * len(sent), [one.words for one in late]
    assert running.acknowledged
    assert found_users(platform, running.acknowledged) == len(running.acknowledged)


def launch_in(platform: Platform, zone: str) -> None:
    ec2 = platform.target.client("ec2")
    image = ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    here = [{"Name": "availability-zone", "Values": [zone]}, {"Name": "tag:Tier", "Values": ["app"]}]
    subnet = ec2.describe_subnets(Filters=here)["Subnets"][0]["SubnetId"]
    ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=subnet)
