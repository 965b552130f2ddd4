"""A server's settings, access rules and certificate, as files that its container reads."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from twin.bodies.certificates import self_signed
from twin.bodies.postgres_image import BACKUPS, SETTINGS, SOCKETS, TLS, UID
from twin.bodies.postgres_sql import REPLICATOR, SUPERUSER

if TYPE_CHECKING:
    from twin.bodies.postgres import Server

log = logging.getLogger(__name__)

# Settings that are RDS's own business, whatever a parameter group says.
RESERVED = re.compile(
    r"listen_addresses|port|ssl|ssl_.*_file|.*_directory|.*_directories|hba_file|ident_file|external_pid_file|"
    r"synchronous_standby_names|primary_.*|archive_.*|restore_command|recovery_.*|hot_standby|wal_level|wal_keep_size|"
    r"wal_sender_timeout|wal_receiver_timeout|wal_retrieve_retry_interval|max_wal_senders"
)
# The link between the two servers of a pair: theirs alone, outside the VPC, as RDS's own replication network is.
PAIR = "169.254.172.0/30"
PRIMARY_ADDRESS = "169.254.172.1"
STANDBY_ADDRESS = "169.254.172.2"
LOST_SECONDS = 5  # of silence, after which each side of a pair takes the other for gone
# Both servers of a pair put the same file there, and either may be killed in the middle: the first whole one counts.
# Most of a segment is zeros as a rule, for which gzip takes six times the processor time.
ARCHIVE = f"f={BACKUPS}/wal/%f.zst; test -f $f && exit 0; zstd -1 -qc %p > $f.$HOSTNAME-$$.new && mv $f.$HOSTNAME-$$.new $f"


def configure(server: Server) -> None:
    """Write settings, access rules and, once, the certificate."""
    tls, folder = server.volume / "tls", server.volume / "settings"
    if not tls.exists():
        certificate, key = self_signed(server.host)
        write(tls.with_suffix(".new"), {"server.crt": certificate, "server.key": key})
        tls.with_suffix(".new").rename(tls)
    settings = {
        "password_encryption": "scram-sha-256",
        "log_line_prefix": "%t:%r:%u@%d:[%p]:",
        "timezone": "UTC",
        "rds.force_ssl": "1",
        **_chosen(server),
        "listen_addresses": server.listen,
        "port": str(server.port),
        "ssl": "on",
        "ssl_cert_file": f"{TLS}/server.crt",
        "ssl_key_file": f"{TLS}/server.key",
        "hba_file": f"{SETTINGS}/pg_hba.conf",
        "ident_file": f"{SETTINGS}/pg_ident.conf",
        "unix_socket_directories": SOCKETS,
        **_archiving(server),
        **_replicating(server),
    }
    kind = "host" if server.parameters.get("rds.force_ssl", "1") in ("0", "off", "false") else "hostssl"
    rules = [
        f"local all,replication {SUPERUSER} peer map=container",
        *([f"hostssl replication {REPLICATOR} {PAIR} scram-sha-256"] if server.replication else []),
        "host replication all all reject",
        f"host all {SUPERUSER},{REPLICATOR} all reject",
        f"{kind} all all all scram-sha-256",
    ]
    lines = [f"{name} = '" + value.replace("\\", "\\\\").replace("'", "''") + "'" for name, value in settings.items()]
    # postgres is the server's own user; root is the host, which reaches the socket from outside.
    maps = [f"container {user} {SUPERUSER}" for user in ("postgres", "root")]
    files = {"postgresql.conf": lines, "pg_hba.conf": rules, "pg_ident.conf": maps}
    if server.replication:
        files["pgpass"] = [f"*:*:*:{REPLICATOR}:{server.replication.password}"]
    write(folder, {name: ("\n".join(content) + "\n").encode() for name, content in files.items()})


def conninfo(server: Server) -> str:
    """How a standby reaches its primary. Both have the same certificate; the password is in a file that only they read."""
    pair = server.replication
    if pair is None or pair.upstream is None:
        raise ValueError(f"{server.name} is no standby")
    return (
        f"host={pair.upstream} port={server.port} user={REPLICATOR} application_name={pair.name} "
        f"sslmode=verify-ca sslrootcert={TLS}/server.crt passfile={SETTINGS}/pgpass connect_timeout=5"
    )


def _chosen(server: Server) -> dict[str, str]:
    """The parameters that PostgreSQL knows and RDS leaves to its users."""
    known = set((server.volume / "known-settings").read_text().split())
    chosen = {}
    for name, value in server.parameters.items():
        # A name with a dot is an extension's, or RDS's own: PostgreSQL keeps it, and shows it as RDS does.
        if (name in known or "." in name) and not RESERVED.fullmatch(name) and "{" not in value:
            chosen[name] = value
        elif name not in known and "." not in name:
            log.warning("%s: PostgreSQL has no setting %s; it is left out", server.name, name)
    # On RDS the standby mirrors the disk, below PostgreSQL: what is durable here is durable there, whatever this says.
    if chosen.get("synchronous_commit") in ("local", "remote_write"):
        chosen["synchronous_commit"] = "on"
    return chosen


def _archiving(server: Server) -> dict[str, str]:
    if server.backups is None:
        return {}
    # Always: a promoted standby must archive what its primary had no time for.
    return {"archive_mode": "always", "archive_command": ARCHIVE if server.archiving else "/bin/true"}


def _replicating(server: Server) -> dict[str, str]:
    pair = server.replication
    if pair is None:
        return {}
    settings = {
        "wal_level": "replica",
        # A standby takes no connection, as RDS's own takes none.
        "hot_standby": "off",
        "wal_keep_size": "256MB",
        "wal_sender_timeout": f"{LOST_SECONDS}s",
        "wal_receiver_timeout": f"{LOST_SECONDS}s",
        "wal_retrieve_retry_interval": "250ms",
        "max_wal_senders": "10",
        "synchronous_standby_names": f'FIRST 1 ("{pair.confirmed_by}")' if pair.confirmed_by else "",
    }
    if pair.upstream:
        settings["primary_conninfo"] = conninfo(server)
    return settings


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files that the server alone may read, each at once."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(folder, UID, UID)
    for name, content in files.items():
        new = folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_bytes(content)
        os.chown(new, UID, UID)
        new.replace(folder / name)
