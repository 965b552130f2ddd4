"""Service notifications to systemd (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send a state such as READY=1 or WATCHDOG=1; does nothing where systemd gave no socket."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
            client.settimeout(1)
            client.sendto(state.encode(), address)
    except OSError:
        # A lost notification must never stop the service; systemd's own timeouts deal with it.
        return
