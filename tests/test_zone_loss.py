"""The loss of a zone: its power goes at once, with the database's primary in it, under load."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError
from faults import experiment
from load import Load, load
from support import Platform, wait_until

from evenkeel import status

RATE = 50
# Detection: two failed checks five seconds apart, each with two seconds to answer.
WINDOW = 2 * 5 + 2 * 2
AFTER = 120


def full(platform: Platform, zones: set[str]) -> bool:
    """Whether the fleet is whole and healthy in these zones alone."""
    rows = platform.fleet()
    return len(rows) == 3 == status.healthy(rows) and {row["zone"] for row in rows} == zones


def first_signup_after(running: Load, moment: float) -> float:
    """Seconds from `moment` to the first answer to a signup that left after the last one that the detection window saw fail."""
    signups = [one for one in running.sent(moment) if one.signup]
    failed = [one.at for one in signups if one.status != 201 and one.at < moment + WINDOW]
    good = [one.at + one.seconds for one in signups if one.status == 201 and (not failed or one.at > max(failed))]
    return round(min(good) - moment, 1)


def test_a_zone_goes_dark_with_the_database_in_it(platform: Platform) -> None:
    zones = {row["zone"] for row in platform.fleet()}
    before = platform.database()
    assert before["MultiAZ"]
    dark, spare = before["AvailabilityZone"], before["SecondaryAvailabilityZone"]
    assert len(zones) == 3
    assert dark in zones
    power = {"actionId": "twin:zone:power-loss", "parameters": {"availabilityZoneIdentifier": dark, "duration": "PT4M"}}
    with load(platform.url, RATE) as running:
        wait_until("some requests before the fault", lambda: len(running.outcomes) > 5 * RATE)
        with experiment(platform, power) as moment:
            wait_until("the database in the other zone", lambda: platform.database()["AvailabilityZone"] == spare)
            promoted = time.monotonic() - moment
            wait_until("full capacity in the other zones", lambda: full(platform, zones - {dark}))
            restored = time.monotonic() - moment
            with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
                launch_in(platform, dark)
            wait_until("two minutes under load", lambda: time.monotonic() > moment + WINDOW + AFTER, seconds=300)
    wait_until("an instance in each zone again", lambda: full(platform, zones), seconds=300)
    wait_until("a standby again", lambda: platform.database().get("SecondaryAvailabilityZone"), seconds=300)

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
    assert platform.found_users(running.acknowledged) == len(running.acknowledged)


def launch_in(platform: Platform, zone: str) -> None:
    ec2 = platform.target.client("ec2")
    image = ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    here = [{"Name": "availability-zone", "Values": [zone]}, {"Name": "tag:Tier", "Values": ["app"]}]
    subnet = ec2.describe_subnets(Filters=here)["Subnets"][0]["SubnetId"]
    ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=subnet)
