"""What the tests share: running the commands, waiting, and the platform under test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.target import Target

# The tests' own region, unless another is named: benchmarks measure the one that runs.
NAME, SLOT = os.environ.get("EVENKEEL_TEST_NAME", "test"), int(os.environ.get("EVENKEEL_TEST_SLOT", "99"))


def evenkeel(command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the Makefile's commands on the tests' region."""
    own = {**os.environ, "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT), "TARGET": "twin", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "evenkeel", command], cwd=ROOT, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if check and done.returncode:
        pytest.fail(f"`{command}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


def wait_until(what: str, ready: Callable[[], Any], seconds: float = 180, period: float = 0.25) -> Any:
    """Wait for a condition; returns what it returned. Limits are generous: machines are noisy."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, f"{what} did not come within {seconds:.0f} s"
        time.sleep(period)
    return found


@dataclass(frozen=True)
class Platform:
    target: Target
    local: Local
    outputs: dict[str, Any]
    before: set[Path]

    @property
    def url(self) -> str:
        return str(self.outputs["service_url"])

    def podman(self, *arguments: str, check: bool = True) -> str:
        """podman on the region's containers, as `eval "$(make -s env)"` gives it to people."""
        done = subprocess.run(["podman", *arguments], env=self.target.environment(), capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()


def scattered() -> set[Path]:
    """What our commands might leave in the machine's own folders."""
    folders = (Path(name) for name in ("/run", "/tmp", "/var/tmp", str(Path.home())))  # noqa: S108
    return {entry for folder in folders for entry in folder.iterdir() if entry.name.startswith(("evenkeel", "twin-", "packer"))}


def bring_up() -> Platform:
    before = scattered()
    evenkeel("up")
    local = Local(NAME, SLOT)
    target = Target("twin", local)
    from evenkeel.stack import Stack

    return Platform(target, local, Stack(target).outputs(), before)
