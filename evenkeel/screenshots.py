"""`make screenshots`: docs/pictures/pages, taken by the service's own browser test as it looks at each page.

The font is the machine's own; where Debian's fonts-inter is installed, it is Inter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext

from evenkeel.host import ROOT
from evenkeel.steps import Failure, stop
from evenkeel.test import SCRATCH, database

FOLDER = ROOT / "docs" / "pictures" / "pages"
TEST = "app/tests/test_browser.py::test_the_whole_way"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    given = os.environ.get("SIGNUP_TEST_DATABASE_URL")
    try:
        if not given:
            SCRATCH.prepare()
        with nullcontext(given) if given else database() as url:
            environment = {**os.environ, "SIGNUP_TEST_DATABASE_URL": url, "SIGNUP_PICTURES": str(FOLDER)}
            if subprocess.run([sys.executable, "-m", "pytest", TEST], cwd=ROOT, env=environment).returncode:
                stop("the pages' own test failed, so there are no pictures of them")
    except Failure as failure:
        stop(str(failure))
    taken = sorted(FOLDER.glob("*.png"))
    subprocess.run(["pngquant", "--force", "--ext=.png", "--speed=1", "--strip", "--", *map(str, taken)], check=True)
    print("".join(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB\n" for path in taken), end="")


if __name__ == "__main__":
    main()
