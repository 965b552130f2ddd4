"""The power of a zone: taking it away ends every process of its bodies at once, as a failing machine hall does."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from twin.bodies import netns

log = logging.getLogger(__name__)


def cut(namespaces: Iterable[str]) -> int:
    """Kill every process in the named network namespaces; returns how many there were. Names that don't exist are none."""
    own = os.stat("/proc/self/ns/net").st_ino
    inodes = {path.stat().st_ino for name in namespaces if (path := netns.path(name)).exists()} - {own}
    killed = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns" / "net").stat().st_ino in inodes:
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
        except (OSError, ProcessLookupError):
            continue  # it has just ended
    return killed
