"""`make fuzz`: the test of the service's contract with many more cases than `make test` has, different ones each time."""

from __future__ import annotations

import os
import subprocess
import sys

from evenkeel import scratch
from evenkeel.host import ROOT
from evenkeel.steps import Failure, stop

CASES = 10_000


def main(arguments: list[str]) -> int:
    given = arguments[0] if arguments else str(CASES)
    if not given.isdecimal() or int(given) < 1:
        stop(f"CASES is {given!r}: set it to a whole number of cases")
    command = [sys.executable, "-m", "pytest", "-s", "--show-capture=no", "-o", "timeout=0", "app/tests/test_fuzz.py"]
    try:
        with scratch.images(), scratch.database() as url:
            environment = {**os.environ, "SIGNUP_TEST_DATABASE_URL": url, "SIGNUP_FUZZ_CASES": given}
            return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    except Failure as failure:
        stop(str(failure))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
