"""An end to waiting for a database that stands still.

`statement_timeout` is the server's to keep, and `tcp_user_timeout` the kernel's at the other end: a server that is frozen, or
waits for a disk that is, keeps neither, and libpq would wait for it for ever, with every thread of the service.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress

import psycopg2
from psycopg2 import extensions

CONNECT_SECONDS = 3.0


class Patient(extensions.connection):
    """A connection that waits so many seconds for each answer; for ever, unless a subclass says otherwise."""

    patience: float | None = None


def patient(seconds: float) -> type[Patient]:
    """The class of connections that wait that long."""
    return type("Patient", (Patient,), {"patience": seconds})


def wait(connection: extensions.connection) -> None:
    """psycopg2's wait callback, for all connections of the process: psycopg2.extras.wait_select with an end.

    The connection is cut then. psycopg2 closes it too, but one that was still being made only when nobody keeps the error.
    """
    patience = getattr(connection, "patience", None)
    if patience is not None and connection.status == extensions.STATUS_SETUP:
        # libpq keeps connect_timeout only where it does the waiting.
        patience = CONNECT_SECONDS
    until = None if patience is None else time.monotonic() + patience
    poller = select.poll()
    while (state := connection.poll()) != extensions.POLL_OK:
        # Connecting goes from socket to socket, which may come under one number.
        descriptor = connection.fileno()
        poller.register(descriptor, select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        left = None if until is None else max(0.0, until - time.monotonic())
        if not poller.poll(None if left is None else 1000 * left):
            _cut(descriptor)
            raise psycopg2.OperationalError(f"the server did not answer within {patience:g} s")
        poller.unregister(descriptor)


def _cut(descriptor: int) -> None:
    """End the connection behind a descriptor, which stays libpq's to close."""
    with socket.socket(fileno=os.dup(descriptor)) as same, suppress(OSError):
        same.shutdown(socket.SHUT_RDWR)


extensions.set_wait_callback(wait)
