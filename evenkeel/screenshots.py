"""`make screenshots`: docs/pictures/pages, taken by the service's own browser test as it looks at each page.

The font is the machine's own; where Debian's fonts-inter is installed, it is Inter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from evenkeel import scratch
from evenkeel.host import ROOT
from evenkeel.steps import Failure, stop

FOLDER = ROOT / "docs" / "pictures" / "pages"
TEST = "app/tests/test_browser.py::test_the_whole_way"


def take(folder: Path) -> None:
    """Take them into an empty folder. Raises Failure."""
    with scratch.images(), scratch.database() as url:
        environment = {**os.environ, "SIGNUP_TEST_DATABASE_URL": url, "SIGNUP_PICTURES": str(folder)}
        if subprocess.run([sys.executable, "-m", "pytest", TEST], cwd=ROOT, env=environment).returncode:
            raise Failure("the pages' own test failed, so there are no pictures of them; the old ones stay")
    taken = map(str, folder.glob("*.png"))
    subprocess.run(["pngquant", "--force", "--ext=.png", "--speed=1", "--strip", "--", *taken], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            take(folder)
        except Failure as failure:
            stop(str(failure))
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(folder, FOLDER)
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
