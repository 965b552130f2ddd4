"""Rollouts on the whole platform, under load: good images reach the fleet and nobody notices, bad ones do not stay.

`make bench` deploys ten times in a row and every bad image; here some stand for them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults import watching
from images import BAD, GOOD, running_image, variant
from load import load
from support import NAME, SLOT, Platform, evenkeel, wait_until

from evenkeel import status
from evenkeel.host import ROOT

pytestmark = pytest.mark.long

RATE = 50
DEPLOYS = int(os.environ.get("EVENKEEL_DEPLOYS", "1"))
# What is measured needs more requests before a deploy to be compared with those during it.
BEFORE = RATE * (40 if "EVENKEEL_DEPLOYS" in os.environ else 10)
# Those whose whole way is shorter than a test's patience; EVENKEEL_DEPLOYS asks for all.
BAD_HERE = list(BAD) if "EVENKEEL_DEPLOYS" in os.environ else ["crash at start", "late errors"]
# What ends the rollout of those that turn healthy.
ALARMS = {"late errors": "service-errors", "leaking memory": "balancer-errors"}
# New instances have half a minute to become healthy while those are tried that never do.
GRACE = 30


@dataclass
class Capacity:
    """Healthy targets over time, as the load balancer says."""

    least: int = 99
    looks: int = 0
    versions: set[str] = field(default_factory=set)


def whole(platform: Platform, image: str) -> bool:
    rows = platform.fleet()
    return len(rows) == status.healthy(rows) == 3 == len({row["zone"] for row in rows}) and {row["image"] for row in rows} == {
        image
    }


@contextmanager
def watched(platform: Platform) -> Iterator[Capacity]:
    found = Capacity()
    elb, arn = platform.target.client("elbv2"), platform.outputs["target_group_arn"]

    def look() -> None:
        targets = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        found.least = min(found.least, sum(target["TargetHealth"]["State"] == "healthy" for target in targets))
        found.looks += 1

    with watching(look):
        yield found


@pytest.fixture(scope="module")
def images(platform: Platform) -> list[str]:
    """The image that runs, and a good one that differs from it."""
    wait_until("a whole fleet", lambda: len({row["image"] for row in platform.fleet()}) == 1)
    return [running_image(platform), variant(platform, GOOD)]


@pytest.mark.parametrize("number", range(DEPLOYS))
def test_a_deploy_loses_no_request(platform: Platform, images: list[str], number: int) -> None:
    wait_until("a whole fleet", lambda: whole(platform, running_image(platform)))
    old = running_image(platform)
    new = next(image for image in images if image != old)
    with load(platform.url, RATE) as running, watched(platform) as capacity:
        began = time.monotonic()
        wait_until("requests before the deploy", lambda: len(running.outcomes) > BEFORE)
        started = time.monotonic()
        done = evenkeel("deploy", IMAGE=new)
        ended = time.monotonic()
        wait_until("requests after the deploy", lambda: len(running.sent(ended)) > 5 * RATE)
    found = platform.found_users(running.acknowledged)
    report(
        f"deploy {number + 1}",
        {
            "seconds": round(ended - started, 1),
            "steps": steps(done.stdout, round(ended - started)),
            "requests": len(running.sent()),
            "failed": len(running.failed()),
            "signups": len(running.acknowledged),
            "lost": len(running.acknowledged) - found,
            "p99 before ms": running.p99(began, started),
            "p99 during ms": running.p99(started, ended),
            "least healthy": capacity.least,
        },
    )
    assert [(round(one.at - started, 1), one.status, one.words) for one in running.failed()] == []
    assert found == len(running.acknowledged) > 0
    assert whole(platform, new)
    assert capacity.least >= 3
    assert capacity.looks > 10
    assert "Successful" in done.stdout
    assert "warming" in done.stdout  # progress, zone by zone


@pytest.fixture
def hasty(platform: Platform, name: str) -> Iterator[None]:
    """The group's grace period, cut while an image is tried that never turns healthy."""
    if name in ALARMS:
        yield
        return
    client, group = platform.target.client("autoscaling"), platform.outputs["autoscaling_group_name"]
    before = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]["HealthCheckGracePeriod"]
    client.update_auto_scaling_group(AutoScalingGroupName=group, HealthCheckGracePeriod=GRACE)
    yield
    client.update_auto_scaling_group(AutoScalingGroupName=group, HealthCheckGracePeriod=before)


@pytest.mark.parametrize("name", BAD_HERE)
def test_a_bad_image_does_not_stay(platform: Platform, images: list[str], hasty: None, name: str) -> None:
    old = running_image(platform)
    tags = {"SchemaHead": "9999"} if name == "broken migration" else {}
    script = BAD[name]
    if name == "broken migration":
        image = platform.target.client("ec2").describe_images(ImageIds=[old])["Images"][0]
        head = next(tag["Value"] for tag in image["Tags"] if tag["Key"] == "SchemaHead")
        script = script.replace('"HEAD"', f'"{head}"')
    bad = variant(platform, script, **tags)
    # No deploy starts under a ringing alarm, and the errors of the image before are heard for three minutes.
    wait_until("silent alarms", lambda: set(platform.alarms().values()) == {"OK"}, seconds=600)
    alarm = ALARMS.get(name, "")
    # An alarm needs a minute of errors, and some more to be computed.
    settings = f"-e deploy_bake_seconds={240 if alarm else 5} -e deploy_checkpoint_delay_seconds=5"
    with load(platform.url, RATE) as running, watched(platform) as capacity:
        wait_until("requests before the deploy", lambda: len(running.outcomes) > 3 * RATE)
        started = time.monotonic()
        done = evenkeel("deploy", check=False, IMAGE=bad, ARGS=settings)
        ended = time.monotonic()
        wait_until("requests after the deploy", lambda: len(running.sent(ended)) > 5 * RATE)
    said = done.stdout + done.stderr
    report(
        f"bad image: {name}",
        {
            "seconds": round(ended - started, 1),
            "requests": len(running.sent()),
            "failed": len(running.failed()),
            "least healthy": capacity.least,
            "why": why(said),
        },
    )
    assert done.returncode != 0
    assert "RollbackSuccessful" in said
    wait_until("the old image everywhere", lambda: whole(platform, old))
    # One that runs out of memory once it serves takes its own instance with it.
    assert capacity.least >= (2 if name == "leaking memory" else 3)
    if alarm:
        assert f"evenkeel-rollout-{alarm}" in why(said)
        assert len(running.failed(since=ended)) == 0
    else:
        assert running.failed() == []
    assert platform.found_users(running.acknowledged) == len(running.acknowledged) > 0


def test_a_deploy_goes_on_without_its_operator(platform: Platform, images: list[str]) -> None:
    """Killed in the middle, the refresh goes on; the same command finds it again. A second image meanwhile is refused."""
    old = running_image(platform)
    new = next(image for image in images if image != old)
    environment = {**os.environ, "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT), "TARGET": "twin", "IMAGE": new}
    group = platform.target.client("autoscaling")
    name = platform.outputs["autoscaling_group_name"]

    def refreshes() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = group.describe_instance_refreshes(AutoScalingGroupName=name)["InstanceRefreshes"]
        return found

    before = len(refreshes())
    operator = subprocess.Popen(
        [sys.executable, "-m", "evenkeel", "deploy"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until("the refresh", lambda: len(refreshes()) > before and refreshes()[0]["Status"] == "InProgress")
    operator.kill()
    operator.wait()
    # The playbook it ran ends with it.
    wait_until("the end of all it started", lambda: not group_lives(operator.pid))
    refused = evenkeel("deploy", check=False, IMAGE=old)
    assert refused.returncode != 0
    assert "under way" in refused.stdout + refused.stderr
    again = evenkeel("deploy", IMAGE=new)
    assert "following it" in again.stdout
    assert "Successful" in again.stdout
    assert len(refreshes()) == before + 1
    assert whole(platform, new)
    listed = evenkeel("releases").stdout
    assert new in listed
    assert old in listed


def group_lives(leader: int) -> bool:
    """Whether a process of this process group still runs."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def why(said: str) -> str:
    """AWS's reason for the rollback, or the operator's."""
    given_up = re.search(r"rolling back: .*?(?= \(i-)", said)
    (ended,) = re.findall(r"the refresh ended \w+ after \d+ s: (.*)", said)
    return given_up[0] if given_up else str(ended)


def steps(said: str, seconds: int) -> dict[str, int]:
    """Seconds of a good deploy's steps, by the clock that its progress shows."""
    looks = [
        (60 * int(minutes) + int(rest), status, int(percent))
        for minutes, rest, status, percent in re.findall(r"^ *(\d+):(\d\d)  (\w+) (\d+) %", said, re.MULTILINE)
    ]
    first = next(at for at, _, percent in looks if percent)
    replaced = next(at for at, status, _ in looks if status in ("Baking", "Successful"))
    whole = looks[-1][0]
    return {
        "first zone": first,
        "other zones, after the checkpoint's delay": replaced - first,
        "bake time": whole - replaced,
        "before and after the refresh": seconds - whole,
    }


def report(what: str, figures: dict[str, Any]) -> None:
    """On standard output, and, for the benchmark, a line of JSON in the file that EVENKEEL_ROLLOUT_REPORT names."""
    print(f"\n{what}: {figures}")
    if file := os.environ.get("EVENKEEL_ROLLOUT_REPORT"):
        with Path(file).open("a") as out:
            out.write(json.dumps({"what": what, **figures}) + "\n")
