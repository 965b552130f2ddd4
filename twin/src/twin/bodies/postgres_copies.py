"""Copies of a server's data: taken while it works, and made into the data of a new server, up to a moment if wanted.

A copy is a folder with `data/` and `known-settings`. Finished write-ahead log lies in a folder `wal/`, compressed.
https://www.postgresql.org/docs/17/continuous-archiving.html
"""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from twin.bodies.podman import LABEL, Podman, PodmanError
from twin.bodies.postgres import Server, last_words, own
from twin.bodies.postgres_config import write
from twin.bodies.postgres_image import BACKUPS, DATA, IMAGE, PROGRAMS, SETTINGS, SOCKETS
from twin.bodies.postgres_sql import SUPERUSER, run

COPY_SECONDS = 1800
REPLAY_SECONDS = 1800
ARCHIVE_SECONDS = 30


def take(podman: Podman, server: Server, target: Path) -> None:
    """Copy the data of the running server, consistently, to the new folder `target`. Raises PodmanError."""
    if server.backups is None:
        raise ValueError(f"{server.name} has no folder for copies")
    name = f"{target.name}.new"
    working = server.backups / "base" / name
    shutil.rmtree(working, ignore_errors=True)
    podman.run(
        "exec",
        server.name,
        f"{PROGRAMS}/pg_basebackup",
        f"--host={SOCKETS}",
        f"--port={server.port}",
        f"--username={SUPERUSER}",
        f"--pgdata={BACKUPS}/base/{name}",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-sync",
        timeout=COPY_SECONDS,
    )
    _keep(server, working, target)


def take_stopped(server: Server, target: Path) -> None:
    """Copy the data of a server that does not run."""
    working = server.volume / "copy.new"
    shutil.rmtree(working, ignore_errors=True)
    copy(server.volume / "data", working)
    _keep(server, working, target)


def _keep(server: Server, working: Path, target: Path) -> None:
    new = target.with_name(f"{target.name}.part")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copy(server.volume / "known-settings", new)
    working.rename(new / "data")
    new.rename(target)


def copy(source: Path, target: Path) -> None:
    """Copy a folder with owners and times; shares blocks where the file system can. Raises PodmanError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["cp", "-a", "--reflink=auto", source, target], capture_output=True, text=True)
    if done.returncode:
        raise PodmanError(done.stderr.strip().splitlines()[-1])


def restore(podman: Podman, server: Server, source: Path, wal: Path | None = None, until: datetime | None = None) -> None:
    """Make a copy the data of a new server; with `wal`, replay what was archived since, to just before `until` or the end."""
    if (server.volume / "data").exists():
        return
    own(server.volume)
    new = server.volume / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    copy(source / "data", new)
    (new / "standby.signal").unlink(missing_ok=True)
    shutil.copy(source / "known-settings", server.volume / "known-settings")
    if wal:
        _replay(podman, server, new, wal, until)
    new.rename(server.volume / "data")


def _replay(podman: Podman, server: Server, data: Path, wal: Path, until: datetime | None) -> None:
    """Run a server that nobody can reach on the data until it has replayed the log."""
    settings = [
        "listen_addresses = ''",
        f"unix_socket_directories = '{SOCKETS}'",
        f"hba_file = '{SETTINGS}/pg_hba.conf'",
        f"ident_file = '{SETTINGS}/pg_ident.conf'",
        f"restore_command = 'zstd -dqc {BACKUPS}/%f.zst > %p'",
        "recovery_target_action = 'promote'",
        "hot_standby = off",
        f"port = {server.port}",
        *(
            [f"recovery_target_time = '{until.astimezone(UTC).isoformat(sep=' ')}'", "recovery_target_inclusive = off"]
            if until
            else []
        ),
    ]
    files = {
        "postgresql.conf": settings,
        "pg_hba.conf": [f"local all {SUPERUSER} peer map=container"],
        "pg_ident.conf": [f"container root {SUPERUSER}"],
    }
    folder = server.volume / "replay"
    write(folder, {name: ("\n".join(lines) + "\n").encode() for name, lines in files.items()})
    write(data, {"recovery.signal": b""})
    name = f"{server.name}-replay"
    podman.remove(name)
    try:
        podman.run(
            "run",
            "--detach",
            f"--name={name}",
            f"--label={LABEL}={podman.settings.name}",
            "--network=none",
            "--cap-drop=all",
            "--stop-signal=SIGINT",
            "--tmpfs=/tmp",
            f"--volume={data}:{DATA}:rw",
            f"--volume={folder}:{SETTINGS}:ro",
            f"--volume={wal}:{BACKUPS}:ro",
            IMAGE,
            f"{PROGRAMS}/postgres",
            "-D",
            DATA,
            "-c",
            f"config_file={SETTINGS}/postgresql.conf",
        )
        _wait_replayed(podman, server, name)
        podman.run("stop", "--time=60", name)
    finally:
        podman.remove(name)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_replayed(podman: Podman, server: Server, name: str) -> None:
    deadline = time.monotonic() + REPLAY_SECONDS
    while True:
        pid = podman.pid(name)
        if not pid:
            raise PodmanError(f"the log could not be replayed: {last_words(podman, name)}")
        try:
            # A server that replays takes no connection, since hot_standby is off.
            if run(pid, server.port, "SELECT pg_is_in_recovery()") == [(False,)]:
                return
        except PodmanError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def archive(pid: int, port: int) -> None:
    """Return once all that was committed before the call is in the archive. Raises PodmanError.

    It leaves a commit of its own there, later than those: a moment can be restored only when something came after it.
    """
    run(pid, port, "SELECT pg_current_xact_id()")
    [(segment,)] = run(pid, port, "SELECT pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + ARCHIVE_SECONDS
    # Without the timeline, which a failover raises.
    done = "SELECT 1 FROM pg_stat_archiver WHERE substr(last_archived_wal, 9, 16) >= %s"
    while not run(pid, port, done, segment[8:]):
        if time.monotonic() > deadline:
            raise PodmanError(f"{segment} is not archived after {ARCHIVE_SECONDS} s")
        time.sleep(0.1)
