"""Faults around the real processes: no database, no SNS, and SIGKILL at every point on a message's way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from gate import Gate
from running import TOPIC, Sns, Unit, ready
from serving import PUBLISHER, environment
from sqlalchemy import Engine, NullPool, create_engine, make_url, select, text
from waiting import wait_for

from signup.ids import uuid7
from signup.schema.tables import outbox, users

PERSON = {"first_name": "Ada", "last_name": "Lovelace", "password": "correct horse battery staple"}
BATCH = 5
STATES = """
SELECT state || CASE WHEN state <> 'idle' AND query LIKE '%FOR UPDATE%' THEN ', rows locked' ELSE '' END
FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'signup-outbox'
"""


@dataclass
class World:
    """The service and its publisher, with a gate on every way they have."""

    url: str
    service: Unit
    values: dict[str, str]
    service_database: Gate
    publisher_database: Gate
    topic: Gate
    sns: Sns
    database: Engine
    _publisher: Unit | None = None

    def publisher(self) -> Unit:
        """The running publisher; started if it was killed."""
        if self._publisher is None or not self._publisher.runs():
            self.end_publisher()
            self._publisher = Unit(PUBLISHER, self.values)
        return self._publisher

    def end_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.end()
            self._publisher = None

    def sign_up(self, email: str = "") -> requests.Response:
        body = {**PERSON, "email": email or f"{uuid7()}@example.com"}
        return requests.post(f"{self.url}/v1/user", json=body, timeout=60)

    def acknowledged(self, count: int) -> list[str]:
        """Sign that many people up; returns their addresses."""
        emails = [f"{uuid7()}@example.com" for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            assert {answer.status_code for answer in pool.map(self.sign_up, emails)} == {201}
        return emails

    def committed(self, email: str) -> bool:
        with self.database.connect() as connection:
            return connection.execute(select(users.c.id).where(users.c.email == email)).first() is not None

    def unpublished(self, skip_locked: bool = False) -> int:
        statement = select(outbox.c.id).where(outbox.c.published_at.is_(None))
        with self.database.begin() as connection:
            return len(connection.execute(statement.with_for_update(skip_locked=True) if skip_locked else statement).all())

    def states(self) -> list[str]:
        """What the publisher's connections are at."""
        with self.database.connect() as connection:
            return list(connection.execute(text(STATES)).scalars())

    def hold(self) -> None:
        """Stop the publisher between two looks at the outbox: one that has begun would not find what is due later."""

        def between() -> bool:
            os.kill(self.publisher().pid, signal.SIGSTOP)
            wait_for("its standstill", self.publisher().stands_still)
            if self.publisher_database.is_idle():
                return True
            self.go()
            return False

        try:
            wait_for("a pause", between)
        except AssertionError as error:
            raise AssertionError(
                f"{self.publisher_database.clients()}, {self.states()}\n{self.publisher().said()[-3000:]}"
            ) from error

    def go(self) -> None:
        os.kill(self.publisher().pid, signal.SIGCONT)

    def wait_until_published(self) -> None:
        try:
            wait_for("the end of the outbox", lambda: self.unpublished() == 0)
        except AssertionError as error:
            raise AssertionError(self.publisher().said()[-3000:]) from error


@pytest.fixture(scope="module")
def started(migrated_url: str) -> Iterator[World]:
    url = make_url(migrated_url)
    sns = Sns()
    gates = [Gate(url.host or "", url.port or 5432), Gate(url.host or "", url.port or 5432), Gate("127.0.0.1", sns.port)]
    for gate in gates:
        gate.open()

    def through(gate: Gate) -> dict[str, str]:
        # In plain text, since a gate stops at words.
        plain = url.set(host="127.0.0.1", port=gate.port).update_query_dict({"sslmode": "disable"})
        own = plain.render_as_string(hide_password=False)
        return environment(
            SIGNUP_DATABASE_URL=own,
            SIGNUP_TOPIC_ARN=TOPIC,
            SIGNUP_TOKEN_TABLE="tokens",
            SIGNUP_PUBLIC_URL="http://localhost",
            SIGNUP_WORKERS="1",
            AWS_REGION="us-east-1",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{gates[2].port}",
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_EC2_METADATA_DISABLED="true",
        )

    with ready(through(gates[0])) as (address, service):
        made = World(address, service, through(gates[1]), gates[0], gates[1], gates[2], sns, database=None)  # type: ignore[arg-type]
        yield made
        made.end_publisher()
    for gate in gates:
        gate.shut()
    sns.close()


@pytest.fixture
def held(started: World, migrated_url: str) -> None:
    """The publisher stands still while tables are emptied, which it could deadlock with."""
    started.database = create_engine(migrated_url, poolclass=NullPool)
    started.publisher()
    started.hold()


@pytest.fixture
def world(started: World, held: None, database: Engine) -> World:
    """All of it running, nothing stored, nothing published."""
    started.database = database
    started.sns.on_taken = None
    started.sns.messages.clear()
    started.go()
    return started


@dataclass
class Clients:
    """People who sign up and the load balancer's check, one after the other, until the block ends.

    What goes unanswered fails the test, unless they are there `until_killed`: to see the service's own end.
    """

    world: World
    check: str
    until_killed: bool = False
    answers: list[tuple[int, str | None]] = field(default_factory=list)
    checks: list[int] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def __enter__(self) -> Clients:
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(3)
        self._at_work = [self._pool.submit(self._until_the_end, each) for each in (self._people, self._people, self._look)]
        return self

    def _until_the_end(self, act: Callable[[], None]) -> None:
        while not self._ended.wait(0.05):
            try:
                act()
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if self.until_killed:
                    return
                raise

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        for each in self._at_work:
            each.result()

    def _people(self) -> None:
        email = f"{uuid7()}@example.com"
        answer = self.world.sign_up(email)
        self.answers.append((answer.status_code, answer.headers.get("Retry-After")))
        if answer.status_code == 201:
            self.acknowledged.append(email)

    def _look(self) -> None:
        # As long as the load balancer waits (terraform/modules/edge).
        self.checks.append(requests.get(f"{self.world.url}{self.check}", timeout=2).status_code)

    def count(self, status: int) -> int:
        return sum(each == status for each, _ in self.answers)


def outage(gate: Gate, how: str) -> Callable[[], None]:
    """Begin one; returns what ends it."""
    {"refuses": gate.shut, "is silent": gate.hang, "stands still": gate.freeze}[how]()
    return gate.thaw if how == "stands still" else gate.open


@pytest.mark.parametrize("how", ["refuses", "stands still"])
def test_the_database_is_away(world: World, how: str) -> None:
    service, publisher, workers = world.service.pid, world.publisher().pid, world.service.workers()
    with Clients(world, "/healthz") as clients:
        wait_for("signups", lambda: clients.count(201) > 2)
        ends = [outage(world.service_database, how), outage(world.publisher_database, how)]
        began = time.monotonic()
        wait_for("refusals", lambda: clients.count(503) >= 2)
        lasted = time.monotonic() - began
        for end in ends:
            end()
        before = clients.count(201)
        wait_for("signups again", lambda: clients.count(201) > before + 2)
    print(how, f"{lasted:.1f} s", clients.count(201), clients.count(503))
    # Every client was answered, with a signup or with when to come back, and the load balancer never saw a thing.
    assert set(clients.answers) == {(201, None), (503, "5")}
    assert set(clients.checks) == {200}
    assert (world.service.pid, world.publisher().pid, world.service.workers()) == (service, publisher, workers)
    world.wait_until_published()
    assert set(clients.acknowledged) <= set(world.sns.addresses())


def test_sns_is_away(world: World) -> None:
    with Clients(world, "/readyz") as clients:
        wait_for("signups", lambda: clients.count(201) > 2)
        world.hold()  # what SNS has taken and could not confirm would be published again
        for how in ("refuses", "is silent"):
            end = outage(world.topic, how)
            world.go()
            before = clients.count(201)
            wait_for("signups meanwhile", lambda before=before: clients.count(201) > before + 5)  # type: ignore[misc]
            assert world.unpublished() > 0
        taken = len(world.sns.messages)
        assert taken < len(clients.acknowledged) - 10
        end()
    assert set(clients.answers) == {(201, None)}
    assert set(clients.checks) == {200}
    world.wait_until_published()
    assert sorted(world.sns.addresses()) == sorted(clients.acknowledged)
    assert set(world.sns.count().values()) == {1}


@dataclass
class Victim:
    """A publisher with a batch before it."""

    world: World
    unit: Unit
    seen: int = 0

    def kill_at(self, number: int) -> Callable[[dict[str, Any]], None]:
        """A hook that kills it at the message of that number."""

        def hook(_message: dict[str, Any]) -> None:
            self.seen += 1
            if self.seen == number:
                self.unit.kill()
                raise ConnectionAbortedError

        return hook

    def stop_at_commit(self, *, delivered: bool) -> None:
        """Hold it at the end of its transaction, once SNS has everything."""

        def hook(_message: dict[str, Any]) -> None:
            self.seen += 1
            if self.seen == BATCH:
                self.world.publisher_database.stop_at(b"COMMIT", delivered=delivered)

        self.world.publisher_database.stopped.clear()
        self.world.sns.on_taken = hook
        self.world.go()
        assert self.world.publisher_database.stopped.wait(20)


def has_locked(victim: Victim) -> None:
    victim.world.publisher_database.stop_at(b"FOR UPDATE", delivered=True)
    victim.world.go()
    assert victim.world.publisher_database.stopped.wait(20)
    wait_for("the lock", lambda: victim.world.states() == ["idle in transaction, rows locked"])
    assert victim.world.unpublished(skip_locked=True) == 0
    victim.unit.kill()


def is_half_way(victim: Victim) -> None:
    victim.world.sns.on_taken = victim.kill_at(3)
    victim.world.go()


def has_published(victim: Victim) -> None:
    victim.stop_at_commit(delivered=False)
    victim.unit.kill()


def has_committed(victim: Victim) -> None:
    victim.stop_at_commit(delivered=True)
    wait_for("the commit", lambda: victim.world.unpublished() == 0)
    victim.unit.kill()


@pytest.mark.parametrize(
    ("kill_when_it", "twice"),
    [(has_locked, 0), (is_half_way, 3), (has_published, BATCH), (has_committed, 0)],
)
def test_the_publisher_is_killed(world: World, kill_when_it: Callable[[Victim], None], twice: int) -> None:
    victim = Victim(world, world.publisher())
    world.hold()
    emails = world.acknowledged(BATCH)
    kill_when_it(victim)
    wait_for("its end", lambda: not victim.unit.runs())
    world.sns.on_taken = None
    world.publisher()
    world.wait_until_published()
    # Each of them, and the same message where it came twice.
    assert set(world.sns.addresses()) == set(emails)
    assert sorted(world.sns.count().values()) == [1] * (BATCH - twice) + [2] * twice


@pytest.mark.parametrize("committed", [False, True])
def test_the_service_is_killed_at_its_commit(world: World, committed: bool) -> None:
    email = f"{uuid7()}@example.com"
    (worker,) = world.service.workers()
    world.service_database.stop_at(b"COMMIT", delivered=committed)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(world.sign_up, email)
        assert world.service_database.stopped.wait(20)
        if committed:
            wait_for("the commit", lambda: world.committed(email))
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            answer.result(30)
    # Nobody was told of a signup, so none is owed; one that was committed is mailed all the same.
    assert world.committed(email) == committed
    world.wait_until_published()
    assert world.sns.addresses() == [email] * committed
    wait_for("another worker", lambda: world.service.workers() - {worker})
    assert world.sign_up(email).status_code == 201
    world.wait_until_published()
    assert world.sns.addresses() == [email] * (1 + committed)
    assert set(world.sns.count().values()) == {1}


def test_all_of_it_is_killed_under_load(world: World) -> None:
    with Clients(world, "/livez", until_killed=True) as clients:
        wait_for("signups", lambda: clients.count(201) > 20)
        world.service.kill()
        world.publisher().kill()
    world.publisher()
    world.wait_until_published()
    assert set(clients.acknowledged) <= set(world.sns.addresses())
    assert len(world.sns.count()) == len(set(world.sns.addresses()))
