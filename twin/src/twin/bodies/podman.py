"""The twin's podman: its own store and settings, apart from the host's."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twin.settings import Settings

LABEL = "twin"
_REMOVALS = 5  # tries
_SETTLE_SECONDS = 120.0
# Tells whose podman commands are at work, in their environment.
_MARK = "TWIN_NAME"

# cgroupfs and file events need no systemd on the host; the ulimits are ones that a host without CAP_SYS_RESOURCE grants.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=1024:1024"]

[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{volatile}/libpod"

[network]
network_config_dir = "{volatile}/networks"
"""
# What podman, conmon and the runtimes make for all containers of the machine, and leave empty behind them; the inner ones first.
_GROUPS = ("libpod_parent/conmon", "libpod_parent", "conmon")
_FOLDERS = (Path("/run/runc"), Path("/run/crun"))
# Where podman keeps facts on the layers of every image, for all stores of root: https://github.com/containers/image
_CACHE = Path("/var/lib/containers/cache")


class PodmanError(RuntimeError):
    """podman refused; the message is its own last line."""


def runtime() -> str:
    """crun where the host has unified cgroups, runc elsewhere: crun fails to boot systemd on a hybrid host."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    for name in ("crun", "runc") if unified else ("runc", "crun"):
        if shutil.which(name):
            return name
    raise PodmanError("no container runtime: install runc or crun")


class Podman:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.conf = settings.store / "containers.conf"
        self.storage_conf = settings.store / "storage.conf"

    def configure(self) -> None:
        """Write podman's configuration files (idempotent)."""
        self.settings.store.mkdir(parents=True, exist_ok=True)
        self.conf.write_text(CONTAINERS_CONF.format(runtime=runtime(), volatile=self.settings.runroot))
        root, volatile = self.settings.store / "storage", self.settings.runroot
        self.storage_conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{root}"\nrunroot = "{volatile}"\n')

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which a plain `podman` works on the twin's containers."""
        return {"CONTAINERS_CONF": str(self.conf), "CONTAINERS_STORAGE_CONF": str(self.storage_conf)}

    def command(self, *args: str) -> list[str]:
        return ["podman", "--log-level=error", *args]

    def run(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> str:
        """Run podman; returns its standard output. Raises PodmanError with podman's own words."""
        with self._store(fcntl.LOCK_SH):
            return self._run(*args, stdin=stdin, check=check, timeout=timeout)

    def _run(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 300) -> str:
        done = subprocess.run(
            self.command(*args),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            # conmon stays where it was started, and leaves a file there when a container runs out of memory.
            cwd=self.settings.store,
            env={**os.environ, **self.environment, _MARK: self.settings.name},
        )
        if check and done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise PodmanError(f"podman {args[0]}: {words[-1] if words else f'exit {done.returncode}'}")
        return done.stdout.strip()

    @contextmanager
    def _store(self, how: int) -> Iterator[None]:
        """Hold the store, which all regions of a place share: together with other commands, or alone."""
        self.settings.store.mkdir(parents=True, exist_ok=True)
        with (self.settings.store / "podman.lock").open("w") as file:
            fcntl.flock(file, how)
            yield

    def start(self, name: str, image: str, *command: str, netns: Path, options: tuple[str, ...] = ()) -> int:
        """Start container `name` in network namespace `netns`; returns the host's process id of its first process.

        Each gets as much of the host's processors as any other: in podman's own control group all of them together would
        weigh as much as one process of the host, and those that serve would wait for those that boot.
        """
        own = (f"--name={name}", f"--label={LABEL}={self.settings.name}", f"--network=ns:{netns}", "--cgroup-parent=/")
        self.remove(name)
        self.run("run", "--detach", *own, *options, image, *command)
        return self.pid(name)

    def pid(self, name: str) -> int:
        """Process id of the container's first process; 0 when it is not running."""
        return int(self.run("inspect", "--format={{.State.Pid}}", name))

    def exit_code(self, name: str) -> int:
        return int(self.run("inspect", "--format={{.State.ExitCode}}", name))

    def remove(self, name: str) -> None:
        """Remove a container, running or not; one that isn't there is no error."""
        for attempt in range(_REMOVALS):
            try:
                self.run("rm", "--force", "--ignore", "--time=0", "--volumes", name)
                return
            except PodmanError:  # a container that ends by itself at this very moment can't be stopped
                if attempt == _REMOVALS - 1:
                    raise
                time.sleep(0.2)

    def containers(self, running: bool = False) -> list[str]:
        """Names of this twin's containers: all of them, or those that run."""
        which = () if running else ("--all",)
        return self.run("ps", *which, f"--filter=label={LABEL}={self.settings.name}", "--format={{.Names}}").split()

    def leave(self) -> None:
        """Remove what podman keeps outside the store, unless another twin has containers in it or the host uses podman too."""
        if self.settings.runroot.exists() and not self.run("ps", "--all", "--quiet"):
            # What conmon starts to clean up after a container would make the folder anew.
            until = time.monotonic() + _SETTLE_SECONDS
            while _mentioned(str(self.settings.runroot).encode()) and time.monotonic() < until:
                time.sleep(0.1)
            with self._store(fcntl.LOCK_EX):
                if self._run("ps", "--all", "--quiet"):  # another twin has started one meanwhile
                    return
                shutil.rmtree(self.settings.runroot, ignore_errors=True)
                if not _CACHE.with_name("storage").exists():
                    shutil.rmtree(_CACHE, ignore_errors=True)
                    sweep()

    def settle(self) -> None:
        """Wait for the end of podman commands that a killed twin of this name left at work."""
        until = time.monotonic() + _SETTLE_SECONDS
        mark = f"{_MARK}={self.settings.name}".encode()
        while any(_is_command(process, mark) for process in Path("/proc").glob("[0-9]*")) and time.monotonic() < until:
            time.sleep(0.1)

    def image_exists(self, image: str) -> bool:
        return bool(self.run("images", "--quiet", "--filter", f"reference={image}"))

    def images(self, label: str) -> list[dict[str, Any]]:
        """Inspections of the images that carry `label` (KEY or KEY=VALUE)."""
        ids = self.run("images", "--quiet", "--no-trunc", f"--filter=label={label}").split()
        found: list[dict[str, Any]] = json.loads(self.run("image", "inspect", *dict.fromkeys(ids))) if ids else []
        return found


def sweep(groups: Path = Path("/sys/fs/cgroup"), folders: Iterable[Path] = _FOLDERS) -> None:
    """Remove the folders that stay behind when the machine's last container is gone; those in use are not empty, and stay."""
    levels = ("", "*/")  # version 2's groups lie at the root, version 1's under each controller
    for folder in [*(found for level in levels for name in _GROUPS for found in groups.glob(level + name)), *folders]:
        with suppress(OSError):
            folder.rmdir()


def _is_command(process: Path, mark: bytes) -> bool:
    """Whether a process of /proc is podman itself with `mark` in its environment."""
    try:
        return (process / "cmdline").read_bytes().startswith(b"podman\0") and mark in (process / "environ").read_bytes().split(
            b"\0"
        )
    except OSError:
        return False


def _mentioned(words: bytes) -> bool:
    """Whether a process has the words in its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if words in (process / "cmdline").read_bytes():
                return True
        except OSError:
            continue  # it has just ended
    return False
