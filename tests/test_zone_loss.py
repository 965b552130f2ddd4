"""The loss of a zone: its power goes at once, with the database's primary in it, under load."""

from __future__ import annotations

import json
import time
from collections import Counter
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


def first_signup_after(running: Load, moment: float) -> float | None:
    """Seconds from `moment` to the first signup that was answered well and left after the last that was not."""
    signups = [one for one in running.sent(moment) if one.signup]
    failed = [one.at for one in signups if one.status != 201]
    good = [one.at + one.seconds for one in signups if one.status == 201 and (not failed or one.at > max(failed))]
    return min(good) - moment if good else None


def test_a_zone_goes_dark_with_the_database_in_it(platform: Platform) -> None:
    zones = {row["zone"] for row in fleet(platform)}
    before = database(platform)
    assert before["MultiAZ"]
    dark, spare = before["AvailabilityZone"], before["SecondaryAvailabilityZone"]
    assert len(zones) == 3
    assert dark in zones
    template = experiment(platform, dark, 4)
    fis = platform.target.client("fis")
    with load(platform.url, RATE) as running:
        wait_until("some requests before the fault", lambda: len(running.outcomes) > 5 * RATE)
        moment = time.monotonic()
        started = fis.start_experiment(experimentTemplateId=template)["experiment"]["id"]
        try:
            wait_until("the database in the other zone", lambda: database(platform)["AvailabilityZone"] == spare)
            promoted = time.monotonic() - moment
            wait_until("full capacity in the other zones", lambda: full(platform, zones - {dark}))
            restored = time.monotonic() - moment
            base = platform.target.client("ec2").describe_images(Owners=["self"])["Images"][0]["ImageId"]
            subnets = platform.target.client("ec2").describe_subnets(
                Filters=[{"Name": "availability-zone", "Values": [dark]}, {"Name": "tag:Tier", "Values": ["app"]}]
            )["Subnets"]
            with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
                platform.target.client("ec2").run_instances(
                    ImageId=base, InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=subnets[0]["SubnetId"]
                )
            wait_until("two minutes under load", lambda: time.monotonic() > moment + WINDOW + AFTER, seconds=300)
        finally:
            fis.stop_experiment(id=started)
        wait_until(
            "the end of the experiment", lambda: fis.get_experiment(id=started)["experiment"]["state"]["status"] == "stopped"
        )
        wait_until("an instance in each zone again", lambda: full(platform, zones), seconds=300)
    assert not running.failed(until=moment), "failures before the fault"
    late = [(round(one.at - moment, 1), one.status, one.signup, one.words) for one in running.failed(since=moment + WINDOW)]
    sent = running.sent(moment + WINDOW, moment + WINDOW + AFTER)
    good = 1 - len(running.failed(moment + WINDOW, moment + WINDOW + AFTER)) / len(sent)
    inside = running.failed(moment, moment + WINDOW)
    words = dict(Counter(one.status for one in inside))
    print(
        f"\n{len(running.sent())} requests; {len(inside)} failed in the {WINDOW} s of detection {words}, {len(late)} later; "
        f"database in the other zone after {promoted:.1f} s, signups again after {first_signup_after(running, moment):.1f} s, "
        f"capacity after {restored:.1f} s"
    )
    assert good >= 0.995, late
    assert not late, f"failures after the detection window: {late}"
    assert running.acknowledged
    assert found_users(platform, running.acknowledged) == len(running.acknowledged)
