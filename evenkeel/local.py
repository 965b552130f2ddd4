"""The local region as a process: started, found again, stopped. It is run through its own command line, `python -m twin`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evenkeel.host import ROOT
from evenkeel.steps import Failure, last_line, wait_for

API_PORT = 4566
MAIL_PORT = 8025


@dataclass(frozen=True)
class Local:
    """One local region, its addresses and folders. Another name and slot make another one beside it."""

    name: str = "evenkeel"
    slot: int = 77
    region: str = "us-east-1"

    @classmethod
    def from_environment(cls) -> Local:
        """EVENKEEL_NAME and EVENKEEL_SLOT choose one; without them it is the one that `make up` runs."""
        return cls(os.environ.get("EVENKEEL_NAME", cls.name), int(os.environ.get("EVENKEEL_SLOT", cls.slot)))

    @property
    def state(self) -> Path:
        return ROOT / ".state" / self.name

    @property
    def store(self) -> Path:
        return ROOT / ".state" / "store"

    @property
    def log(self) -> Path:
        return self.state / "twin.log"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.{self.slot}.0.1:{API_PORT}"

    @property
    def mail_url(self) -> str:
        return f"http://127.{self.slot}.0.1:{MAIL_PORT}"

    def command(self, action: str) -> list[str]:
        own = ["--name", self.name, "--slot", str(self.slot), "--state", str(self.state), "--store", str(self.store)]
        return [sys.executable, "-m", "twin", action, *own]

    def environment(self) -> dict[str, str]:
        """What makes any AWS tool work on this region, as it would on AWS, and podman on its containers."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            **self._credentials(),
            "AWS_EC2_METADATA_DISABLED": "true",
            "CONTAINERS_CONF": str(self.store / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.store / "storage.conf"),
        }

    def _credentials(self) -> dict[str, str]:
        """The operator's, unless the environment is this region's already: then its own are the caller's choice."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        try:
            key = json.loads((self.state / "operator.json").read_text())
        except FileNotFoundError:
            raise Failure("the twin is not running: run `make up`") from None
        if os.environ.get("AWS_ENDPOINT_URL") == self.endpoint_url and os.environ.get("AWS_SESSION_TOKEN"):
            return {name: os.environ[name] for name in names}
        return {"AWS_ACCESS_KEY_ID": key["access_key_id"], "AWS_SECRET_ACCESS_KEY": key["secret_access_key"]}

    def pid(self) -> int | None:
        """The region's process, if it is alive and really ours."""
        try:
            pid = int((self.state / "twin.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return pid if b"twin" in words and str(self.state).encode() in words else None

    def was_killed(self) -> bool:
        """Whether there are records of a region that came to no orderly end: the next start goes on from them."""
        return (self.state / "records" / "snapshot").exists()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/_twin/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def check_port(self, port: int) -> None:
        """Raises Failure when another program has the load balancer's port, before anything is built for it.

        The load balancer of a killed region goes on by itself, and is found again.
        """
        if self.pid() or self.was_killed():
            return
        address = f"127.{self.slot}.1.1"
        try:
            socket.create_server((address, port)).close()
        except OSError as error:
            hint = f"`ss -ltnp 'sport = :{port}'` shows who listens there; end it, or set http_port in terraform/env/twin.tfvars"
            raise Failure(
                f"the load balancer can't listen on {address}:{port}: {os.strerror(error.errno or 0)}. {hint}"
            ) from None

    def prepare(self) -> None:
        """Make the images that bodies start from."""
        done = subprocess.run(self.command("prepare"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(last_line(done.stderr))

    def start(self) -> bool:
        """Start the region unless it runs; returns whether it had to be started. One that was killed goes on where it was."""
        if pid := self.pid():
            # Busy, or still starting: never ended here, since an orderly end takes everything down.
            wait_for(f"an answer of the running twin (process {pid}; `make down` ends it)", self.answers, 120)
            return False
        self.state.mkdir(parents=True, exist_ok=True)
        self.end()
        with self.log.open("a" if self.was_killed() else "w") as log:
            process = subprocess.Popen(
                self.command("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=ROOT
            )
        (self.state / "twin.pid").write_text(str(process.pid))

        def ready() -> bool:
            if process.poll() is not None:
                raise Failure(
                    f"the twin did not start: {last_line(self.log.read_text())} (its log: {self.log.relative_to(ROOT)})"
                )
            return self.answers()

        wait_for(f"the twin's API ({self.log.relative_to(ROOT)} may say why)", ready, 120)
        return True

    def end(self) -> None:
        """End the process, if there is one, and wait for it."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            try:
                wait_for("the end of the twin", lambda: self.pid() is None or _zombie(pid), 120)
            except Failure:
                os.kill(pid, signal.SIGKILL)
        (self.state / "twin.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all that the region has outside its folder, whether it runs or was killed, and from the folder all but the
        images' catalog."""
        self.end()
        if self.store.exists():
            done = subprocess.run(self.command("clear"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failure(last_line(done.stderr))
        for entry in self.state.iterdir() if self.state.exists() else ():
            if entry.name in ("images.json", "up.lock"):
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this region for one command that changes it."""
        if os.geteuid() != 0:
            raise Failure("root is needed for systemd containers and network namespaces: run it with sudo")
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"another command is at work on '{self.name}': wait for it to end") from None
            yield


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
