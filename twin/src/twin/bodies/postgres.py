"""PostgreSQL as RDS runs it: one server in a container, its data in a folder of the host.

As on RDS the superuser is `rdsadmin`, whom only the server's own container admits, and the master user is a member of
`rds_superuser`; connections are TLS with SCRAM-SHA-256, and `rds.force_ssl` refuses any other.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_PostgreSQL.html
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twin.bodies import netns as namespaces
from twin.bodies.podman import Podman, PodmanError
from twin.bodies.postgres_config import configure
from twin.bodies.postgres_image import BACKUPS, DATA, IMAGE, PROGRAMS, SETTINGS, TLS, UID
from twin.bodies.postgres_sql import REPLICATOR, SUPERUSER, run, scram_verifier

# What rds_superuser may do and hand on; the rest of PostgreSQL's superuser RDS keeps for itself.
GRANTS = "pg_monitor, pg_signal_backend, pg_checkpoint, pg_create_subscription, pg_read_all_data, pg_write_all_data"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
CANNOT_CONNECT_NOW = b"57P03"


@dataclass(frozen=True)
class Replication:
    """A server's part in a pair. `password` is the replication user's.

    `name` is what a standby calls itself at its primary; `upstream` is the address of a standby's primary; `confirmed_by`
    is the name of the standby that must have a commit on its disk before a primary acknowledges it.
    """

    password: str = field(repr=False)
    name: str = ""
    upstream: str | None = None
    confirmed_by: str | None = None


@dataclass(frozen=True)
class Server:
    """What a server is to be. `volume` keeps its data, certificate and settings, and outlives its container.

    A `password` of None leaves the master user's as it is. `backups` is a folder that finished write-ahead log is put
    into (`wal/`) while `archiving`, and copies of the data on request.
    """

    name: str
    volume: Path
    username: str
    password: str | None = field(repr=False)
    database: str | None = None
    port: int = 5432
    host: str = "localhost"
    listen: str = "*"
    parameters: Mapping[str, str] = field(default_factory=dict)
    replication: Replication | None = None
    backups: Path | None = None
    archiving: bool = False

    def __post_init__(self) -> None:
        for name in (self.username, self.database):
            if name is not None and not NAME.fullmatch(name):
                raise ValueError(f"{name!r}: use a letter or _, then up to 62 letters, digits and _")


def start(podman: Podman, server: Server, netns: Path | None = None) -> int:
    """Start the server, with its data made first if there is none; returns its process id on the host.

    `netns` is the network namespace to run in; without it, the host's. It accepts connections once `ready` says so.
    Raises PodmanError with the reason.
    """
    if not (server.volume / "data").exists():
        _create(podman, server)
    configure(server)
    options = (
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--shm-size=256m",
        "--stop-signal=SIGINT",
        "--tmpfs=/tmp",
    )
    namespace = netns or Path("/proc/self/ns/net")
    command = (f"{PROGRAMS}/postgres", "-D", DATA, "-c", f"config_file={SETTINGS}/postgresql.conf")
    return podman.start(server.name, IMAGE, *command, netns=namespace, options=(*options, *mounts(server)))


def mounts(server: Server, data: str = "data") -> list[str]:
    """podman's options that give a container the server's folders; the folder named `data` as the data folder."""
    folders = [(data, DATA, "rw"), ("tls", TLS, "ro"), ("settings", SETTINGS, "ro")]
    volumes = [f"--volume={server.volume / folder}:{path}:{mode}" for folder, path, mode in folders]
    if server.backups:
        for folder in ("wal", "base"):
            own(server.backups / folder)
        volumes.append(f"--volume={server.backups}:{BACKUPS}:rw")
    return volumes


def own(folder: Path) -> Path:
    """Make a folder that belongs to the server."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, UID, UID)
    folder.chmod(0o700)
    return folder


def reload(podman: Podman, server: Server) -> None:
    """Let the running server take over changed parameters; those that need a restart wait for the next one."""
    configure(server)
    podman.run("kill", "--signal=HUP", server.name)


def set_password(podman: Podman, server: Server) -> None:
    """Give the master user of the running server the password of `server`; the server learns no more than its SCRAM form."""
    _alter(podman, server, server.username, server.password)


def set_replication_password(podman: Podman, server: Server) -> None:
    """Give the replication user of the running server its password, as after a restore from another server's copy."""
    _alter(podman, server, REPLICATOR, server.replication.password if server.replication else None)


def _alter(podman: Podman, server: Server, role: str, password: str | None) -> None:
    if password is None:
        raise ValueError(f"{server.name}: no password for {role}")
    run(podman.pid(server.name), server.port, f"ALTER ROLE \"{role}\" PASSWORD '{scram_verifier(password)}'")


def ready(server: Server, netns: Path | None = None, address: str = "127.0.0.1") -> bool:
    """Whether the server accepts connections: asked as pg_isready asks, by a startup message."""

    def ask() -> bool:
        # https://www.postgresql.org/docs/17/protocol-message-formats.html, StartupMessage
        body = struct.pack("!i", 196608) + b"user\0" + SUPERUSER.encode() + b"\0database\0postgres\0\0"
        with socket.create_connection((address, server.port), timeout=2) as connection:
            connection.sendall(struct.pack("!i", len(body) + 4) + body)
            answer = connection.recv(1024)
        return bool(answer) and CANNOT_CONNECT_NOW not in answer

    try:
        return namespaces.inside(netns.name, ask) if netns else ask()
    except OSError:
        return False


def wait_ready(podman: Podman, server: Server, netns: Path | None = None, seconds: float = 60) -> None:
    """Return once the server accepts connections; raises PodmanError when it ended or took too long."""
    deadline = time.monotonic() + seconds
    looks = 0
    while not ready(server, netns):
        looks += 1
        if looks % 10 == 0 and not podman.pid(server.name):
            raise PodmanError(f"{server.name}: PostgreSQL ended: {last_words(podman, server.name)}")
        if time.monotonic() > deadline:
            raise PodmanError(f"{server.name}: PostgreSQL accepts no connection after {seconds:g} s")
        time.sleep(0.05)


def last_words(podman: Podman, name: str) -> str:
    """The last error in the log of a server's container."""
    done = subprocess.run(
        podman.command("logs", "--tail=50", name),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **podman.environment},
        check=False,
    )
    lines = done.stdout.splitlines()
    errors = [line for line in lines if "FATAL" in line or "ERROR" in line or "PANIC" in line]
    return (errors or lines or ["no reason given"])[-1]


def _create(podman: Podman, server: Server) -> None:
    """Make the data folder, roles and database, before any connection is possible; all of it or nothing."""
    if server.password is None:
        raise ValueError(f"{server.name}: a new database needs a password for {server.username}")
    new = server.volume / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    own(new)
    statements = [
        "CREATE ROLE rds_superuser NOLOGIN",
        f"GRANT {GRANTS} TO rds_superuser WITH ADMIN OPTION",
        f'CREATE ROLE "{server.username}" LOGIN CREATEDB CREATEROLE IN ROLE rds_superuser '
        f"PASSWORD '{scram_verifier(server.password)}'",
    ]
    if server.replication:
        statements.append(f"CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{scram_verifier(server.replication.password)}'")
    if server.database and server.database != "postgres":
        statements.append(f'CREATE DATABASE "{server.database}" OWNER "{server.username}"')
    script = (
        f"set -e; cd /; {PROGRAMS}/initdb --username={SUPERUSER} --auth=reject --encoding=UTF8 --locale=C.UTF-8 "
        # Commits wait until the standby has the rest of a segment, one of which ends a minute for the sake of backups.
        f"--data-checksums --wal-segsize=4 --no-sync --pgdata={DATA} >&2; "
        # One statement a line; the first that fails ends it with an error.
        f"{PROGRAMS}/postgres --single -D {DATA} -c exit_on_error=on postgres >&2; "
        f"{PROGRAMS}/postgres --describe-config | cut -f1"
    )
    options = ("run", "--rm", "--interactive", "--network=none", "--cap-drop=all", f"--volume={new}:{DATA}")
    known = podman.run(*options, IMAGE, "sh", "-c", script, stdin=";\n".join(statements) + ";\n")
    (server.volume / "known-settings").write_text(known)
    new.rename(server.volume / "data")
