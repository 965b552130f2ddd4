"""What the service stands on is away, for as long as it takes to hurt, under load: nobody is replaced, and nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from load import Load, load
from support import Platform, wait_until
from test_rollout_alarms import states
from test_zone_loss import database, fleet, found_users

pytestmark = pytest.mark.long

RATE, SIGNUP_EVERY = 20, 4
# Longer than any answer takes, so that it is the service that gives up.
PATIENCE = 30
DATABASE_SECONDS, SNS_SECONDS = 30, 60
UNITS = ("signup.service", "signup-outbox.service")
# What aws:network:disrupt-connectivity asks for: https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
NETWORK = [f"ec2:{verb}NetworkAcl" for verb in ("Create", "Delete")] + [
    *("ec2:CreateNetworkAclEntry", "ec2:CreateTags", "ec2:ReplaceNetworkAclAssociation"),
    *("ec2:DescribeNetworkAcls", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
]


@pytest.fixture(scope="module", autouse=True)
def silence(platform: Platform) -> Iterator[None]:
    """Under the alarms that an outage rings, no later test could deploy."""
    yield
    wait_until("silent alarms", lambda: set(states(platform).values()) == {"OK"}, seconds=600)


@contextmanager
def experiment(platform: Platform, action: dict[str, Any], targets: dict[str, Any] | None = None) -> Iterator[float]:
    """Run an experiment of one action for as long as the block lasts; yields when it began."""
    iam, fis = platform.target.client("iam"), platform.target.client("fis")
    name = "outage"
    try:
        role = iam.get_role(RoleName=name)["Role"]["Arn"]
    except ClientError:
        trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = {"Version": "2012-10-17", "Statement": [trust]}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": NETWORK, "Resource": "*"}]}
        iam.put_role_policy(RoleName=name, PolicyName="network", PolicyDocument=json.dumps(allowed))
    made = fis.create_experiment_template(
        description="An outage",
        roleArn=role,
        stopConditions=[{"source": "none"}],
        actions={"outage": action},
        targets=targets or {},
    )
    started = fis.start_experiment(experimentTemplateId=made["experimentTemplate"]["id"])["experiment"]["id"]

    def state() -> str:
        return str(fis.get_experiment(id=started)["experiment"]["state"]["status"])

    try:
        wait_until("the outage", lambda: state() != "initiating")
        assert state() == "running", fis.get_experiment(id=started)["experiment"]["state"]
        yield time.monotonic()
    finally:
        if state() == "running":
            fis.stop_experiment(id=started)
        wait_until("the outage's end", lambda: state() in ("stopped", "completed", "failed"))


@contextmanager
def watched(platform: Platform) -> Iterator[dict[str, set[Any]]]:
    """What the group, the load balancer and /readyz say of the fleet while the block lasts."""
    seen: dict[str, set[Any]] = {"instances": set(), "health": set(), "ready": set()}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            rows = fleet(platform)
            seen["instances"].add(frozenset(row["instance"] for row in rows))
            seen["health"] |= {(row["lifecycle"], row["target"]) for row in rows}
            seen["ready"].add(requests.get(f"{platform.url}/readyz", timeout=PATIENCE).status_code)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def processes(platform: Platform) -> dict[str, set[str]]:
    """The invocations of the units of each instance that run: systemd gives every start another id."""
    ask = ("systemctl", "show", *UNITS, "--property=ActiveState,InvocationID")
    found = {}
    for row in fleet(platform):
        units = platform.podman("exec", row["instance"], *ask).split("\n\n")
        shown = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in units]
        found[row["instance"]] = {unit["InvocationID"] for unit in shown if unit["ActiveState"] == "active"}
    return found


def mailed(platform: Platform, emails: list[str]) -> int:
    """How many of the addresses have a mail; of the newest thousand, which are more than one test causes."""
    found = {mail["to"] for mail in requests.get(f"{platform.local.mail_url}/messages", timeout=30).json()}
    return len(found & set(emails))


def nothing_lost(platform: Platform, running: Load) -> None:
    emails = running.acknowledged
    assert len(emails) < 1000
    assert found_users(platform, emails) == len(emails)
    wait_until("a mail for everyone who was told of a signup", lambda: mailed(platform, emails) == len(emails), seconds=300)


def test_the_database_is_away_for_half_a_minute(platform: Platform) -> None:
    before = processes(platform)
    wait_until("a standby", lambda: database(platform).get("SecondaryAvailabilityZone"), seconds=300)
    subnets = {"resourceType": "aws:ec2:subnet", "resourceTags": {"Tier": "database"}, "selectionMode": "ALL"}
    action = {
        "actionId": "aws:network:disrupt-connectivity",
        "targets": {"Subnets": "database"},
        "parameters": {"scope": "all", "duration": "PT10M"},
    }
    options = {"signup_every": SIGNUP_EVERY, "timeout": PATIENCE}
    with watched(platform) as seen, load(platform.url, RATE, **options) as running:
        wait_until("some requests before", lambda: len(running.outcomes) > 3 * RATE)
        with experiment(platform, action, {"database": subnets}) as began:
            wait_until("half a minute", lambda: time.monotonic() > began + DATABASE_SECONDS)
        ended = time.monotonic()
        wait_until("signups again", lambda: [one for one in running.sent(ended) if one.signup and one.status == 201])
        again = time.monotonic() - ended
        wait_until("a while after", lambda: time.monotonic() > ended + 15)
    inside = [one for one in running.sent(began + 1, ended) if one.signup]
    refused = [one for one in inside if one.status == 503]
    longest = max(one.seconds for one in inside)
    print(
        f"\n{len(inside)} signups in {ended - began:.0f} s without a database, {len(refused)} of them refused, the slowest after "
        f"{longest:.1f} s; signups again {again:.1f} s after its end; {len(running.acknowledged)} acknowledged"
    )
    # Nobody left service, and nothing was started anew.
    assert len(seen["instances"]) == 1
    assert seen["health"] == {("InService", "healthy")}
    assert processes(platform) == before
    # Clients were told when to come back, whatever they had asked for; nobody was left without an answer.
    assert len(refused) > 0.9 * len(inside)
    failed = running.failed()
    assert {one.status for one in failed} == {503}
    assert all(one.retry_after and one.signup for one in failed)
    assert not running.failed(since=ended + 10)
    assert 503 in seen["ready"]
    nothing_lost(platform, running)
    wait_until("a standby again", lambda: database(platform).get("SecondaryAvailabilityZone"), seconds=300)


def test_sns_is_away_for_a_minute(platform: Platform) -> None:
    before = processes(platform)
    action = {"actionId": "twin:service:unavailable", "parameters": {"service": "sns", "duration": "PT10M"}}
    options = {"signup_every": SIGNUP_EVERY, "timeout": PATIENCE}
    with watched(platform) as seen, load(platform.url, RATE, **options) as running:
        wait_until("some requests before", lambda: len(running.outcomes) > 3 * RATE)
        with experiment(platform, action) as began:
            wait_until("a few seconds", lambda: time.monotonic() > began + 5)
            known = len(running.acknowledged)
            wait_until("a minute", lambda: time.monotonic() > began + SNS_SECONDS)
            waiting = running.acknowledged[known:]
            assert mailed(platform, waiting) == 0
        ended = time.monotonic()
        wait_until("a while after", lambda: time.monotonic() > ended + 5)
    emails = running.acknowledged
    print(f"\n{len(emails)} signups, {len(waiting)} of them in a minute without SNS; {len(running.failed())} requests failed")
    assert len(waiting) > 0.8 * (SNS_SECONDS - 5) * RATE / SIGNUP_EVERY
    assert not running.failed()
    assert len(seen["instances"]) == 1
    assert seen["health"] == {("InService", "healthy")}
    assert seen["ready"] == {200}
    assert processes(platform) == before
    nothing_lost(platform, running)


def test_an_instances_processes_are_killed(platform: Platform) -> None:
    victim = fleet(platform)[0]["instance"]
    with load(platform.url, RATE, signup_every=2) as running:
        for _ in range(3):
            before = processes(platform)[victim]
            assert len(before) == len(UNITS)
            seen = len(running.acknowledged)
            wait_until("some signups", lambda seen=seen: len(running.acknowledged) > seen + 20)  # type: ignore[misc]
            platform.podman("exec", victim, "systemctl", "kill", "--signal=KILL", *UNITS)
            wait_until("others", lambda before=before: len(processes(platform)[victim] - before) == len(UNITS))  # type: ignore[misc]
    failed = running.failed()
    print(f"\n{len(running.acknowledged)} signups acknowledged, {len(failed)} of {len(running.sent())} requests failed")
    nothing_lost(platform, running)
