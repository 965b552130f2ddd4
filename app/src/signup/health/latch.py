"""A flag that, once set, stays set for all worker processes of an instance."""

from __future__ import annotations

import mmap


class Latch:
    """One byte of memory shared with the processes forked after it was made.

    A worker that gunicorn replaces while the database is away thereby still knows that the instance was ready once.
    """

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Set the flag for good."""
        self._flag[0] = 1

    def is_set(self) -> bool:
        """Whether any process has set the flag."""
        return self._flag[0] == 1


INSTANCE_LATCH = Latch()
"""This instance's own; the first import happens in gunicorn's master."""
