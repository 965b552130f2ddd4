"""PostgreSQL as RDS runs it: one server in a container, its data in a folder of the host.

As on RDS the superuser is `rdsadmin`, whom only the server's own container admits, and the master user is a member of
`rds_superuser`; connections are TLS with SCRAM-SHA-256, and `rds.force_ssl` refuses any other.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_PostgreSQL.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twin.bodies import netns as namespaces
from twin.bodies.certificates import self_signed
from twin.bodies.podman import Podman, PodmanError
from twin.bodies.postgres_image import DATA, IMAGE, PROGRAMS, UID

log = logging.getLogger(__name__)

SUPERUSER = "rdsadmin"
# What rds_superuser may do and hand on; the rest of PostgreSQL's superuser RDS keeps for itself.
GRANTS = "pg_monitor, pg_signal_backend, pg_checkpoint, pg_create_subscription, pg_read_all_data, pg_write_all_data"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# Settings that are RDS's own business, whatever a parameter group says.
RESERVED = re.compile(r"listen_addresses|port|ssl|ssl_.*_file|.*_directory|.*_directories|hba_file|ident_file|external_pid_file")
CANNOT_CONNECT_NOW = b"57P03"
TLS = "/var/lib/postgresql/tls"
SETTINGS = "/var/lib/postgresql/settings"
SOCKETS = "/tmp"  # noqa: S108 (the container's own)


@dataclass(frozen=True)
class Server:
    """What a server is to be. `volume` keeps its data, certificate and settings, and outlives its container."""

    name: str
    volume: Path
    username: str
    password: str = field(repr=False)
    database: str | None = None
    port: int = 5432
    host: str = "localhost"
    listen: str = "*"
    parameters: Mapping[str, str] = field(default_factory=dict)

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
    _configure(server)
    volumes = [
        f"--volume={server.volume / folder}:{path}:{mode}"
        for folder, path, mode in (("data", DATA, "rw"), ("tls", TLS, "ro"), ("settings", SETTINGS, "ro"))
    ]
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
    return podman.start(server.name, IMAGE, *command, netns=namespace, options=(*options, *volumes))


def reload(podman: Podman, server: Server) -> None:
    """Let the running server take over changed parameters; those that need a restart wait for the next one."""
    _configure(server)
    podman.run("kill", "--signal=HUP", server.name)


def set_password(podman: Podman, server: Server) -> None:
    """Give the master user of the running server the password of `server`."""
    _psql(podman, server, f"ALTER ROLE \"{server.username}\" PASSWORD '{scram_verifier(server.password)}'")


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
    while not ready(server, netns):
        if not podman.pid(server.name):
            raise PodmanError(f"{server.name}: PostgreSQL ended: {last_words(podman, server)}")
        if time.monotonic() > deadline:
            raise PodmanError(f"{server.name}: PostgreSQL accepts no connection after {seconds:g} s")
        time.sleep(0.1)


def last_words(podman: Podman, server: Server) -> str:
    """The last error in the server's log."""
    done = subprocess.run(
        podman.command("logs", "--tail=50", server.name),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **podman.environment},
        check=False,
    )
    lines = done.stdout.splitlines()
    errors = [line for line in lines if "FATAL" in line or "ERROR" in line or "PANIC" in line]
    return (errors or lines or ["no reason given"])[-1]


def scram_verifier(password: str, salt: bytes | None = None, rounds: int = 4096) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that the password itself never reaches a log of the server."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _create(podman: Podman, server: Server) -> None:
    """Make the data folder, roles and database, before any connection is possible; all of it or nothing."""
    new = server.volume / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    os.chown(new, UID, UID)
    new.chmod(0o700)
    statements = [
        "CREATE ROLE rds_superuser NOLOGIN",
        f"GRANT {GRANTS} TO rds_superuser WITH ADMIN OPTION",
        f'CREATE ROLE "{server.username}" LOGIN CREATEDB CREATEROLE IN ROLE rds_superuser '
        f"PASSWORD '{scram_verifier(server.password)}'",
    ]
    if server.database and server.database != "postgres":
        statements.append(f'CREATE DATABASE "{server.database}" OWNER "{server.username}"')
    script = (
        f"set -e; cd /; {PROGRAMS}/initdb --username={SUPERUSER} --auth=reject --encoding=UTF8 --locale=C.UTF-8 "
        f"--data-checksums --no-sync --pgdata={DATA} >&2; "
        # One statement a line; the first that fails ends it with an error.
        f"{PROGRAMS}/postgres --single -D {DATA} -c exit_on_error=on postgres >&2; "
        f"{PROGRAMS}/postgres --describe-config | cut -f1"
    )
    run = ("run", "--rm", "--interactive", "--network=none", "--cap-drop=all", f"--volume={new}:{DATA}")
    known = podman.run(*run, IMAGE, "sh", "-c", script, stdin=";\n".join(statements) + ";\n")
    (server.volume / "known-settings").write_text(known)
    new.rename(server.volume / "data")


def _configure(server: Server) -> None:
    """Write settings, access rules and, once, the certificate."""
    tls, folder = server.volume / "tls", server.volume / "settings"
    if not tls.exists():
        certificate, key = self_signed(server.host)
        _write(tls.with_suffix(".new"), {"server.crt": certificate, "server.key": key})
        tls.with_suffix(".new").rename(tls)
    known = set((server.volume / "known-settings").read_text().split())
    chosen = {}
    for name, value in server.parameters.items():
        # A name with a dot is an extension's, or RDS's own: PostgreSQL keeps it, and shows it as RDS does.
        if (name in known or "." in name) and not RESERVED.fullmatch(name) and "{" not in value:
            chosen[name] = value
        elif name not in known and "." not in name:
            log.warning("%s: PostgreSQL has no setting %s; it is left out", server.name, name)
    force_tls = server.parameters.get("rds.force_ssl", "1") not in ("0", "off", "false")
    settings = {
        "password_encryption": "scram-sha-256",
        "log_line_prefix": "%t:%r:%u@%d:[%p]:",
        "timezone": "UTC",
        "rds.force_ssl": "1",
        **chosen,
        "listen_addresses": server.listen,
        "port": str(server.port),
        "ssl": "on",
        "ssl_cert_file": f"{TLS}/server.crt",
        "ssl_key_file": f"{TLS}/server.key",
        "hba_file": f"{SETTINGS}/pg_hba.conf",
        "ident_file": f"{SETTINGS}/pg_ident.conf",
        "unix_socket_directories": SOCKETS,
    }
    lines = [f"{name} = '" + value.replace("\\", "\\\\").replace("'", "''") + "'" for name, value in settings.items()]
    kind = "hostssl" if force_tls else "host"
    rules = [
        f"local all {SUPERUSER} peer map=container",
        f"host all {SUPERUSER} all reject",
        f"{kind} all all all scram-sha-256",
    ]
    files = {"postgresql.conf": lines, "pg_hba.conf": rules, "pg_ident.conf": [f"container postgres {SUPERUSER}"]}
    _write(folder, {name: ("\n".join(content) + "\n").encode() for name, content in files.items()})


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(folder, UID, UID)
    for name, content in files.items():
        new = folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_bytes(content)
        os.chown(new, UID, UID)
        new.replace(folder / name)


def _psql(podman: Podman, server: Server, statement: str) -> None:
    command = (
        "psql",
        "--no-psqlrc",
        "--quiet",
        f"--username={SUPERUSER}",
        f"--port={server.port}",
        f"--host={SOCKETS}",
    )
    podman.run("exec", "--interactive", server.name, *command, "--set=ON_ERROR_STOP=1", "postgres", stdin=statement)
