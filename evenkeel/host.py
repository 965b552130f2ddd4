"""Set this machine up: Debian packages and the virtual environment. Runs with the system's Python and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / ".state" / "setup.log"

# Tool to look for, Debian package that holds it, what it is for.
TOOLS = (
    ("podman", "podman", "containers, the bodies of instances, databases and functions"),
    ("runc", "runc", "the runtime that boots systemd containers on hybrid-cgroup hosts"),
    ("conmon", "conmon", "podman's container monitor"),
    ("packer", "packer", "the image bake"),
    ("mmdebstrap", "mmdebstrap", "the Debian base image"),
    ("haproxy", "haproxy", "the load balancer's body"),
    ("nft", "nftables", "public addresses and address translation"),
    ("ip", "iproute2", "the networks"),
    ("ssh", "openssh-client", "Ansible's and Packer's connections"),
    ("psql", "postgresql-client", "a look into the database"),
    ("dot", "graphviz", "the pictures in docs/"),
    ("shellcheck", "shellcheck", "make lint"),
    ("chromium", "chromium", "the pages' tests and pictures"),
    ("pngquant", "pngquant", "small pictures in docs/"),
    ("git", "git", "the commit that an image is baked from"),
)
PYTHON = (3, 11)
TERRAFORM = (1, 11)
FREE_GIGABYTES = 6


class SetupError(SystemExit):
    """What is missing and what to do; printed as it is, exit status 1."""

    def __init__(self, message: str) -> None:
        print(f"evenkeel: {message}", file=sys.stderr)
        super().__init__(1)


def main() -> None:
    LOG.parent.mkdir(exist_ok=True)
    check_machine()
    install_packages()
    check_terraform()
    make_venv()


def check_machine() -> None:
    if sys.platform != "linux":
        raise SetupError(
            f"Linux is needed for containers and network namespaces; this is {sys.platform}. Use a Linux machine or VM."
        )
    if sys.version_info < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        found = f"{sys.executable} is {sys.version.split()[0]}"
        raise SetupError(f"Python {wanted} or later is needed; {found}. Install it, or run make with PYTHON=python3.x.")
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < FREE_GIGABYTES and not (ROOT / ".state" / "store").exists():
        raise SetupError(
            f"{FREE_GIGABYTES} GB of free disk are needed under {ROOT}; there are {free:.1f}. Free some, or clone elsewhere."
        )


def missing() -> list[tuple[str, str, str]]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [tool for tool in TOOLS if not shutil.which(tool[0], path=path)]


def install_packages() -> None:
    """Install what is missing with apt; where that can't be done, say for each tool how to get it and stop."""
    lacking = missing()
    has_venv = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0
    packages = sorted({package for _, package, _ in lacking} | (set() if has_venv else {"python3-venv"}))
    if not packages:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        why = "this is not Debian or Ubuntu" if apt is None else "apt needs root"
        lines = [f"  {tool} ({purpose}): Debian's package {package}" for tool, package, purpose in lacking]
        lines += [] if has_venv else ["  Python's venv module: Debian's package python3-venv"]
        todo = (
            "install them with your system's package manager"
            if apt is None
            else f"run: sudo apt-get install {' '.join(packages)}"
        )
        raise SetupError("tools are missing and can't be installed here, because " + why + ":\n" + "\n".join(lines) + f"\n{todo}")
    print(f"      installing {', '.join(packages)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with LOG.open("a") as log:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            if subprocess.run(
                [apt, "-q", *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            ).returncode:
                raise SetupError(f"apt-get {command[0]} failed; the reason is at the end of {LOG.relative_to(ROOT)}")
    still = missing()
    if still:
        raise SetupError(
            f"after installing {', '.join(packages)}, {still[0][0]} is still not on the PATH: {os.environ.get('PATH')}"
        )


def check_terraform() -> None:
    if not shutil.which("terraform"):
        raise SetupError(
            "terraform is missing (Debian has no package): install 1.11 or later, see https://developer.hashicorp.com/terraform/install"
        )
    words = subprocess.run(["terraform", "version"], capture_output=True, text=True).stdout.split()
    version = next((word for word in words if word.startswith("v")), "v0.0")
    if tuple(int(part) for part in version[1:].split(".")[:2]) < TERRAFORM:
        raise SetupError(f"terraform {TERRAFORM[0]}.{TERRAFORM[1]} or later is needed (S3's own lock file); this is {version}")


def make_venv() -> None:
    """A virtual environment with exactly the locked packages and this repository's own; quick when it is there."""
    lock = ROOT / "requirements" / "tooling.txt"
    installer = ROOT / "requirements" / "installer.txt"
    own = [ROOT / name for name in ("app", "verifier", "twin")]
    wanted = hashlib.sha256(lock.read_bytes() + installer.read_bytes() + sys.version.encode() + str(VENV).encode()).hexdigest()
    stamp = VENV / "evenkeel-lock"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("      making the virtual environment", file=sys.stderr)
    shutil.rmtree(VENV, ignore_errors=True)
    python, uv = str(VENV / "bin" / "python"), str(VENV / "bin" / "uv")
    steps = (
        [sys.executable, "-m", "venv", str(VENV)],
        [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--require-hashes", "--requirement", str(installer)],
        [uv, "pip", "install", "--quiet", "--no-cache", "--python", python, "--require-hashes", "--requirement", str(lock)],
    )
    with LOG.open("a") as log:
        for step in steps:
            if subprocess.run(step, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode:
                raise SetupError(
                    f"{Path(step[0]).name} failed while making .venv; the reason is at the end of {LOG.relative_to(ROOT)}"
                )
    # The repository's own packages are run from their sources.
    site = next(VENV.glob("lib/python3*/site-packages"))
    (site / "evenkeel.pth").write_text("".join(f"{folder / 'src'}\n" for folder in own) + f"{ROOT}\n")
    stamp.write_text(wanted)


if __name__ == "__main__":
    # `packages` alone is for root where the rest is for another user, as on a runner of GitHub's.
    if sys.argv[1:] == ["packages"]:
        LOG.parent.mkdir(exist_ok=True)
        install_packages()
    else:
        main()
