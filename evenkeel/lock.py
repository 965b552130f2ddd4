"""Renew the hash-locked requirements: requirements/*.in -> *.txt.

With --keep, only what was added to an *.in or taken from it changes; without it, every version is the newest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evenkeel.host import ROOT, VENV
from evenkeel.steps import stop

# The Python that each lock must suit: the image's and the Lambda's, or the oldest that the tooling supports.
PYTHONS = {"service": "3.13", "verifier": "3.13", "tooling": "3.11", "installer": "3.11"}
LOCKS = {ROOT / "requirements" / f"{name}.in": python for name, python in PYTHONS.items()}
LOCKS[ROOT / "twin" / "lambda-runtime.in"] = "3.13"


def renew(source: Path, python: str, keep: bool = False) -> None:
    command = [
        "pip",
        "compile",
        "--quiet",
        "--universal",
        *([] if keep else ["--upgrade"]),
        "--generate-hashes",
        "--no-header",
        "--python-version",
        python,
    ]
    done = subprocess.run(
        [str(VENV / "bin" / "uv"), *command, str(source.relative_to(ROOT)), "--output-file", str(source.with_suffix(".txt"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        stop(f"{source.name} can't be resolved: {done.stderr.strip()}")


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - {"--keep"}:
        stop(f"{', '.join(sorted(unknown))} is unknown here; there is --keep")
    for file, version in LOCKS.items():
        renew(file, version, keep="--keep" in sys.argv[1:])
        print(f"renewed {file.with_suffix('.txt').relative_to(ROOT)}")
