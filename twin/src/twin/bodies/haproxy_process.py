"""HAProxy's master process: started, found again, told things, ended.

It is in a session of its own and outlives the twin's process; its command line tells whose it is.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from twin.bodies import netns

EXECUTABLE = "/usr/sbin/haproxy"
PATIENCE_SECONDS = 15


class HAProxyError(RuntimeError):
    """HAProxy refused; the message is its own."""


class ReloadRefused(HAProxyError):
    """The new worker did not start; the former one goes on."""


class Master:
    """The master process whose files are in `folder`, started by this process (`child`) or by one before it."""

    def __init__(self, folder: Path, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.folder = folder
        self.pid = pid
        self._child = child

    @classmethod
    def start(cls, folder: Path, namespace: str, config: Path, requests: Path) -> Master:
        """Start HAProxy in a network namespace; its lines about requests go to the file `requests`."""
        command = [EXECUTABLE, "-W", "-S", "unix@master.sock", "-f", str(config), "-p", str(folder / "haproxy.pid")]
        with (folder / "haproxy.log").open("wb") as log, requests.open("ab") as lines:
            child = netns.inside(
                namespace,
                lambda: subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=lines, stderr=log, start_new_session=True
                ),
            )
        master = cls(folder, child.pid, child)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if not master.alive:
                raise HAProxyError(f"HAProxy did not start: {alerts(master.log)}")
            try:
                if master.workers()[0]:
                    return master
            except OSError:
                pass
            time.sleep(0.02)
        master.end()
        raise HAProxyError(f"HAProxy did not answer within {PATIENCE_SECONDS} s of its start: see {folder / 'haproxy.log'}")

    @classmethod
    def find(cls, folder: Path) -> Master | None:
        """The running master whose files are in `folder`."""
        pids = set(_processes(folder))
        for pid in pids:
            parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
            if int(parent) not in pids:
                master = cls(folder, pid)
                try:
                    return master if master.workers()[0] else None
                except OSError:
                    return None
        return None

    @property
    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return _is_ours(Path(f"/proc/{self.pid}"), self.folder)

    @property
    def log(self) -> str:
        return (self.folder / "haproxy.log").read_text()

    def end(self) -> None:
        _end([self.pid], self._child)

    def reload(self) -> None:
        """Replace the worker by one with the configuration that is in the file now; raises HAProxyError when it refuses."""
        before, failures = self.workers()
        offset = len(self.log)
        os.kill(self.pid, signal.SIGUSR2)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                workers, failed = self.workers()
                if failed > failures:
                    raise ReloadRefused(f"HAProxy kept its former worker: {alerts(self.log[offset:])}")
                if workers and workers[0] != before[0]:
                    return
            except OSError:  # between two executions of the master
                if not self.alive:
                    raise HAProxyError(f"HAProxy ended: see {self.folder / 'haproxy.log'}") from None
            time.sleep(0.02)
        raise HAProxyError(f"HAProxy did not reload within {PATIENCE_SECONDS} s: see {self.folder / 'haproxy.log'}")

    def workers(self) -> tuple[list[int], int]:
        """Process ids of the workers, the current one first, and how many reloads failed in a row."""
        answer = self.command("show proc")
        workers = [int(pid) for pid in re.findall(r"^(\d+)\s+worker\s", answer, re.MULTILINE)]
        failed = re.search(r"\[failed: (\d+)\]", answer)
        current = re.search(r"^# workers\n(\d+)\s+worker", answer, re.MULTILINE)
        return workers if current else [], int(failed.group(1)) if failed else 0

    def tell(self, command: str) -> None:
        answer = self.command(command).strip()
        if answer:
            raise HAProxyError(f"{command}: {answer}")

    def command(self, command: str) -> str:
        # By way of the folder's descriptor, since the path may be longer than a socket's address can be.
        folder = os.open(self.folder, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE_SECONDS)
                connection.connect(f"/proc/self/fd/{folder}/master.sock")
                connection.sendall(command.encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        finally:
            os.close(folder)


def alerts(output: str) -> str:
    """HAProxy's reasons, without the summing up that follows them."""
    found = [line.split(" : ", 1)[-1] for line in output.splitlines() if line.startswith("[ALERT]")]
    reasons = [re.sub(r"^config : (parsing \[\S+:(\d+)\] : )?", r"line \2: ", alert) for alert in found]
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


def end_all(folder: Path, spare: set[str] | None = None) -> None:
    """End every HAProxy whose files are under `folder`, but for those in the subfolders named in `spare`."""
    spared = {pid for name in spare or () for pid in _processes(folder / name)}
    _end([pid for pid in _processes(folder) if pid not in spared])


def _processes(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_ours(entry, folder):
            yield int(entry.name)


def _is_ours(process: Path, folder: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False  # it has just ended
    return words[0] == EXECUTABLE.encode() and any(word.startswith(f"{folder}/".encode()) for word in words)


def _end(pids: list[int], child: subprocess.Popen[bytes] | None = None) -> None:
    """SIGTERM, then SIGKILL after five seconds."""

    def there(pid: int) -> bool:
        try:
            return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            return False

    def alive() -> list[int]:
        if child is not None:
            child.poll()  # so that it does not stay as a zombie
        return [pid for pid in pids if there(pid)]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 5
        while alive() and time.monotonic() < deadline:
            time.sleep(0.02)
