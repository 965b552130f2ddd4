"""How long a request's body may take to come."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

BYTES_A_SECOND = 256 * 1024


class BodyTooSlow(Exception):
    """The body took longer than it may."""


class PatientSocket:
    """A socket to read a body from: `seconds`, and one more for each BYTES_A_SECOND that have come.

    A bound on each read alone would be met by a byte at a time, with a thread waiting for each; the load balancer passes on
    bodies as they come. Whatever else is asked of a socket, the real one does.
    """

    def __init__(self, real: socket.socket, seconds: float, give_up: Callable[[], None] = lambda: None) -> None:
        self._real = real
        self._give_up = give_up
        self._deadline = time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        """As socket.recv; raises BodyTooSlow."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._give_up()
            raise BodyTooSlow
        before = self._real.gettimeout()
        self._real.settimeout(left)
        try:
            data = self._real.recv(size)
        except TimeoutError:
            self._give_up()
            raise BodyTooSlow from None
        finally:
            self._real.settimeout(before)
        self._deadline += len(data) / BYTES_A_SECOND
        return data
