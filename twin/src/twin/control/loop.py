"""A control loop: compares what the API records with what the bodies do, and moves one towards the other."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from twin.region.region import Region

log = logging.getLogger(__name__)


class Loop(ABC):
    """Calls `tick` every `period` seconds, at once after `wake()`. An error in a tick is logged and the loop goes on."""

    period = 1.0

    def __init__(self) -> None:
        self.name = type(self).__name__
        self._thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._next = float("inf")
        self._late = 0.0

    def adopt(self) -> None:  # noqa: B027 (most loops have nothing to find)
        """Find again the bodies of a killed twin whose records were restored; called once, before `start`.

        What runs stays untouched; what is missing counts as having died. State that must survive is in the records.
        """

    def start(self) -> None:
        self._next = time.monotonic() + self.period
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def wake(self) -> None:
        self._wake.set()

    def end(self) -> None:
        self._ended.set()
        self._wake.set()

    def late(self) -> float:
        """The worst seconds by which a tick began after it was due, since this was last asked: a period after the one before
        it began. A tick that is overdue right now counts."""
        worst = max(self._late, time.monotonic() - self._next)
        self._late = 0.0
        return max(0.0, worst)

    def run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(max(0.0, self._next - time.monotonic()))
            self._wake.clear()
            if self._ended.is_set():
                return
            began = time.monotonic()
            self._late = max(self._late, began - self._next)
            self._next = began + self.period
            try:
                self.tick()
            except Exception:
                log.exception("%s: this round failed; the next one tries again", self.name)
            # However often it is woken, and however long its ticks take, a loop leaves the lock to others for a moment.
            self._ended.wait(self.period / 20)

    @abstractmethod
    def tick(self) -> None:
        """One comparison. Must not block on a body: slow work belongs in a pool."""


class WallClockLoop(Loop):
    """A loop over the region's records that goes by `now`: the wall clock, in seconds since 1970, which tests move."""

    def __init__(self, region: Region, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.region = region
        self.now = now
