"""The verification side channel under faults: what was published, where each message ended, and how often it was mailed."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests


@dataclass
class Channel:
    """The side channel of one stack in the local region."""

    name: str
    clients: Any  # makes a client of a service
    mail_url: str
    environment: dict[str, str]  # podman's

    # Where messages end

    def done(self) -> set[str]:
        """Idempotency keys of the messages whose mails were sent."""
        return {item["id"]["S"] for item in self._scan(f"{self.name}-idempotency") if item["status"]["S"] == "COMPLETED"}

    def under_way(self) -> int:
        """How many messages are locked by an attempt."""
        now = 1000 * time.time()
        items = [item for item in self._scan(f"{self.name}-idempotency") if item["status"]["S"] == "INPROGRESS"]
        return sum(float(item["in_progress_expiration"]["N"]) > now for item in items)

    def given_up(self, queue: str) -> list[str]:
        """Message ids of the entries of a queue, which stay there."""
        sqs = self.clients("sqs")
        url = sqs.get_queue_url(QueueName=f"{self.name}-verification-{queue}")["QueueUrl"]
        found: dict[str, tuple[str, str]] = {}
        while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60).get("Messages"):
            for entry in got:
                body = json.loads(entry["Body"])
                body = body["requestPayload"]["Records"][0]["Sns"] if "requestPayload" in body else body
                found[entry["MessageId"]] = (json.loads(body["Message"])["message_id"], entry["ReceiptHandle"])
        for _, receipt in found.values():
            sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0)
        return [message_id for message_id, _ in found.values()]

    def depth(self, queue: str) -> int:
        """How many entries a queue has, hidden ones too."""
        sqs = self.clients("sqs")
        url = sqs.get_queue_url(QueueName=f"{self.name}-verification-{queue}")["QueueUrl"]
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])

    def ends(self, published: Iterable[str]) -> dict[str, set[str]]:
        """Each message in its place. One that was mailed is sent, wherever its last delivery went."""
        messages, done = set(published), self.done()
        dead, refused = set(self.given_up("dead-letter")), set(self.given_up("refused"))
        sent = {message for message in messages if key(message) in done}
        return {
            "sent": sent,
            "refused": (refused & messages) - sent,
            "dead": (dead & messages) - sent - refused,
            "limbo": messages - sent - refused - dead,
        }

    def twice(self, published: Iterable[str]) -> set[str]:
        """Those that were mailed, and lie in a queue nevertheless."""
        done = self.done()
        kept = {*self.given_up("dead-letter"), *self.given_up("refused")}
        return {message for message in kept & set(published) if key(message) in done}

    def _scan(self, table: str) -> Iterator[dict[str, Any]]:
        for page in self.clients("dynamodb").get_paginator("scan").paginate(TableName=table):
            yield from page["Items"]

    # What was mailed

    def mails(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = requests.get(f"{self.mail_url}/messages", params={"limit": 10_000}, timeout=60).json()
        return found

    def counts(self, published: set[str]) -> Counter[str]:
        """How many mails each message had."""
        sent = Counter(str(mail["custom_args"]["message_id"]) for mail in self.mails())
        return Counter({message: count for message, count in sent.items() if message in published})

    def working(self) -> set[str]:
        """Addresses that have a mail whose link works."""
        now = time.time()
        alive = {item["token_hash"]["S"] for item in self._scan(f"{self.name}-token") if float(item["expires_at"]["N"]) > now}
        found = set()
        for mail in self.mails():
            token = re.search(r"token=([\w-]+)", str(mail["text"]))
            if token and hashlib.sha256(token[1].encode()).hexdigest() in alive:
                found.add(str(mail["to"]))
        return found

    # Faults

    def order(self, **fault: Any) -> None:
        """Have SendGrid misbehave."""
        assert requests.put(f"{self.mail_url}/faults", json=fault or {"mode": "none"}, timeout=10).ok

    @contextmanager
    def failing(self, **fault: Any) -> Iterator[None]:
        """SendGrid misbehaves while the context lasts."""
        self.order(**fault)
        try:
            yield
        finally:
            self.order()

    @contextmanager
    def killing(self, every: float) -> Iterator[Killer]:
        """Environments of the function are killed at random while the context lasts, one in so many seconds on average."""
        killer = Killer(f"-{self.name}-verifier-", self.environment, every)
        killer.start()
        try:
            yield killer
        finally:
            killer.ended.set()
            killer.join()


@dataclass(eq=False)
class Killer(threading.Thread):
    """Kills containers whose names have `part`."""

    part: str
    environment: dict[str, str]
    every: float
    kills: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while not self.ended.wait(random.uniform(0.2, 1.8) * self.every):  # noqa: S311 (no secret)
            victims = [name for name in self._podman("ps", "--format={{.Names}}").split() if self.part in name]
            if victims and self._podman("kill", "--signal=KILL", random.choice(victims)):  # noqa: S311
                self.kills += 1

    def _podman(self, *arguments: str) -> str:
        done = subprocess.run(["podman", *arguments], env=self.environment, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""


def key(message_id: str) -> str:
    """The idempotency table's key of a message."""
    return f"mail#{hashlib.sha256(json.dumps(message_id).encode()).hexdigest()}"
