"""How many pictures come and go at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TransfersFull(Exception):
    """As many pictures are on their way as may be."""


class Transfers:
    """At most `limit` at a time: each may take half a minute of a thread, and as much room as a picture is large."""

    def __init__(self, limit: int) -> None:
        self._places = threading.BoundedSemaphore(limit)

    def acquire(self) -> Callable[[], None]:
        """Take a place; call what this returns to give it back. Raises TransfersFull."""
        if not self._places.acquire(blocking=False):
            raise TransfersFull
        return self._places.release

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Take a place for the length of a block. Raises TransfersFull."""
        release = self.acquire()
        try:
            yield
        finally:
            release()
