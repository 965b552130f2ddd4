"""What is built on this machine before a bake or an apply: the service's wheels and the verifier's zip."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from evenkeel.host import ROOT
from evenkeel.steps import Failure

BUILD = ROOT / "build"
WHEELHOUSE = BUILD / "wheelhouse"
VERIFIER = BUILD / "verifier.zip"
# What the image and the Lambda runtime can load: CPython 3.13 on x86-64 with glibc 2.34 (Amazon Linux 2023) or later.
TARGET = [
    *(f"--platform=manylinux{glibc}_x86_64" for glibc in ("_2_34", "_2_28", "_2_17", "2014")),
    "--python-version=3.13",
    "--implementation=cp",
    "--only-binary=:all:",
]
# What the verifier's wheels bring and it never loads.
LEFT_OUT = (
    "bin",
    "test",  # of python-http-client
    "jsonschema/tests",
    "jsonschema/benchmarks",
    # For compiling cryptography, which is compiled; SendGrid's library loads it for its webhooks with all the rest.
    *("cffi", "cffi-*", "pycparser", "pycparser-*"),
    # For parsing inbound mails.
    *("werkzeug", "werkzeug-*", "markupsafe", "markupsafe-*"),
    # Part of the runtime, with boto3.
    *("jmespath", "jmespath-*"),
    "aws_lambda_powertools/event_handler",
)
# The utilities of Powertools that stay.
POWERTOOLS = ("idempotency", "jmespath_utils", "parameters")
# The earliest date a zip can carry: the same sources give the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def version(folder: str) -> str:
    """The version that a package's pyproject.toml states."""
    return str(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"])


def digest(*paths: Path) -> str:
    """SHA-256 over the names and contents of files, folders included whole."""
    found = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for file in files:
            found.update(f"{file.relative_to(ROOT)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _sources(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).iterdir()) if path.name not in ("tests", "README.md", "dist", "__pycache__")]


def wheelhouse() -> tuple[Path, str]:
    """Wheels of the locked requirements and of the service, with a requirements.txt that holds a hash for each.

    Returns the folder and the digest of what it was made from; made again only when that changes.
    """
    lock = ROOT / "requirements" / "service.txt"
    wanted = digest(lock, *_sources("app"))
    if _stamped(WHEELHOUSE, wanted):
        return WHEELHOUSE, wanted
    new = _fresh(WHEELHOUSE)
    pip("download", "--no-deps", "--require-hashes", "--requirement", str(lock), "--dest", str(new), *TARGET)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(new), str(ROOT / "app"))
    own = new / f"signup-{version('app')}-py3-none-any.whl"
    if not own.exists():
        raise Failure(f"building app/ gave no {own.name}: is the version in app/pyproject.toml a plain release?")
    own_hash = hashlib.sha256(own.read_bytes()).hexdigest()
    (new / "requirements.txt").write_text(f"{lock.read_text()}signup=={version('app')} \\\n    --hash=sha256:{own_hash}\n")
    return _put(new, WHEELHOUSE, wanted), wanted


def schema() -> dict[str, str]:
    """The newest migration that the service brings (`head`), and the oldest release's that runs on its schema (`floor`)."""
    done = subprocess.run(
        [sys.executable, "-m", "signup.schema.release"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "app" / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure((done.stderr.strip().splitlines() or ["signup-schema failed without a word"])[-1])
    found: dict[str, str] = json.loads(done.stdout)
    return found


def verifier() -> Path:
    """The Lambda's deployment package; made again only when what it is made from changes."""
    lock = ROOT / "requirements" / "verifier.txt"
    wanted = digest(lock, *_sources("verifier"), Path(__file__))
    stamp = VERIFIER.with_suffix(".stamp")
    if VERIFIER.exists() and stamp.exists() and stamp.read_text() == wanted:
        return VERIFIER
    tree = _fresh(BUILD / "verifier")
    new = VERIFIER.with_suffix(".zip.new")
    pack_verifier(tree, new)
    shutil.rmtree(tree)
    new.replace(VERIFIER)
    stamp.write_text(wanted)
    return VERIFIER


def pack_verifier(tree: Path, archive: Path) -> None:
    """Unpack the locked wheels and the verifier in `tree`, take out what it never loads, and zip the rest: the same bytes
    from the same sources, whenever and wherever."""
    lock = ROOT / "requirements" / "verifier.txt"
    pip("install", "--no-deps", "--no-compile", "--require-hashes", "--requirement", str(lock), "--target", str(tree), *TARGET)
    for pattern in LEFT_OUT:
        found = list(tree.glob(pattern))
        if not found:
            raise Failure(f"the verifier's packages have no {pattern} any more: take it out of LEFT_OUT in evenkeel/packages.py")
        for path in found:
            shutil.rmtree(path)
    for path in (tree / "aws_lambda_powertools" / "utilities").iterdir():
        if path.is_dir() and path.name not in POWERTOOLS:
            shutil.rmtree(path)
    for record in tree.glob("*.dist-info/RECORD"):
        record.unlink()  # lists the files that were taken out
    shutil.copytree(ROOT / "verifier" / "src" / "verifier", tree / "verifier", ignore=shutil.ignore_patterns("__pycache__"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as content:
        for file in sorted(path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            entry = zipfile.ZipInfo(str(file.relative_to(tree)), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            content.writestr(entry, file.read_bytes())


def pip(action: str, *arguments: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        action,
        "--quiet",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"pip {action}: {pip_reason(done.stderr)}")


def pip_reason(stderr: str) -> str:
    """pip's first error; for a wrong hash, the lines below it, which name the package."""
    differing = re.search(r"^ +(\S+) from .*\n(?: +Expected.*\n)+ +Got +(\S+)", stderr, re.MULTILINE)
    if differing:
        return f"{differing[1]} has the SHA-256 {differing[2]}, which is not in the lock file"
    return next((line for line in stderr.splitlines() if "ERROR" in line), stderr.strip().rpartition("\n")[2] or "failed")


def _stamped(folder: Path, wanted: str) -> bool:
    stamp = folder / "made-from"
    return stamp.exists() and stamp.read_text() == wanted


def _fresh(folder: Path) -> Path:
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    return new


def _put(new: Path, folder: Path, wanted: str) -> Path:
    (new / "made-from").write_text(wanted)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return folder
