"""Notices at once, and without polling podman, that a container's first process ended."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable


class Deaths:
    """Calls `on_death(name)` from a thread of its own when the process watched under `name` ends."""

    def __init__(self, on_death: Callable[[str], None]) -> None:
        self._on_death = on_death
        self._lock = threading.Lock()
        self._watched: dict[str, object] = {}

    def watch(self, name: str, pid: int) -> None:
        """Watch a process; one that is not there any more counts as ended."""
        token = object()
        with self._lock:
            self._watched[name] = token
        try:
            descriptor = os.pidfd_open(pid)
        except (ProcessLookupError, ValueError, OSError):
            descriptor = None
        threading.Thread(target=self._wait, args=(name, token, descriptor), name=f"watch {name}", daemon=True).start()

    def forget(self, name: str) -> None:
        """The end of `name` is expected: don't report it."""
        with self._lock:
            self._watched.pop(name, None)

    def _wait(self, name: str, token: object, descriptor: int | None) -> None:
        if descriptor is not None:
            select.select([descriptor], [], [])
            os.close(descriptor)
        with self._lock:
            if self._watched.get(name) is not token:
                return
            del self._watched[name]
        self._on_death(name)
