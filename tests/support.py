"""What the tests share: running the commands, waiting, and the platform under test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from evenkeel import status
from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.stack import Stack
from evenkeel.target import Target

# Of those whom the tests sign up.
PASSWORD = "a harbour for every ship"
# The tests' own region, unless another is named: benchmarks measure the one that runs.
NAME, SLOT = os.environ.get("EVENKEEL_TEST_NAME", "test"), int(os.environ.get("EVENKEEL_TEST_SLOT", "99"))


def evenkeel(command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the Makefile's commands on the tests' region."""
    own = {**os.environ, "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT), "TARGET": "twin", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "evenkeel", command], cwd=ROOT, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if check and done.returncode:
        pytest.fail(f"`{command}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


def wait_until(what: str, ready: Callable[[], Any], seconds: float = 180, period: float = 0.25) -> Any:
    """Wait for a condition; returns what it returned. Limits are generous: machines are noisy."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, f"{what} did not come within {seconds:.0f} s"
        time.sleep(period)
    return found


@dataclass(frozen=True)
class Platform:
    target: Target
    local: Local
    outputs: dict[str, Any]
    before: set[Path]

    @property
    def url(self) -> str:
        return str(self.outputs["service_url"])

    def podman(self, *arguments: str, check: bool = True) -> str:
        """podman on the region's containers, as `eval "$(make -s env)"` gives it to people."""
        done = subprocess.run(["podman", *arguments], env=self.target.environment(), capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def fleet(self) -> list[dict[str, str]]:
        return status.fleet(self.target, self.outputs["autoscaling_group_name"])

    def alarms(self) -> dict[str, str]:
        """States of those that end a rollout."""
        found = self.target.client("cloudwatch").describe_alarms(AlarmNames=self.outputs["rollout_alarm_names"])
        return {alarm["AlarmName"].rpartition("-rollout-")[2]: alarm["StateValue"] for alarm in found["MetricAlarms"]}

    def database(self) -> dict[str, Any]:
        """The database instance, as RDS describes it."""
        found: dict[str, Any] = self.target.client("rds").describe_db_instances()["DBInstances"][0]
        return found

    def query(self, statement: str) -> list[str]:
        """What the database answers, by its own tool in the container that takes writes."""
        for name in self.podman("ps", "--format={{.Names}}").split():
            if not name.startswith(f"{self.database()['DBInstanceIdentifier']}-"):
                continue
            ask = ("exec", name, "psql", "-U", "rdsadmin", "-h", "/tmp", "-d", "signup", "-tAc")  # noqa: S108
            if self.podman(*ask, "SELECT pg_is_in_recovery()", check=False) == "f":
                return self.podman(*ask, statement).split()
        raise AssertionError("no container takes writes")

    def found_users(self, emails: list[str]) -> int:
        """How many of the addresses, of our own making, the database has."""
        listed = ",".join(f"'{email}'" for email in emails)
        return int(self.query(f"SELECT count(*) FROM users WHERE email IN ({listed})")[0])  # noqa: S608

    def sign_up(self, email: str) -> requests.Response:
        person = {"first_name": "Grace", "last_name": "Hopper", "email": email, "password": PASSWORD}
        return requests.post(f"{self.url}/v1/user", json=person, timeout=30)

    def mails(self, email: str) -> list[dict[str, Any]]:
        """Those to an address, at the sink."""
        found: list[dict[str, Any]] = requests.get(f"{self.local.mail_url}/messages", params={"to": email}, timeout=10).json()
        return found


def scattered() -> set[Path]:
    """What our commands might leave in the machine's own folders."""
    folders = (Path(name) for name in ("/run", "/tmp", "/var/tmp", str(Path.home())))  # noqa: S108
    return {entry for folder in folders for entry in folder.iterdir() if entry.name.startswith(("evenkeel", "twin-", "packer"))}


def bring_up() -> Platform:
    before = scattered()
    evenkeel("up")
    local = Local(NAME, SLOT)
    target = Target("twin", local)
    return Platform(target, local, Stack(target).outputs(), before)
