"""The part `alone` of `make bench`: how near it comes to what hashing leaves.

The ceiling is what the machine could hash if it did nothing else: its cores, by the processor time of one hash while all of them
hash. The service runs beside PostgreSQL, its publisher and the load generator, all on the same cores.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import psycopg2.extensions

from evenkeel import scratch
from evenkeel.alone import Service, service
from evenkeel.host import ROOT
from evenkeel.scores import BoundMissed, quantile, row, table
from evenkeel.signup_load import PASSWORD, load
from evenkeel.steps import Failure, wait_for
from evenkeel.topic import Topic
from signup.passwords import PasswordHasher
from signup.settings import cores
from twin.bodies.podman import Podman
from twin.bodies.usage import cpu_seconds

RUNS = 5
LEAST_SHARE = 0.65
# A closed loop, with more clients than can hash at once and fewer than have to be turned away.
SIGNUPS, CLIENTS = 800, 16
HASHES = 40
LOG = ROOT / ".state" / "bench-service.log"


@dataclass(frozen=True)
class Run:
    """One run of the service alone: signups a second and their times, and milliseconds of processor time by what took it."""

    rate: float
    milliseconds: list[float]
    hash: float
    taken: dict[str, float]
    left: int
    """Messages that were not published yet when the last signup was answered."""

    @property
    def ceiling(self) -> float:
        return 1000 * cores() / self.hash

    @property
    def share(self) -> float:
        return self.rate / self.ceiling


def alone(note: Callable[[str], None]) -> str:
    """Run it; returns Markdown. Raises BoundMissed with it when a bound is missed."""
    with scratch.images(), scratch.database() as url:  # commits wait for the disk there, as by default
        text, missed = told(list(runs(url, note)))
    if missed:
        raise BoundMissed(text, missed)
    return text


def hash_milliseconds() -> float:
    """Processor time of one hash while every core hashes."""
    hasher = PasswordHasher(cores(), 0)
    found: list[float] = []

    def work() -> None:
        for _ in range(HASHES):
            began = time.thread_time()
            hasher.hash(PASSWORD)
            found.append(1000 * (time.thread_time() - began))

    threads = [threading.Thread(target=work) for _ in range(cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.mean(found)


def database_seconds() -> float:
    """Processor time of the benchmark's PostgreSQL so far. Raises Failure."""
    pid = Podman(scratch.SETTINGS).pid(scratch.SETTINGS.name)
    seconds = cpu_seconds(Path(f"/proc/{pid}/cgroup").read_text())
    if seconds is None:
        raise Failure("the database has no control group of its own, so its processor time can't be told")
    return seconds


def runs(database_url: str, note: Callable[[str], None]) -> Iterator[Run]:
    """Run the service alone, once and again."""
    topic = Topic()
    with (
        topic.running(),
        service(database_url, topic.url, LOG) as running,
        closing(psycopg2.connect(database_url)) as outbox,
    ):
        outbox.autocommit = True
        load(running.url, 50, f"--clients={CLIENTS}")  # connections are made, code is warm
        for number in range(RUNS):
            note(f"the service alone, {number + 1} of {RUNS}")
            wait_for("the end of the outbox", lambda: waiting(outbox) == 0, 60)
            yield _run(running, topic, outbox)


def waiting(outbox: psycopg2.extensions.connection) -> int:
    """How many messages are not published yet."""
    with outbox.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        ((count,),) = cursor.fetchall()
        return int(count)


def _run(running: Service, topic: Topic, outbox: psycopg2.extensions.connection) -> Run:
    before_hash = hash_milliseconds()
    before = {**running.processor_seconds(), "database": database_seconds()}
    own, taken = time.process_time(), topic.taken
    seen = load(running.url, SIGNUPS, f"--clients={CLIENTS}")
    left = waiting(outbox)
    answered = len(seen["milliseconds"])
    if seen["refused"]:
        raise BoundMissed("", [f"of {SIGNUPS} signups, {seen['refused']} were not answered with 201"])
    wait_for("the end of the outbox", lambda: topic.taken >= taken + answered, 60, period=0.05)
    after = {**running.processor_seconds(), "database": database_seconds()}
    spent = {name: 1000 * (after[name] - before[name]) / answered for name in before}
    spent["load generator and topic"] = 1000 * (seen["processor_seconds"] + time.process_time() - own) / answered
    hashing = (before_hash + hash_milliseconds()) / 2
    return Run(answered / seen["seconds"], seen["milliseconds"], hashing, spent, left)


def told(found: list[Run]) -> tuple[str, list[str]]:
    """Markdown of the runs, and what was missed."""
    share = statistics.median(run.share for run in found)
    rows = [
        row("signups a second", [run.rate for run in found], ""),
        row(f"ceiling: {cores()} cores by the processor time of a hash", [run.ceiling for run in found], "/s"),
        row("share of the ceiling", [100 * run.share for run in found], "%"),
        row("messages not yet published at the end", [run.left for run in found], ""),
        row("p50 of the answers", [quantile(run.milliseconds, 0.5) for run in found], "ms"),
        row("p99 of the answers", [quantile(run.milliseconds, 0.99) for run in found], "ms"),
        row("processor time of a hash", [run.hash for run in found], "ms"),
        *(row(f"processor time a signup: {name}", [run.taken[name] for run in found], "ms") for name in found[0].taken),
    ]
    head = (
        f"The service alone: {SIGNUPS} signups a run by {CLIENTS} clients at once, with its publisher, PostgreSQL (each commit "
        f"on disk) and the load generator on the same {cores()} cores. The service's own processor time has the hash in it."
    )
    missed = [] if share >= LEAST_SHARE else [f"{100 * share:.0f} % of the ceiling, where {100 * LEAST_SHARE:.0f} % are wanted"]
    return f"{head}\n\n{table(('what', 'runs', 'median', 'highest'), rows)}", missed
