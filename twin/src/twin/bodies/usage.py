"""What a container has used so far: CPU from its control group, bytes from its network interfaces."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU and bytes since the container started; `at` in seconds of the monotonic clock."""

    pid: int
    at: float
    cpu: float
    received: int
    sent: int


def usage(pid: int) -> Usage | None:
    """The usage of the container whose first process is `pid`; None when it has ended."""
    try:
        received, sent = _network(Path(f"/proc/{pid}/net/dev").read_text())
        cpu = cpu_seconds(Path(f"/proc/{pid}/cgroup").read_text())
    except (OSError, ValueError):
        return None
    return None if cpu is None else Usage(pid, time.monotonic(), cpu, received, sent)


def cpu_seconds(membership: str, root: Path = _CGROUPS) -> float | None:
    """CPU time of a control group, from /proc/PID/cgroup: version 1's cpuacct where there is one, else version 2."""
    accounted = group(membership, "cpuacct", root)
    if accounted is not None:
        return int((accounted / "cpuacct.usage").read_text()) / 1e9
    unified = group(membership, "", root)
    if unified is None or not (unified / "cpu.stat").exists():
        return None
    numbers = dict(line.split() for line in (unified / "cpu.stat").read_text().splitlines())
    return int(numbers["usage_usec"]) / 1e6


def group(membership: str, controller: str, root: Path = _CGROUPS) -> Path | None:
    """The container's own control group of a version 1 controller, or of version 2 (""), from /proc/PID/cgroup."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            # systemd in the container puts itself into a group below the container's own.
            return root / controllers / path.removesuffix("/init.scope").lstrip("/")
    return None


def _network(table: str) -> tuple[int, int]:
    """Bytes received and sent over every interface but the loopback one."""
    received = sent = 0
    for line in table.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            fields = counters.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent
