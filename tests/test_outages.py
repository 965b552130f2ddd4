"""What the service stands on is away, for as long as it takes to hurt, under load: nobody is replaced, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import requests
from faults import experiment, watching
from load import Load, load
from support import Platform, wait_until

pytestmark = pytest.mark.long

RATE, SIGNUP_EVERY = 20, 4
# Longer than any answer takes, so that it is the service that gives up.
PATIENCE = 30
# What the service may take to say that it has no database.
LONGEST = 10
DATABASE_SECONDS, SNS_SECONDS = 30, 60
UNITS = ("signup.service", "signup-outbox.service")


@pytest.fixture(scope="module", autouse=True)
def silence(platform: Platform) -> Iterator[None]:
    """Under the alarms that an outage rings, no later test could deploy."""
    yield
    wait_until("silent alarms", lambda: set(platform.alarms().values()) == {"OK"}, seconds=600)


@dataclass
class Seen:
    """What the group, the load balancer and /readyz said of the fleet, and how often they were asked."""

    looks: int = 0
    instances: set[frozenset[str]] = field(default_factory=set)
    health: set[tuple[str, str]] = field(default_factory=set)
    ready: set[int] = field(default_factory=set)


@contextmanager
def watched(platform: Platform) -> Iterator[Seen]:
    seen = Seen()

    def look() -> None:
        rows = platform.fleet()
        seen.instances.add(frozenset(row["instance"] for row in rows))
        seen.health |= {(row["lifecycle"], row["target"]) for row in rows}
        seen.looks += 1

    def ask() -> None:
        seen.ready.add(requests.get(f"{platform.url}/readyz", timeout=PATIENCE).status_code)

    with watching(look), watching(ask):
        yield seen


def processes(platform: Platform) -> dict[str, set[str]]:
    """The invocations of the units of each instance that run: systemd gives every start another id."""
    ask = ("systemctl", "show", *UNITS, "--property=ActiveState,InvocationID")
    found = {}
    for row in platform.fleet():
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
    assert platform.found_users(emails) == len(emails)
    wait_until("a mail for everyone who was told of a signup", lambda: mailed(platform, emails) == len(emails), seconds=300)


def test_the_database_is_away_for_half_a_minute(platform: Platform) -> None:
    before = processes(platform)
    wait_until("a standby", lambda: platform.database().get("SecondaryAvailabilityZone"), seconds=300)
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
    # The edges are left out: what left just before the end was answered after it.
    inside = [one for one in running.sent(began + 1, ended - LONGEST) if one.signup]
    refused = [one for one in inside if one.status == 503]
    longest = max(one.seconds for one in inside)
    print(
        f"\n{len(inside)} signups in {ended - began:.0f} s without a database, {len(refused)} of them refused, the slowest after "
        f"{longest:.1f} s; signups again {again:.1f} s after its end; {len(running.acknowledged)} acknowledged"
    )
    # Nobody left service, and nothing was started anew.
    assert len(seen.instances) == 1
    assert seen.looks > 10
    assert seen.health == {("InService", "healthy")}
    assert processes(platform) == before
    # Clients were told when to come back, whatever they had asked for; nobody was left without an answer.
    assert len(refused) > 0.9 * len(inside) > 0
    assert longest < LONGEST
    failed = running.failed()
    assert {one.status for one in failed} == {503}
    assert all(one.retry_after and one.signup for one in failed)
    assert not running.failed(since=ended + 10)
    assert 503 in seen.ready
    nothing_lost(platform, running)
    wait_until("a standby again", lambda: platform.database().get("SecondaryAvailabilityZone"), seconds=300)


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
    assert len(seen.instances) == 1
    assert seen.looks > 10
    assert seen.health == {("InService", "healthy")}
    assert seen.ready == {200}
    assert processes(platform) == before
    nothing_lost(platform, running)


def test_an_instances_processes_are_killed(platform: Platform) -> None:
    with load(platform.url, RATE, signup_every=2) as running:
        for victim in [row["instance"] for row in platform.fleet()]:
            before = processes(platform)[victim]
            assert len(before) == len(UNITS)
            seen = len(running.acknowledged)
            wait_until("some signups", lambda seen=seen: len(running.acknowledged) > seen + 20)  # type: ignore[misc]
            platform.podman("exec", victim, "systemctl", "kill", "--signal=KILL", *UNITS)
            wait_until("others", lambda was=(victim, before): restarted(platform, *was))  # type: ignore[misc]
    failed = running.failed()
    print(f"\n{len(running.acknowledged)} signups acknowledged, {len(failed)} of {len(running.sent())} requests failed")
    nothing_lost(platform, running)


def restarted(platform: Platform, victim: str, before: set[str]) -> bool:
    """Whether all its units run anew, or it has been replaced."""
    now = processes(platform)
    return len(now) == 3 and (victim not in now or len(now[victim] - before) == len(UNITS))
