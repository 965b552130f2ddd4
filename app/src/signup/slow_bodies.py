"""How long a body may take, a request's to come and an answer's to go."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

BYTES_A_SECOND = 256 * 1024

log = logging.getLogger(__name__)


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


class ReaderTooSlow(OSError):
    """The answer was not taken in time: to gunicorn, one whom nobody waits for any more."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the answer was not taken in time")


class PatientSender:
    """A socket to send an answer to: `seconds`, and one more for each BYTES_A_SECOND that are taken.

    Waiting alone counts: while a picture comes from S3, its reader is not to blame. Time that was saved lasts for `seconds`, so
    that a reader who stops is given up soon, whatever it took before.
    """

    def __init__(self, real: socket.socket, seconds: float) -> None:
        self._real = real
        self._seconds = self._left = seconds

    def sendall(self, data: bytes) -> None:
        """As socket.sendall; raises ReaderTooSlow."""
        before, began = self._real.gettimeout(), time.monotonic()
        allowed = self._left + len(data) / BYTES_A_SECOND
        self._real.settimeout(allowed)
        try:
            self._real.sendall(data)
        except TimeoutError:
            log.warning("an answer was not taken in time")
            with suppress(OSError):  # gunicorn would linger for its reader, with the thread that accepts connections
                self._real.shutdown(socket.SHUT_RDWR)
            raise ReaderTooSlow from None
        finally:
            self._real.settimeout(before)
        self._left = min(self._seconds, max(0.0, allowed - (time.monotonic() - began)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
