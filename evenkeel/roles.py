"""`make roles`: Molecule for each role, on a machine of its own; one summary at the end.

Roles named as arguments run alone: `python -m evenkeel.roles base signup`. The scenarios know an image's name, podman's
settings and the release to install, all from the environment that is made here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evenkeel import packages
from evenkeel.host import ROOT, VENV
from evenkeel.local import Local
from evenkeel.steps import Failure, stop
from twin.bodies import debian
from twin.bodies.podman import LABEL, Podman, PodmanError
from twin.settings import Settings

ROLES = tuple(sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/molecule/default")))
# What podman's network makes on the host for its own use, and leaves there.
TABLES = {"ip filter", "ip nat", "ip6 filter", "ip6 nat", "inet netavark"}
# Where podman's network notes the addresses it has given, and forgets to forget them.
CNI = Path("/var/lib/cni")
# A store user of its own, beside any region that runs. Its name begins those of containers and networks.
SCRATCH = Local("role", 97)


@contextmanager
def machines() -> Iterator[dict[str, str]]:
    """Yields the environment that Molecule makes machines in, of the image that bakes start from."""
    own = Settings(state=SCRATCH.state, store=SCRATCH.store, name=SCRATCH.name, slot=SCRATCH.slot)
    podman = Podman(own)
    own.state.mkdir(parents=True, exist_ok=True)
    wheels, _ = packages.wheelhouse()
    tables = _tables()
    keeper = f"{own.name}-keeper"
    try:
        debian.build(podman, own.state / "debian.log")
        podman.remove(keeper)
        # Molecule's podman takes no part in the regions' locks: while there is a container, none of them tidies the store.
        podman.run("create", f"--name={keeper}", f"--label={LABEL}={own.name}", "--network=none", debian.IMAGE)
        yield {
            **podman.environment,
            "ANSIBLE_HOME": str(own.state / "ansible"),
            "MOLECULE_COMMAND_BORDERS": "false",
            "PATH": f"{VENV / 'bin'}:/usr/bin:{os.environ['PATH']}",
            "ROLES_IMAGE": debian.IMAGE,
            "ROLES_PREFIX": own.name,
            "SIGNUP_VERSION": packages.version("app"),
            "SIGNUP_WHEELHOUSE": str(wheels),
        }
    finally:
        podman.remove(keeper)
        podman.leave()
        for table in _tables() - tables:
            subprocess.run(["nft", "delete", "table", *table.split()], capture_output=True)
        for network in (CNI / "networks").glob(f"{own.name}-*"):
            shutil.rmtree(network, ignore_errors=True)
        for folder in (CNI / "networks", CNI / "results", CNI):
            with suppress(OSError):  # others' networks are in it
                folder.rmdir()
        shutil.rmtree(own.state, ignore_errors=True)


def _tables() -> set[str]:
    """Those of podman's tables that the host's firewall has."""
    listed = subprocess.run(["nft", "list", "tables"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    return {line.removeprefix("table ") for line in listed.splitlines()} & TABLES


def run(role: str, environment: dict[str, str]) -> int:
    """Run one role's scenario; returns its exit status. Nothing of it is left, even when it is interrupted."""
    own = {**os.environ, **environment, "MOLECULE_EPHEMERAL_DIRECTORY": str(SCRATCH.state / role)}
    folder = ROOT / "roles" / role
    molecule = str(VENV / "bin" / "molecule")
    process = subprocess.Popen([molecule, "test"], cwd=folder, env=own, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # Ansible's processes too: they would work on what is destroyed now
        process.wait()
        subprocess.run([molecule, "destroy"], cwd=folder, env=own, stdin=subprocess.DEVNULL, capture_output=True)
        raise


def main(names: list[str]) -> int:
    unknown = set(names) - set(ROLES)
    if unknown:
        stop(f"there is no role {', '.join(sorted(unknown))} with a scenario; there are {', '.join(ROLES)}")
    # A cancelled job gets no more than this, and must leave no machine either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.geteuid() != 0:
        stop("root is needed for systemd containers: run it with sudo")
    summary = []
    try:
        with machines() as environment:
            for role in names or ROLES:
                print(f"\n== {role}", flush=True)
                started = time.monotonic()
                summary.append((role, run(role, environment), time.monotonic() - started))
    except (Failure, PodmanError) as failure:
        stop(str(failure))
    except KeyboardInterrupt:
        stop("interrupted; the machine is removed")
    print()
    for role, status, seconds in summary:
        print(f"{role:14} {'passed' if status == 0 else f'FAILED ({status})'} in {seconds:.0f} s")
    return int(any(status for _, status, _ in summary))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
