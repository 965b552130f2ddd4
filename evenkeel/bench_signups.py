"""The part `signups` of `make bench`: whether signups care for SendGrid, in the region that runs, through the whole chain.

What AWS does on machines of its own has processors of its own meanwhile: the region's process, and functions. With a healthy
SendGrid they have most to do while signups are answered, and on the same processors that would be measured. For the same reason
the fleet is one instance: of several, each would be held up by what the others do besides.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from evenkeel import status
from evenkeel.local import Local
from evenkeel.scores import BoundMissed, quantile, table
from evenkeel.signup_load import load
from evenkeel.steps import Failure, wait_for
from evenkeel.target import Target

RUNS = 5
MOST_BETWEEN = 1.10
# An open loop, at a rate that leaves the machine room for everything that a signup causes. A run is made of bursts, each so
# short that Lambda does not give up on a mail that SendGrid does not take: its third and last attempt here comes after 25 s.
# SendGrid's state changes with each burst, so that what else keeps the machine for a minute keeps it in all states alike.
RATE, COUNT, BURSTS = 8.0, 120, 4
MAIL_SECONDS = 600
SENDGRID: dict[str, dict[str, Any]] = {
    "healthy": {"mode": "none"},
    "slow: 5 s": {"mode": "slow", "seconds": 5},
    "hanging": {"mode": "hang", "seconds": 60},
}


def signups(target: Target, local: Local, outputs: dict[str, Any], note: Callable[[str], None] = lambda _: None) -> str:
    """Measure it; returns Markdown. Raises BoundMissed with it when a bound is missed."""
    burst = Burst(target, local, outputs["service_url"], outputs["mail_table_name"])
    with one_instance(target, outputs["autoscaling_group_name"], note), apart(local):
        text, missed = told(runs(burst, note))
    if missed:
        raise BoundMissed(text, missed)
    return text


@contextmanager
def one_instance(target: Target, group: str, note: Callable[[str], None]) -> Iterator[None]:
    """While the context lasts the fleet is one instance. One that is killed meanwhile leaves that to `make up` to mend."""
    scaling = target.client("autoscaling")
    found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]

    def become(least: int, count: int) -> None:
        note(f"a fleet of {count}")
        scaling.update_auto_scaling_group(AutoScalingGroupName=group, MinSize=least, DesiredCapacity=count)

        def done() -> bool:
            rows = status.fleet(target, group)
            return len(rows) == status.healthy(rows) == count

        wait_for(f"a healthy fleet of {count}", done, 300)

    try:
        become(1, 1)
        yield
    finally:
        become(found["MinSize"], found["DesiredCapacity"])


@contextmanager
def apart(local: Local) -> Iterator[None]:
    """While the context lasts, what is a machine of AWS' own has processors of its own, and so has the fleet with its load.

    Environments of functions that are started meanwhile inherit those of the region's process.
    """
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        raise Failure("this part needs two processors: one for the fleet, one for what is not on its machines")
    fleet, others = every[: len(every) // 2], every[len(every) // 2 :]
    try:
        _place(local, fleet, others)
        yield
    finally:
        _place(local, every, every)


def _place(local: Local, fleet: list[int], others: list[int]) -> None:
    os.sched_setaffinity(0, fleet)
    for thread in Path(f"/proc/{local.pid()}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), others)
    own = {**os.environ, **local.environment()}
    names = subprocess.run(["podman", "ps", "--format={{.Names}}"], env=own, capture_output=True, text=True, check=True).stdout
    for name in names.split():
        cpus = ",".join(map(str, others if "-verifier-" in name else fleet))
        subprocess.run(["podman", "update", f"--cpuset-cpus={cpus}", name], env=own, capture_output=True, check=False)


def runs(burst: Burst, note: Callable[[str], None]) -> dict[str, list[list[float]]]:
    """Milliseconds of the answers by SendGrid's state and run."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in range(RUNS)] for name in SENDGRID}
    names = list(SENDGRID)
    load(burst.url, 30, f"--rate={RATE}")
    for number in range(RUNS * BURSTS):
        run = number // BURSTS
        # Each of them comes first, second and last equally often, or nearly.
        for name in names[number % 3 :] + names[: number % 3]:
            note(f"run {run + 1} of {RUNS}, burst {number % BURSTS + 1} of {BURSTS}, SendGrid {name}")
            found[name][run] += burst(SENDGRID[name])
    return found


@dataclass
class Burst:
    """A burst of signups, after which nothing of it is under way any more."""

    target: Target
    local: Local
    url: str
    mail_table: str

    def __call__(self, fault: dict[str, Any]) -> list[float]:
        """Milliseconds of the answers with that fault of SendGrid's. Raises BoundMissed or Failure."""
        order(self.local.mail_url, fault)
        try:
            seen = load(self.url, COUNT, f"--rate={RATE}")
        finally:
            order(self.local.mail_url, SENDGRID["healthy"])
        if seen["refused"]:
            raise BoundMissed("", [f"of {COUNT} signups, {seen['refused']} were not answered with 201"])
        wait_for("the mails of all that have signed up", lambda: self._mailed(set(seen["addresses"])), MAIL_SECONDS, period=1)
        milliseconds: list[float] = seen["milliseconds"]
        return milliseconds

    def _mailed(self, wanted: set[str]) -> bool:
        """Whether all these have their mails, and the service has noted that these were delivered."""
        newest = requests.get(f"{self.local.mail_url}/messages", timeout=30).json()
        mails = {mail["to"]: mail["custom_args"]["message_id"] for mail in newest}
        return wanted <= mails.keys() and all(self._delivered(mails[address]) for address in wanted)

    def _delivered(self, message_id: str) -> bool:
        key = {"message_id": {"S": message_id}}
        return "delivered_at" in self._dynamodb.get_item(TableName=self.mail_table, Key=key).get("Item", {})

    @cached_property
    def _dynamodb(self) -> Any:
        return self.target.client("dynamodb")


def order(mail_url: str, fault: dict[str, Any]) -> None:
    """Tell the sink how to behave."""
    requests.put(f"{mail_url}/faults", json=fault, timeout=10).raise_for_status()


def told(measured: dict[str, list[list[float]]]) -> tuple[str, list[str]]:
    """Markdown of the runs, and what was missed."""
    medians = {name: statistics.median(quantile(run, 0.99) for run in found) for name, found in measured.items()}
    rows = []
    for name, found in measured.items():
        half, most = ([quantile(run, share) for run in found] for share in (0.5, 0.99))
        spread = f"{min(most):.0f} to {max(most):.0f} ms"
        rows.append(
            f"| {name} | {len(found)} x {BURSTS * COUNT} | {statistics.median(half):.0f} ms | {medians[name]:.0f} ms | {spread} |"
        )
    between = max(medians.values()) / min(medians.values())
    head = (
        f"Signups through the whole chain, {RATE:g} a second, by the state of SendGrid; medians of {RUNS} interleaved runs. "
        f"Every one was answered with 201, and every mail was delivered. The fleet was one instance, and what AWS does on "
        f"machines of its own had processors of its own. "
        f"The p99s are within {100 * (between - 1):.0f} % of each other."
    )
    missed = [] if between <= MOST_BETWEEN else [f"p99s {100 * (between - 1):.0f} % apart, where 10 % are allowed"]
    return f"{head}\n\n{table(('SendGrid', 'signups', 'p50', 'p99', 'p99 of the runs'), rows)}", missed
