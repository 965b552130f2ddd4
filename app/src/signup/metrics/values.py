"""What is measured, kept in this process until it is reported. Counters and gauges are safe to use from any thread."""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import Any

STEP = math.log(1.15)
LOWEST, HIGHEST = 0.1, 60_000.0
"""From a tenth of a millisecond to a minute in steps of 15 %: 96 values, of the 100 that CloudWatch takes at once."""


class Counter:
    """How often something happened since it was last taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, number: int = 1) -> None:
        """It happened."""
        with self._lock:
            self._count += number

    def take(self) -> int:
        """The count, which begins anew."""
        with self._lock:
            taken, self._count = self._count, 0
        return taken


class Gauge:
    """How many there are at once: `with gauge:` counts one. What is reported is the most there were, since they come and go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self._most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self._most = max(self._most, self._now)

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        with self._lock:
            self._now -= 1

    def take(self) -> int:
        """The most there were since this was last asked."""
        with self._lock:
            taken, self._most = self._most, self._now
        return taken


class Distribution:
    """Durations in milliseconds: exact in number, sum, lowest and highest, and to 7 % in between."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._sum = 0.0
        self._low, self._high = math.inf, 0.0

    def add(self, milliseconds: float) -> None:
        """Add one. Not safe by itself: its owner locks."""
        held = min(max(milliseconds, LOWEST), HIGHEST)
        step = round(math.log(held) / STEP)
        self._counts[step] = self._counts.get(step, 0) + 1
        self._sum += milliseconds
        self._low, self._high = min(self._low, milliseconds), max(self._high, milliseconds)

    def count(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    def to_emf(self) -> dict[str, Any]:
        """As a value of the embedded metric format, in the form that CloudWatch's own exporters give histograms."""
        steps = sorted(self._counts)
        return {
            "Values": [round(math.exp(step * STEP), 3) for step in steps],
            "Counts": [self._counts[step] for step in steps],
            "Min": round(self._low, 3),
            "Max": round(self._high, 3),
            "Sum": round(self._sum, 3),
            "Count": self.count(),
        }
