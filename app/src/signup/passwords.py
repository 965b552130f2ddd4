"""Password hashing with argon2id, bounded in concurrency."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from signup.metrics.values import Counter, Gauge

MEMORY_KIB = 19 * 1024
"""OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane."""


class HashQueueFull(Exception):
    """All hash slots are busy and the queue is full, or the wait in it was too long."""


class PasswordHasher:
    """Hashes and verifies passwords, at most `slots` at a time with at most `queue` waiting `wait_seconds` each.

    A hash costs about 18 ms of one core and 19 MiB; without a bound, a burst of sign-ups would take all memory and
    starve health checks. Raises HashQueueFull beyond the bound.
    """

    def __init__(self, slots: int, queue: int, wait_seconds: float = 2.0) -> None:
        self._argon2 = Argon2(time_cost=2, memory_cost=MEMORY_KIB, parallelism=1, type=Type.ID)
        self._slots = threading.BoundedSemaphore(slots)
        self._places = threading.BoundedSemaphore(slots + queue)
        self._wait_seconds = wait_seconds
        self._decoy = self._argon2.hash("")
        self.busy, self.waiting, self.refused = Gauge(), Gauge(), Counter()

    def hash(self, password: str) -> str:
        """The password's argon2id hash in PHC format."""
        with self._slot():
            return self._argon2.hash(_prepare(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password matches. Takes as long for no user (None) as for a wrong password."""
        with self._slot():
            try:
                self._argon2.verify(password_hash or self._decoy, _prepare(password))
            except (VerificationError, InvalidHashError):
                return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""
        return self._argon2.check_needs_rehash(password_hash)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            self.refused.add()
            raise HashQueueFull
        try:
            if not self._slots.acquire(blocking=False):
                self._wait()
            try:
                with self.busy:
                    yield
            finally:
                self._slots.release()
        finally:
            self._places.release()

    def _wait(self) -> None:
        with self.waiting:
            if self._slots.acquire(timeout=self._wait_seconds):
                return
        self.refused.add()
        raise HashQueueFull


def _prepare(password: str) -> bytes:
    # RFC 8265 (OpaqueString): NFC, so that the same password typed on another keyboard is the same bytes.
    return unicodedata.normalize("NFC", password).encode()
