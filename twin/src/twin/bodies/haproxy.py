"""HAProxy, the body of a VPC's load balancers: one process with a worker, replaced without losing a connection.

It lives in the VPC's network namespace and listens in the host's. The other way round, with a namespace for each server,
a worker that is being replaced could open no more connections: HAProxy closes its namespaces when it starts to stop.

A configuration that HAProxy rejects never replaces the running one. Servers that are new start down and stay so until
`admit`, servers that were there keep their state over a reload: both by the state file that a new worker reads
(https://docs.haproxy.org/2.6/management.html, "show servers state").
"""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twin.bodies import netns
from twin.bodies.haproxy_config import Backend, Configuration, Server
from twin.bodies.haproxy_log import RequestLog
from twin.bodies.haproxy_process import EXECUTABLE, HAProxyError, Master, ReloadRefused, alerts, end_all
from twin.bodies.haproxy_render import render
from twin.settings import Settings

# Of "show stat".
_COLUMNS = ("pxname", "svname", "status", "check_status", "check_code", "check_health", "scur")
_STATE_HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state"
    " bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr"
    " srv_agent_addr srv_agent_port\n"
)
_MAINTENANCE, _DRAIN = 0x01, 0x08  # of srv_admin_state, when set by command
_RUNNING = 2  # of srv_op_state


@dataclass(frozen=True)
class ServerStatus:
    """HAProxy's view of a server. `check` is the last check's result by HAProxy's name (INI, L4CON, L7STS...), `code` its
    HTTP status if it came to one, `passes` the checks passed towards being up."""

    up: bool
    check: str
    code: str
    passes: int


@dataclass(frozen=True)
class Status:
    """`servers` by names of backend and server; `connections` are those of clients, by name of frontend."""

    servers: dict[tuple[str, str], ServerStatus]
    connections: dict[str, int]


class HAProxy:
    """`namespace` is the network namespace of the servers; the listeners' is the one that this process is in."""

    def __init__(self, settings: Settings, namespace: str) -> None:
        self.namespace = namespace
        self.host = f"{settings.name}.host"
        self.folder = _folder(settings) / namespace
        self.config = self.folder / "haproxy.cfg"
        self.requests = RequestLog(self.folder / "requests.log")
        self.served = Configuration()
        self._states = self.folder / "states"
        self._memory = self.folder / "served"
        self._master: Master | None = None
        self._text = ""
        self._rejected = ""

    @property
    def running(self) -> bool:
        return self._master is not None and self._master.alive

    def adopt(self) -> bool:
        """Take over the HAProxy that a twin before this one started, as it runs; False if there is none to take."""
        self._master = Master.find(self.folder)
        if self._master is None:
            return False
        self._text = self.config.read_text()
        try:
            served: Configuration = pickle.loads(self._memory.read_bytes())  # noqa: S301 (this twin's own file)
            if render(served, str(self._states), self.host) == self._text:
                self.served = served
        except (OSError, pickle.UnpicklingError, AttributeError, TypeError, EOFError):
            self.served = Configuration()
        return True

    def apply(self, wanted: Configuration) -> None:
        """Serve `wanted`, or stop when it has no frontend. Raises HAProxyError, once for each configuration that HAProxy
        rejects; what was served before goes on."""
        if not wanted.frontends:
            self.stop()
            return
        text = render(wanted, str(self._states), self.host)
        if self.running and text != self._text:
            # New requests stay away from draining servers at once, not after a reload.
            self._set_states(wanted)
        if text == self._rejected:
            return
        self._have_nodes(wanted)
        if not self.running:
            self._write(text, wanted)
            self._master = Master.start(self.folder, self.namespace, self.config, self.requests.path)
        elif text != self._text:
            self._write(text, wanted)
            self._reload(text)
        if text != self._text or self.served != wanted:
            former = self.served
            self._text, self.served = text, wanted
            self._memory.write_bytes(pickle.dumps(wanted))
            self._drop_nodes(former, wanted)
            self._drop_certificates(wanted)
        self._set_states(wanted)

    def certificate(self, pem: bytes) -> str:
        """Keep certificate, chain and private key where only this user reads them; returns the name to configure."""
        name = f"certificates/{hashlib.sha256(pem).hexdigest()[:32]}.pem"
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
        return name

    def status(self) -> Status:
        rows = _table(self._command("@1 show stat").removeprefix("# ").splitlines())
        checked = {backend.checks: backend.name for backend in self.served.backends}
        servers = {
            (checked[row["pxname"]], row["svname"]): ServerStatus(
                up=row["status"].startswith("UP"),
                check=row["check_status"].removeprefix("* "),
                code=row["check_code"],
                passes=int(row["check_health"] or 0),
            )
            for row in rows
            if row["pxname"] in checked and row["svname"] != "BACKEND"
        }
        return Status(servers, {row["pxname"]: int(row["scur"]) for row in rows if row["svname"] == "FRONTEND"})

    def admit(self, backend: str, server: str) -> None:
        """Send requests to a server from now on: a new target needs one passed check, fewer than an unhealthy one."""
        if self._master:
            self._master.tell(f"@1 set server {backend}-checks/{server} health up")

    def stop(self) -> None:
        if self._master is not None:
            self._master.end()
            self._drop_nodes(self.served, Configuration())
            self._drop_certificates(Configuration())
        self._master = None
        self._text, self.served = "", Configuration()

    # Starting and replacing

    def _write(self, text: str, wanted: Configuration) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not netns.path(self.host).exists():
            netns.ip(f"netns attach {self.host} {os.getpid()}")  # HAProxy knows namespaces by name only
        candidate = self.folder / "candidate.cfg"
        candidate.write_text(text)
        self._states.write_text(_STATE_HEADER + "".join(self._rows(wanted)))
        checked = subprocess.run(
            [EXECUTABLE, "-c", "-f", str(candidate)], cwd=self.folder, capture_output=True, text=True, timeout=30, check=False
        )
        if checked.returncode:
            self._rejected = text
            raise HAProxyError(f"HAProxy rejects the configuration kept in {candidate}: {alerts(checked.stderr)}")
        os.replace(candidate, self.config)

    def _rows(self, wanted: Configuration) -> Iterator[str]:
        """The state each server starts with: what it has now, or down."""
        known = self._server_states() if self.running else {}
        for backend in wanted.backends:
            for name in (backend.checks, backend.name, backend.open, backend.former):
                for server in backend.servers:
                    new = _new(name, server, backend) if name != backend.open else _row(name, server, 0, _MAINTENANCE, 0)
                    yield known.get((name, server.name), new) + "\n"

    def _reload(self, text: str) -> None:
        if self._master is None:
            raise HAProxyError("HAProxy is not running")
        try:
            self._master.reload()
        except ReloadRefused:
            self._rejected = text
            raise

    def _set_states(self, wanted: Configuration) -> None:
        """Let draining servers drain, and open those that may fail open; requests in flight go on.

        A former worker can't be told. It serves one more request on each connection that was open at the reload; the
        target is still there during the deregistration delay, and after that the request goes to another one.
        """
        if self._master is None:
            return
        known = self._server_states()
        for backend in wanted.backends:
            for server in backend.servers:
                opened = "ready" if server.fail_open and not server.draining else "maint"
                for name, state in ((backend.name, "drain" if server.draining else "ready"), (backend.open, opened)):
                    row = known.get((name, server.name))
                    if row is not None and _state(row) != state:
                        self._master.tell(f"@1 set server {name}/{server.name} state {state}")

    def _server_states(self) -> dict[tuple[str, str], str]:
        """HAProxy's rows about its servers, by names of backend and server."""
        rows = (line.split() for line in self._command("@1 show servers state").splitlines()[2:])
        return {(fields[1], fields[3]): " ".join(fields) for fields in rows if len(fields) > 6}

    def _command(self, command: str) -> str:
        return self._master.command(command) if self._master else ""

    # What goes with it: the load balancers' addresses in the VPC, and certificates

    def _have_nodes(self, wanted: Configuration) -> None:
        """Local addresses of the VPC's router, as it were: it answers for them in each subnet, and answers come back to it."""
        if set(wanted.nodes) - set(self.served.nodes) or not self.running:
            netns.ip("".join(f"addr replace {address}/32 dev lo\n" for address in wanted.nodes), self.namespace)

    def _drop_nodes(self, former: Configuration, wanted: Configuration) -> None:
        for address in set(former.nodes) - set(wanted.nodes):
            command = ["ip", "-netns", self.namespace, "addr", "delete", f"{address}/32", "dev", "lo"]
            subprocess.run(command, capture_output=True, check=False)  # gone with the namespace, perhaps

    def _drop_certificates(self, wanted: Configuration) -> None:
        for path in (self.folder / "certificates").glob("*.pem"):
            if f"certificates/{path.name}" not in wanted.certificates:
                path.unlink()


def _table(lines: list[str]) -> list[dict[str, str]]:
    """Of HAProxy's hundred columns, those that are asked for."""
    heads, *rows = csv.reader(lines) if lines else [[]]
    columns = [(name, heads.index(name)) for name in _COLUMNS if name in heads]
    return [{name: row[index] for name, index in columns} for row in rows if row]


def _new(name: str, server: Server, backend: Backend) -> str:
    if server.up:
        return _row(name, server, _RUNNING, 0, backend.check.healthy + backend.check.unhealthy - 1)
    return _row(name, server, 0, 0, 0)


def _row(name: str, server: Server, state: int, admin: int, health: int) -> str:
    """A server's state: running or not, its administrative state, and how far its checks have come."""
    result = 3 if health else 0  # passed, or none yet
    return (
        f"0 {name} 0 {server.name} {server.address} {state} {admin} 1 1 0 1 {result} {health} 6 0 0 0 - {server.port} - 0 0 - - 0"
    )


def _state(row: str) -> str:
    admin = int(row.split()[6])
    return "maint" if admin & _MAINTENANCE else "drain" if admin & _DRAIN else "ready"


def kill_left_behind(settings: Settings, spare: set[str] | None = None) -> None:
    """End the HAProxy of a twin that was killed, but for those in the namespaces named in `spare`. Its own command line
    tells it, whatever the pid file says."""
    end_all(_folder(settings), spare)


def _folder(settings: Settings) -> Path:
    return settings.state / "haproxy"
