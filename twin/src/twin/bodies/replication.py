"""Two PostgreSQL servers as a pair: a primary, and a standby that has every acknowledged commit on its disk.

The truth about a pair lies in files beside the data, because it must outlive every process. A standby's volume holds
`promotable` only while the primary acknowledges nothing that the standby lacks; a volume that holds `fenced` is never
started again. https://www.postgresql.org/docs/17/warm-standby.html#SYNCHRONOUS-REPLICATION
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from twin.bodies import netns
from twin.bodies.podman import Podman, PodmanError
from twin.bodies.postgres import Server, mounts, own
from twin.bodies.postgres_config import PRIMARY_ADDRESS, STANDBY_ADDRESS, configure, conninfo
from twin.bodies.postgres_image import DATA, IMAGE, PROGRAMS, UID
from twin.bodies.postgres_sql import run

LINK = "pair"
COPY_SECONDS = 1800
CATCH_UP_SECONDS = 60


def join(primary: str, standby: str) -> None:
    """Link two network namespaces directly; the primary gets PRIMARY_ADDRESS, the standby STANDBY_ADDRESS.

    The link ends with either namespace. It passes no VPC, so no security group is asked.
    """
    for name in (primary, standby):
        subprocess.run(["ip", "-netns", name, "link", "delete", LINK], capture_output=True, check=False)
    netns.ip(f"link add {LINK} type veth peer name {LINK} netns {standby}", primary)
    for name, address in ((primary, PRIMARY_ADDRESS), (standby, STANDBY_ADDRESS)):
        netns.ip(f"addr add {address}/30 dev {LINK}\nlink set {LINK} up", name)


def joined(primary: str, standby: str) -> bool:
    """Whether both namespaces have the link."""
    looks = [subprocess.run(["ip", "-netns", name, "link", "show", LINK], capture_output=True) for name in (primary, standby)]
    return all(look.returncode == 0 for look in looks)


def copy_primary(podman: Podman, standby: Server, source: Path, namespace: Path) -> None:
    """Fill a standby's volume with a copy of its primary's data, taken over their link while the primary works.

    `source` is the primary's volume: the standby gets the same certificate, so clients see no difference after a
    promotion. Raises PodmanError with the reason.
    """
    own(standby.volume)
    for name in ("tls", "known-settings"):
        subprocess.run(["cp", "-a", source / name, standby.volume / name], check=True)
    configure(standby)
    new = standby.volume / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    own(new)
    name = f"{standby.name}-copy"
    podman.remove(name)
    podman.run(
        "run",
        "--rm",
        f"--name={name}",
        f"--label=twin={podman.settings.name}",
        f"--network=ns:{namespace}",
        "--cap-drop=all",
        *mounts(standby, "data.new"),
        IMAGE,
        f"{PROGRAMS}/pg_basebackup",
        f"--pgdata={DATA}",
        f"--dbname={conninfo(standby)}",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-sync",
        "--no-password",
        timeout=COPY_SECONDS,
    )
    signal_file = new / "standby.signal"
    signal_file.touch()
    os.chown(signal_file, UID, UID)
    new.rename(standby.volume / "data")


def streaming(pid: int, port: int, standby: str) -> bool:
    """Whether the primary sends its log to the standby of that name, which is no more than a moment behind."""
    statement = "SELECT 1 FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
    return bool(run(pid, port, statement, standby))


def has_all(pid: int, port: int, standby: str, seconds: float = 5.0) -> bool:
    """Whether the standby gets everything that the primary has written by now within `seconds`."""
    [(reached,)] = run(pid, port, "SELECT pg_current_wal_flush_lsn()")
    statement = "SELECT 1 FROM pg_stat_replication WHERE application_name = %s AND flush_lsn >= %s::pg_lsn"
    deadline = time.monotonic() + seconds
    while not run(pid, port, statement, standby, reached):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def confirm(pid: int, port: int, standby: str, alive: Callable[[], bool]) -> None:
    """Return once the primary, which was told to wait for the standby, does so, and the standby has all that came before.

    Raises PodmanError when `alive` says no or it takes too long.
    """
    # A new session sees the setting only when the postmaster has it and has told every process, the checkpointer too.
    _until(lambda: standby in str(run(pid, port, "SHOW synchronous_standby_names")), alive, "take over its settings")
    # The checkpointer is the one that makes commits wait. It takes over settings before it starts a checkpoint.
    run(pid, port, "CHECKPOINT")
    [(reached,)] = run(pid, port, "SELECT pg_current_wal_flush_lsn()")
    statement = """
        SELECT 1 FROM pg_stat_replication
        WHERE application_name = %s AND sync_state = 'sync' AND flush_lsn >= %s::pg_lsn
    """
    _until(lambda: bool(run(pid, port, statement, standby, reached)), alive, "have a standby that caught up")


def promote(volume: Path, pid: int) -> None:
    """Let a standby become a primary, as pg_ctl promote does; one that is a primary already stays one."""
    file = volume / "data" / "promote"
    file.touch()
    os.chown(file, UID, UID)
    os.kill(pid, signal.SIGUSR1)


def is_promotable(volume: Path) -> bool:
    return (volume / "promotable").exists()


def set_promotable(volume: Path, value: bool) -> None:
    if value:
        (volume / "promotable").touch()
    else:
        (volume / "promotable").unlink(missing_ok=True)


def is_fenced(volume: Path) -> bool:
    return (volume / "fenced").exists()


def fence(volume: Path) -> None:
    """See that no server is ever started on this volume again."""
    if volume.exists():
        (volume / "fenced").touch()


def _until(condition: Callable[[], bool], alive: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while not condition():
        if not alive():
            raise PodmanError(f"the primary did not {words}: one of the pair ended")
        if time.monotonic() > deadline:
            raise PodmanError(f"the primary did not {words} within {CATCH_UP_SECONDS} s")
        time.sleep(0.05)
