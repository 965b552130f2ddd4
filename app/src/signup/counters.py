"""Where a process counts requests for its rate limits."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from time import time

from limits.storage import Storage

SCHEME = "bounded-memory"
MAX_WINDOWS = 10_000
"""About 5 MB. Beyond it, windows that have ended are forgotten, then those that began first: limits get wider, memory doesn't."""


@dataclass
class _Window:
    seconds: float
    ends: float
    count: int = 0


class BoundedMemory(Storage):
    """Fixed windows in a bounded number.

    The library's own storage in memory has no bound, and starts a thread for about every request to look through all of it.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - read by the library's registry

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        # The keys of windows as long as each other, which end in the order in which they began.
        self._queues: defaultdict[float, OrderedDict[str, None]] = defaultdict(OrderedDict)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this storage may raise: nothing of its own."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count in the key's window, which begins with its first count; returns how many there are in it."""
        with self._lock:
            window = self._current(key)
            if window is None:
                if len(self._windows) >= MAX_WINDOWS:
                    self._make_room()
                window = self._windows[key] = _Window(expiry, time() + expiry)
                self._queues[expiry][key] = None
            window.count += amount
            return window.count

    def get(self, key: str) -> int:
        """How many there are in the key's window."""
        with self._lock:
            window = self._current(key)
            return window.count if window else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends, in seconds since 1970; now, where there is none."""
        with self._lock:
            window = self._current(key)
            return window.ends if window else time()

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget all; returns how many windows there were."""
        with self._lock:
            found = len(self._windows)
            self._windows.clear()
            self._queues.clear()
            return found

    def clear(self, key: str) -> None:
        """Forget the key's window."""
        with self._lock:
            self._forget(key)

    def _current(self, key: str) -> _Window | None:
        window = self._windows.get(key)
        if window is not None and window.ends <= time():
            self._forget(key)
            return None
        return window

    def _make_room(self) -> None:
        now = time()

        def order(key: str) -> tuple[bool, float]:
            window = self._windows[key]
            return window.ends > now, window.ends - window.seconds

        self._forget(min((next(iter(queue)) for queue in self._queues.values() if queue), key=order))

    def _forget(self, key: str) -> None:
        window = self._windows.pop(key, None)
        if window is not None:
            del self._queues[window.seconds][key]
