"""HAProxy, the body of a VPC's load balancers: one process with a worker, replaced without losing a connection.

It lives in the VPC's network namespace and listens in the host's. The other way round, with a namespace for each server,
a worker that is being replaced could open no more connections: HAProxy closes its namespaces when it starts to stop.

A configuration that HAProxy rejects never replaces the running one. Servers that are new start down and stay so until
`admit`, servers that were there keep their state over a reload: both by the state file that a new worker reads
(https://docs.haproxy.org/2.6/management.html, "show servers state").
"""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twin.bodies import netns
from twin.bodies.haproxy_config import Configuration, Server
from twin.settings import Settings

EXECUTABLE = "/usr/sbin/haproxy"
_PATIENCE_SECONDS = 15
_STATE_HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    " srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state"
    " bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr"
    " srv_agent_addr srv_agent_port\n"
)


class HAProxyError(RuntimeError):
    """HAProxy refused; the message is its own."""


@dataclass(frozen=True)
class ServerStatus:
    """HAProxy's view of a server. `check` is the last check's result by HAProxy's name (INI, L4CON, L7STS...), `code` its
    HTTP status if it came to one, `passes` the checks passed towards being up."""

    up: bool
    check: str
    code: str
    passes: int


class HAProxy:
    """`namespace` is the network namespace of the servers; the listeners' is the one that this process is in."""

    def __init__(self, settings: Settings, namespace: str) -> None:
        self.namespace = namespace
        self.host = f"{settings.name}.host"
        self.folder = _folder(settings) / namespace
        self.config = self.folder / "haproxy.cfg"
        self.log = self.folder / "haproxy.log"
        self.served = Configuration()
        self._states = self.folder / "states"
        self._process: subprocess.Popen[bytes] | None = None
        self._text = ""
        self._rejected = ""
        self._draining: set[tuple[str, str]] = set()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def apply(self, wanted: Configuration) -> None:
        """Serve `wanted`, or stop when it has no frontend. Raises HAProxyError, once for each configuration that HAProxy
        rejects; what was served before goes on."""
        if not wanted.frontends:
            self.stop()
            return
        text = wanted.render(str(self._states), self.host)
        if self.running:
            self._drain(wanted)
        else:
            self._draining.clear()
        if text == self._rejected:
            return
        if not self.running:
            self._write(text, wanted)
            self._start()
        elif text != self._text:
            self._write(text, wanted)
            self._reload(text)
        self._text, self.served = text, wanted
        self._drain(wanted)

    def status(self) -> dict[tuple[str, str], ServerStatus]:
        """HAProxy's view of each server, by names of backend and server."""
        rows = csv.DictReader(self._command("@1 show stat").removeprefix("# ").splitlines())
        checked = {backend.checks: backend.name for backend in self.served.backends}
        return {
            (checked[row["pxname"]], row["svname"]): ServerStatus(
                up=row["status"].startswith("UP"),
                check=row["check_status"].removeprefix("* "),
                code=row["check_code"],
                passes=int(row["check_health"] or 0),
            )
            for row in rows
            if row["pxname"] in checked and row["svname"] != "BACKEND"
        }

    def admit(self, backend: str, server: str) -> None:
        """Send requests to a server from now on: a new target needs one passed check, fewer than an unhealthy one."""
        self._tell(f"@1 set server {backend}-checks/{server} health up")

    def stop(self) -> None:
        if self._process is not None:
            _end([self._process.pid], self._process)
        self._process = None
        self._text, self.served = "", Configuration()
        self._draining.clear()

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
            raise HAProxyError(f"HAProxy rejects the configuration kept in {candidate}: {_alerts(checked.stderr)}")
        os.replace(candidate, self.config)

    def _rows(self, wanted: Configuration) -> Iterator[str]:
        """The state each server starts with: what it has now, or down."""
        known = {}
        if self.running:
            for row in self._command("@1 show servers state").splitlines()[2:]:
                fields = row.split()
                if len(fields) > 3:
                    known[fields[1], fields[3]] = row
        for backend in wanted.backends:
            for name in (backend.checks, backend.name):
                for server in backend.servers:
                    yield known.get((name, server.name), _down(name, server)) + "\n"

    def _start(self) -> None:
        command = [EXECUTABLE, "-W", "-S", "unix@master.sock", "-f", str(self.config), "-p", str(self.folder / "haproxy.pid")]
        with self.log.open("wb") as log:
            process = self._process = netns.inside(
                self.namespace,
                lambda: subprocess.Popen(
                    command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                ),
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise HAProxyError(f"HAProxy did not start: {_alerts(self.log.read_text())}")
            try:
                if self._workers()[0]:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        self.stop()
        raise HAProxyError(f"HAProxy did not answer within {_PATIENCE_SECONDS} s of its start: see {self.log}")

    def _reload(self, text: str) -> None:
        process = self._process
        if process is None:
            raise HAProxyError("HAProxy is not running")
        before, failures = self._workers()
        offset = self.log.stat().st_size
        process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                workers, failed = self._workers()
                if failed > failures:
                    self._rejected = text
                    raise HAProxyError(f"HAProxy kept its former worker: {_alerts(self.log.read_text()[offset:])}")
                if workers and workers[0] != before[0]:
                    return
            except OSError:  # between two executions of the master
                if process.poll() is not None:
                    raise HAProxyError(f"HAProxy ended: see {self.log}") from None
            time.sleep(0.02)
        raise HAProxyError(f"HAProxy did not reload within {_PATIENCE_SECONDS} s: see {self.log}")

    def _drain(self, wanted: Configuration) -> None:
        """New requests stay away from draining servers at once; requests in flight go on.

        A former worker can't be told. It serves one more request on each connection that was open at the reload; the
        target is still there during the deregistration delay, and after that the request goes to another one.
        """
        served = {(backend.name, server.name) for backend in self.served.backends for server in backend.servers}
        for backend in wanted.backends:
            for server in backend.servers:
                key = (backend.name, server.name)
                if key in served and server.draining != (key in self._draining):
                    self._tell(f"@1 set server {backend.name}/{server.name} state {'drain' if server.draining else 'ready'}")
                    self._draining.symmetric_difference_update({key})
        self._draining &= {(backend.name, server.name) for backend in wanted.backends for server in backend.servers}

    # The master's socket

    def _workers(self) -> tuple[list[int], int]:
        """Process ids of the workers, the current one first, and how many reloads failed in a row."""
        answer = self._command("show proc")
        workers = [int(pid) for pid in re.findall(r"^(\d+)\s+worker\s", answer, re.MULTILINE)]
        failed = re.search(r"\[failed: (\d+)\]", answer)
        current = re.search(r"^# workers\n(\d+)\s+worker", answer, re.MULTILINE)
        return workers if current else [], int(failed.group(1)) if failed else 0

    def _tell(self, command: str) -> None:
        answer = self._command(command).strip()
        if answer:
            raise HAProxyError(f"{command}: {answer}")

    def _command(self, command: str) -> str:
        # By way of the folder's descriptor, since the path may be longer than a socket's address can be.
        folder = os.open(self.folder, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_PATIENCE_SECONDS)
                connection.connect(f"/proc/self/fd/{folder}/master.sock")
                connection.sendall(command.encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        finally:
            os.close(folder)


def _down(backend: str, server: Server) -> str:
    return f"0 {backend} 0 {server.name} {server.address} 0 0 1 1 0 1 0 0 6 0 0 0 - {server.port} - 0 0 - - 0"


def _alerts(output: str) -> str:
    """HAProxy's reasons, without the summing up that follows them."""
    alerts = [line.split(" : ", 1)[-1] for line in output.splitlines() if line.startswith("[ALERT]")]
    reasons = [re.sub(r"^config : (parsing \[\S+:(\d+)\] : )?", r"line \2: ", alert) for alert in alerts]
    return "; ".join(reason for reason in reasons if not re.search(r"Error\(s\) found|Fatal errors", reason)) or "no reason given"


def holder(address: str, port: int) -> str | None:
    """Who keeps a listener from `address` and `port`, in words, or None when they are free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            return "the system, which lets only root have it"
        except OSError:
            listing = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=False).stdout
            for line in listing.splitlines():
                found = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
                if found and line.split()[3].rsplit(":", 1)[0] in (address, "0.0.0.0", "*", "[::]"):  # noqa: S104
                    return f"{found.group(1)} (process {found.group(2)})"
            return "an unknown process"
    return None


def kill_left_behind(settings: Settings) -> None:
    """End the HAProxy of a twin that was killed. Its own command line tells it, whatever the pid file says."""
    _end(list(_processes(_folder(settings))))


def _folder(settings: Settings) -> Path:
    return settings.state / "haproxy"


def _processes(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if words[0] == EXECUTABLE.encode() and any(word.startswith(f"{folder}/".encode()) for word in words):
                yield int(entry.name)


def _end(pids: list[int], child: subprocess.Popen[bytes] | None = None) -> None:
    """SIGTERM, then SIGKILL after five seconds."""

    def alive() -> list[int]:
        if child is not None:
            child.poll()  # so that it does not stay as a zombie
        return [pid for pid in pids if Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 5
        while alive() and time.monotonic() < deadline:
            time.sleep(0.02)
