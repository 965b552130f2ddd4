"""The function killed at every step: what the next delivery makes of it. docs/verification.md has the table.

A real process is killed by SIGKILL, from outside, when the request that marks the step is on the wire.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from conftest import Items
from invocation import child, event
from stand_ins import SendGrid, Wire
from test_handler import token_in

LOCK_SECONDS = 1.0
ONE = {"sent": 1, "duplicate": 0, "refused": 0}
NONE = {"sent": 0, "duplicate": 1, "refused": 0}


@pytest.fixture(scope="session")
def processes() -> Any:
    """Makes processes that have the function's modules loaded."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    made = get_context("forkserver")
    made.set_forkserver_preload(["verifier.handler"])
    return made


@dataclass
class Lambda:
    """Invokes the function in processes of their own, behind a wire on which they may be killed."""

    processes: Any
    environment: dict[str, str]
    wire: Wire
    content: dict[str, Any]
    victim: Any = None
    started: threading.Event = field(default_factory=threading.Event)

    def kill(self) -> None:
        assert self.started.wait(30)
        os.kill(self.victim.pid, signal.SIGKILL)

    def invoke(self, seconds: float) -> tuple[str, Any] | None:
        """What the function said in the end; None if it was killed."""
        here, there = self.processes.Pipe(duplex=False)
        self.started.clear()
        self.victim = self.processes.Process(target=child, args=(self.environment, self.content, seconds, there), daemon=True)
        self.victim.start()
        there.close()
        self.started.set()
        try:
            said: tuple[str, Any] | None = here.recv() if here.poll(60) else pytest.fail("no answer")
        except EOFError:
            said = None
        self.victim.join(30)
        assert (self.victim.exitcode == -signal.SIGKILL) == (said is None), self.victim.exitcode
        return said

    def retry(self) -> Any:
        """Deliver again, as Lambda does later, until the killed delivery's lock has gone."""
        until = time.monotonic() + 30
        while (said := self.invoke(30)) == ("raised", "IdempotencyAlreadyInProgressError"):
            assert time.monotonic() < until, "the lock outlived its time"
        assert said is not None
        assert said[0] == "returned", said
        return said[1]


@pytest.fixture
def crashing(processes: Any, environment: dict[str, str], aws: str, request_message: dict[str, Any]) -> Iterator[Lambda]:
    """The function with a message."""
    wire = Wire(aws)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED")
    variables = {**environment, "AWS_ENDPOINT_URL": wire.url, **{name: os.environ[name] for name in names}}
    yield Lambda(processes, {**variables, "VERIFIER_SENDGRID_TIMEOUT_SECONDS": "10"}, wire, event(request_message))
    wire.close()


def on_wire(crashing: Lambda, when: str, action: str, table: str) -> None:
    """Kill the function, once, before or after this request reaches AWS."""

    def strike(done: str, place: str) -> None:
        if (done, place) == (action, table):
            crashing.wire.before, crashing.wire.after = (lambda *_: None), (lambda *_: None)
            crashing.kill()

    def before(done: str, place: str) -> int | None:
        strike(done, place)
        return 500 if (done, place) == (action, table) else None

    if when == "before":
        crashing.wire.before = before
    else:
        crashing.wire.after = strike


def at_sendgrid(crashing: Lambda, sendgrid: SendGrid, when: str) -> None:
    def strike() -> None:
        sendgrid.before = sendgrid.after = lambda: None
        crashing.kill()
        if when == "before":
            raise ConnectionResetError("the mail is lost on its way")

    setattr(sendgrid, when, strike)


def working(sendgrid: SendGrid, items: Items) -> int:
    """How many of the mails' links work."""
    alive = {item["token_hash"]["S"] for item in items() if int(item["expires_at"]["N"]) > time.time()}
    return sum(hashlib.sha256(token_in(mail).encode()).hexdigest() in alive for mail in sendgrid.mails)


# Where it is killed: mails, tokens, and what the next delivery says.
STEPS: dict[str, tuple[Callable[..., None], int, int, dict[str, int]]] = {
    "before it locks the message": (lambda c, s, e: on_wire(c, "before", "PutItem", e["VERIFIER_IDEMPOTENCY_TABLE"]), 1, 1, ONE),
    "after it locked the message": (lambda c, s, e: on_wire(c, "after", "PutItem", e["VERIFIER_IDEMPOTENCY_TABLE"]), 1, 1, ONE),
    "before it stores the token": (lambda c, s, e: on_wire(c, "before", "PutItem", e["VERIFIER_TOKEN_TABLE"]), 1, 1, ONE),
    "after it stored the token": (lambda c, s, e: on_wire(c, "after", "PutItem", e["VERIFIER_TOKEN_TABLE"]), 1, 2, ONE),
    "before SendGrid has the mail": (lambda c, s, e: at_sendgrid(c, s, "before"), 1, 2, ONE),
    "after SendGrid has the mail": (lambda c, s, e: at_sendgrid(c, s, "after"), 2, 2, ONE),
    "before it notes the mail as sent": (
        lambda c, s, e: on_wire(c, "before", "UpdateItem", e["VERIFIER_IDEMPOTENCY_TABLE"]),
        2,
        2,
        ONE,
    ),
    "after it noted the mail as sent": (
        lambda c, s, e: on_wire(c, "after", "UpdateItem", e["VERIFIER_IDEMPOTENCY_TABLE"]),
        1,
        1,
        NONE,
    ),
    "before it tells the journal": (lambda c, s, e: on_wire(c, "before", "UpdateItem", e["VERIFIER_MAIL_TABLE"]), 1, 1, NONE),
    "after it told the journal": (lambda c, s, e: on_wire(c, "after", "UpdateItem", e["VERIFIER_MAIL_TABLE"]), 1, 1, NONE),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed(crashing: Lambda, sendgrid: SendGrid, items: Items, records: Items, step: str) -> None:
    plan, mails, tokens, outcome = STEPS[step]
    plan(crashing, sendgrid, crashing.environment)
    assert crashing.invoke(LOCK_SECONDS) is None
    assert crashing.retry() == outcome
    assert (len(sendgrid.mails), len(items())) == (mails, tokens)
    assert working(sendgrid, items) == mails
    (record,) = records()
    assert record["status"]["S"] == "COMPLETED"


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_unlocking_after_a_failure(
    crashing: Lambda, sendgrid: SendGrid, items: Items, records: Items, when: str
) -> None:
    sendgrid.statuses = [500]
    on_wire(crashing, when, "DeleteItem", crashing.environment["VERIFIER_IDEMPOTENCY_TABLE"])
    assert crashing.invoke(LOCK_SECONDS) is None
    assert crashing.retry() == ONE
    failed, _ = sendgrid.mails
    assert len(items()) == 2
    assert sendgrid.mails.count(failed) == 1  # the second has a link of its own
    (record,) = records()
    assert record["status"]["S"] == "COMPLETED"


def test_a_silent_journal_holds_up_no_mail(crashing: Lambda, sendgrid: SendGrid, records: Items) -> None:
    table, released = crashing.environment["VERIFIER_MAIL_TABLE"], threading.Event()
    crashing.wire.before = lambda *what: 500 if what == ("UpdateItem", table) and released.wait(60) else None
    assert crashing.invoke(30) == ("returned", ONE)
    released.set()
    assert len(sendgrid.mails) == 1
    (record,) = records()
    assert record["status"]["S"] == "COMPLETED"


@pytest.mark.parametrize(("when", "entries"), [("before", 1), ("after", 2)])
def test_killed_around_keeping_a_refused_message(
    crashing: Lambda, sendgrid: SendGrid, refused: Callable[[], list[dict[str, Any]]], records: Items, when: str, entries: int
) -> None:
    sendgrid.status = 400
    on_wire(crashing, when, "SendMessage", crashing.environment["VERIFIER_REFUSED_QUEUE_URL"])
    assert crashing.invoke(LOCK_SECONDS) is None
    assert crashing.retry() == {"sent": 0, "duplicate": 0, "refused": 1}
    found = [json.loads(json.loads(entry["Body"])["Message"])["message_id"] for entry in refused()]
    assert found == [json.loads(crashing.content["Records"][0]["Sns"]["Message"])["message_id"]] * entries
    assert records() == []


def test_dynamodb_fails_after_the_send(crashing: Lambda, sendgrid: SendGrid, items: Items) -> None:
    table = crashing.environment["VERIFIER_IDEMPOTENCY_TABLE"]
    crashing.wire.before = lambda *what: 500 if what == ("UpdateItem", table) else None
    assert crashing.invoke(LOCK_SECONDS) == ("raised", "IdempotencyPersistenceLayerError: InternalServerError")
    crashing.wire.before = lambda *_: None
    assert crashing.retry() == ONE
    assert len(sendgrid.mails) == working(sendgrid, items) == 2
