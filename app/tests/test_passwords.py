"""The bound on concurrent hashes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from argon2 import PasswordHasher as Argon2
from flask import Flask
from waiting import wait_for

from signup.passwords import HashQueueFull, PasswordHasher


class Counting:
    """argon2 with a door: counts who is inside, and lets nobody out before it opens."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.door = threading.Event()
        self.lock = threading.Lock()

    def hash(self, password: bytes) -> str:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.door.wait(10)
        with self.lock:
            self.inside -= 1
        return Argon2().hash(password)


def test_no_more_than_the_slots_hash_at_once_and_the_queue_is_bounded() -> None:
    hasher, counting = PasswordHasher(slots=2, queue=3, wait_seconds=60), Counting()
    hasher._argon2 = counting  # type: ignore[assignment]
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(hasher.hash, "x") for _ in range(9)]
        wait_for("four refusals", lambda: sum(future.done() for future in waiting) >= 4)
        assert sum(isinstance(future.exception(), HashQueueFull) for future in waiting if future.done()) == 4
        counting.door.set()
        hashed = [future for future in waiting if future.exception() is None]
    assert len(hashed) == 5
    assert counting.most == 2


def test_a_wait_that_takes_too_long_is_given_up() -> None:
    hasher = PasswordHasher(slots=1, queue=1, wait_seconds=0.05)
    with hasher._slot(), pytest.raises(HashQueueFull):
        hasher.hash("x")
    assert hasher.verify(hasher.hash("x"), "x")


def test_a_full_queue_is_503_and_health_still_answers(app: Flask, person: dict[str, str]) -> None:
    services: Any = app.extensions["signup"]
    busy = PasswordHasher(slots=1, queue=0)
    object.__setattr__(services, "hasher", busy)
    client = app.test_client()
    with busy._slot():
        response = client.post("/v1/user", json=person)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/v1/user/self", auth=("a@example.com", "x")).status_code == 503
        assert client.get("/healthz").status_code == 200
    assert client.post("/v1/user", json=person).status_code == 201


def test_verify() -> None:
    hasher = PasswordHasher(slots=1, queue=0)
    stored = hasher.hash("cafe\u0301 au lait with milk")
    assert hasher.verify(stored, "caf\u00e9 au lait with milk")
    assert not hasher.verify(stored, "cafe au lait with milk")
    assert not hasher.verify(None, "")
    assert not hasher.verify("not a hash", "x")
