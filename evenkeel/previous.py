"""`make previous REF=v1.2.0`: keep that release of the service for the test that runs it on the newest schema.

Run it when a release is tagged: from then on it is the one that runs beside its successor during a rollout.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from evenkeel.host import ROOT
from evenkeel.steps import Failure, stop

FOLDER = ROOT / "app" / "tests" / "previous"


def keep(reference: str) -> Path:
    """Build the service's wheel at a commit; it takes the place of the one that was kept."""
    commit = _git("rev-parse", "--verify", "--quiet", "--short=12", f"{reference}^{{commit}}").decode().strip()
    if not commit:
        raise Failure(f"there is no commit {reference}: set REF to the tag or the commit of the previous release")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "app"))) as archive:
            archive.extractall(folder, filter="data")
        command = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", f"--wheel-dir={folder}", f"{folder}/app"]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"the service of {commit} could not be built: {done.stderr.strip()[-400:]}")
        (built,) = Path(folder).glob("*.whl")
        FOLDER.mkdir(exist_ok=True)
        for old in FOLDER.glob("*.whl"):
            old.unlink()
        return Path(shutil.copyfile(built, FOLDER / f"signup-{commit}.whl"))


def _git(*arguments: str) -> bytes:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(["git", *arguments], cwd=ROOT, env=environment, capture_output=True, check=False).stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        stop("set REF to the tag or the commit of the previous release")
    try:
        print(keep(sys.argv[1]).relative_to(ROOT))
    except Failure as failure:
        stop(str(failure))
