"""What Lambda's Python 3.13 runtime brings along: AWS's runtime interface client and boto3, in a folder made once.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twin.bodies import debian
from twin.bodies.podman import Podman, PodmanError

RUNTIME = "python3.13"
REQUIREMENTS = Path(__file__).parents[3] / "lambda-runtime.txt"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def folder(podman: Podman) -> Path:
    """Where the packages are; the name follows from the lock file."""
    return podman.settings.store / f"lambda-{RUNTIME}-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"


def build(podman: Podman) -> Path:
    """Fetch and compile the packages unless they are there; returns their folder. Raises PodmanError with the reason."""
    ready = folder(podman)
    if ready.exists():
        return ready
    new = Path(tempfile.mkdtemp(prefix="lambda-new-", dir=podman.settings.store))
    try:
        options = [f"--platform={platform}" for platform in PLATFORMS]
        target = ["--python-version=3.13", "--implementation=cp", "--only-binary=:all:", f"--target={new}"]
        # Everything is in the lock file: pip must neither look for more nor compile for its own Python.
        locked = ["--require-hashes", "--no-deps", "--no-compile", f"--requirement={REQUIREMENTS}"]
        quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-input"]
        done = subprocess.run(
            [*_pip(), "install", *quiet, *options, *target, *locked], capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            words = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise PodmanError(f"pip could not fetch the Lambda runtime's packages: {words[-1]}")
        compile_python(podman, new)
        new.chmod(0o755)
        try:
            new.rename(ready)
        except OSError:
            if not ready.exists():  # else another process was first
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return ready


def compile_python(podman: Podman, packages: Path) -> None:
    """Compile a folder's modules with the image's Python, since functions see it read-only. Broken modules are left."""
    run = ("run", "--rm", "--network=none", "--cap-drop=all", "--cap-add=DAC_OVERRIDE", f"--volume={packages}:/packages")
    # Compiled files are valid by content, whatever times unpacking gives the sources.
    command = ("python3", "-m", "compileall", "-q", "-q", "--invalidation-mode=unchecked-hash", "/packages")
    podman.run(*run, debian.IMAGE, *command, check=False)


def _pip() -> list[str]:
    for python in (sys.executable, shutil.which("python3")):
        if python and subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
            return [python, "-m", "pip"]
    path = os.environ.get("PATH", "")
    raise PodmanError(f"no pip in {sys.executable} or on the PATH ({path}): install python3-pip")
