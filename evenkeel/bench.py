"""`make bench`: measures the platform that runs, and writes docs/scores.md; `make bench PARTS="service scale"` only these parts.

The seconds are this machine's, not AWS's. Traffic goes to the local region alone, bounded in count.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from evenkeel import bench_alone, status
from evenkeel.bench_bakes import RUNS, bakes
from evenkeel.bench_rollouts import DEPLOYS, bad_images, deploys
from evenkeel.bench_signups import signups
from evenkeel.host import ROOT
from evenkeel.scores import FILE, BoundMissed, keep, row, table
from evenkeel.stack import Stack
from evenkeel.steps import Failure, Steps, last_line, stop, wait_for
from evenkeel.target import Target

LOSSES, FAILOVERS, SIGNUPS, JOURNEYS = 3, 3, 200, 10
SCALE_SECONDS = 300


class Bench:
    """The region that runs, for the parts that measure it."""

    def __init__(self, target: Target) -> None:
        if target.local is None:
            raise Failure("only a region on this machine is measured: leave TARGET out")
        self.target = target
        self.local = target.local
        self.note: Callable[[str], None] = lambda _: None

    @cached_property
    def outputs(self) -> dict[str, Any]:
        found = Stack(self.target).outputs() if self.local.pid() else {}
        if not found:
            raise Failure("nothing runs here to be measured: run `make up` first")
        return found

    @property
    def url(self) -> str:
        return str(self.outputs["service_url"])

    @property
    def mail(self) -> str:
        return self.local.mail_url

    @property
    def group(self) -> str:
        return str(self.outputs["autoscaling_group_name"])

    def losses(self) -> list[float]:
        """Seconds from an instance's loss to three healthy ones, the replacement among them."""
        found = []
        for _ in range(LOSSES):
            rows = status.fleet(self.target, self.group)
            victim = rows[0]["instance"]
            self._podman("kill", victim)
            began = time.monotonic()

            def restored(count: int = len(rows), victim: str = victim) -> bool:
                # The lost one may stay for a while, until its lifecycle hook has waited in vain.
                serving = [row for row in status.fleet(self.target, self.group) if row["lifecycle"] == "InService"]
                return status.healthy(serving) == count == len(serving) and victim not in {row["instance"] for row in serving}

            wait_for("the replacement", restored, 300, period=0.1)
            found.append(time.monotonic() - began)
        return found

    def failovers(self) -> list[float]:
        """Seconds for which no signup was answered well, after the database was told to fail over."""
        found = []
        rds = self.target.client("rds")
        name = rds.describe_db_instances()["DBInstances"][0]["DBInstanceIdentifier"]

        def settled() -> bool:
            now = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
            return bool(now["DBInstanceStatus"] == "available" and now.get("SecondaryAvailabilityZone"))

        for _ in range(FAILOVERS):
            wait_for("a standby in sync", settled, 300)
            good, worst, ended = time.monotonic(), 0.0, time.monotonic() + 30
            rds.reboot_db_instance(DBInstanceIdentifier=name, ForceFailover=True)
            while time.monotonic() < ended:
                with requests.Session() as session:
                    try:
                        self._sign_up(session)
                        worst, good = max(worst, time.monotonic() - good), time.monotonic()
                    except (Failure, requests.RequestException):
                        time.sleep(0.05)
            found.append(worst)
        return found

    def signups(self) -> list[float]:
        """Milliseconds of each of a row of signups on one connection."""
        found = []
        with requests.Session() as session:
            for _ in range(SIGNUPS):
                began = time.monotonic()
                self._sign_up(session)
                found.append(1000 * (time.monotonic() - began))
        return found

    def journeys(self) -> list[float]:
        """Seconds from a signup's answer to its mail."""
        found = []
        with requests.Session() as session:
            for _ in range(JOURNEYS):
                email = self._sign_up(session)
                began = time.monotonic()

                def arrived(email: str = email) -> bool:
                    return bool(session.get(f"{self.mail}/messages", params={"to": email}, timeout=10).json())

                wait_for("a mail", arrived, 60, period=0.02)
                found.append(time.monotonic() - began)
        return found

    def _sign_up(self, session: requests.Session) -> str:
        email = f"bench-{uuid.uuid4().hex}@example.com"
        person = {"first_name": "Bench", "last_name": "Mark", "email": email, "password": "measured twice, cut once"}
        answer = session.post(f"{self.url}/v1/user", json=person, timeout=30)
        if answer.status_code != 201:
            raise Failure(f"a signup was answered with {answer.status_code}: {answer.text[:200]}")
        return email

    def _podman(self, *arguments: str) -> None:
        subprocess.run(["podman", *arguments], env=self.target.environment(), check=True, capture_output=True)


def scale() -> str:
    """Run the proof of scale, a hundred stub instances under a hundred calls a second for five minutes; returns its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        environment = {**os.environ, "EVENKEEL_SCALE_SECONDS": str(SCALE_SECONDS), "EVENKEEL_SCALE_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "twin/tests/test_scale.py", "-q"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"the twin does not keep up: {last_line(done.stdout)}")
        figures: dict[str, Any] = json.loads(report.read_text())
        return table(("what", f"in {SCALE_SECONDS} s"), [f"| {name} | {value} |" for name, value in figures.items()])


def alone(bench: Bench) -> str:
    """Signups of the service alone; returns Markdown."""
    if bench.local.pid():
        raise Failure("a region takes its part of the processors: run `make down` first")
    return bench_alone.alone(bench.note)


def service(bench: Bench) -> str:
    """Signups, mails, losses and failovers; returns Markdown."""
    rows = [
        row("signup, answered through the load balancer", bench.signups(), "ms"),
        row("from the answer to the mail at the sink", bench.journeys(), "s"),
        row("loss of an instance to a full, healthy fleet", bench.losses(), "s"),
        row("longest wait for a signup while the database fails over", bench.failovers(), "s"),
    ]
    return table(("what", "runs", "median", "p99 or worst"), rows)


PARTS: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "alone": ("Signups: how many the service takes, alone", alone),
    "signups": (
        "Signups: what SendGrid has to do with them",
        lambda bench: signups(bench.target, bench.local, bench.outputs, bench.note),
    ),
    "service": (f"The service: {SIGNUPS} signups, {JOURNEYS} mails, {LOSSES} losses, {FAILOVERS} failovers", service),
    "bakes": (f"The image: {RUNS} bakes, {RUNS} launches", lambda bench: bakes(bench.target, bench.group, bench.note)),
    "deploys": (f"Rollouts: {DEPLOYS} deploys in a row", lambda bench: deploys(bench.local)),
    "bad-images": ("Rollouts: bad images", lambda bench: bad_images(bench.local)),
    "scale": ("The twin's API: a hundred stub instances, a hundred calls a second", lambda _: scale()),
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(PARTS)
    if unknown:
        stop(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    # A cancelled job gets no more than this, and what was started for a part ends all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench = Bench(Target.from_environment())
        steps = Steps(len(names or PARTS))
        for name in names or PARTS:
            title, measure = PARTS[name]
            with steps.step(title) as bench.note:
                try:
                    keep(title, measure(bench))
                except BoundMissed as missed:
                    if missed.text:
                        keep(title, missed.text)
                    raise
    except Failure as failure:
        stop(str(failure))
    print(f"written to {FILE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
