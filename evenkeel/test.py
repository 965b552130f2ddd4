"""`make test`: every suite in a process of its own, on real parts; one summary at the end.

Suites named as arguments run alone: `python -m evenkeel.test app terraform`. The suite `rollouts`, of all tests marked `long`,
runs only when it is named. With --conformance, those that prove rules of AWS's write docs/conformance.md anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from evenkeel import scratch
from evenkeel.host import ROOT
from evenkeel.stack import FOLDER, settings
from evenkeel.steps import Failure, stop

SUITES = ("app", "verifier", "terraform", "playbooks", "twin", "journey")
# Not among them, so that `make test` stays within 45 minutes on two cores.
LONG = "rollouts"
LONG_FOLDERS = ("playbooks/tests", "tests")
PROVING = ("twin", "journey")


def run(suite: str, conformance: bool = False) -> int:
    """Run one suite; returns its exit status."""
    # A region that the shell was told of by `make env` is not the one to be tested.
    foreign = ("AWS_", "CONTAINERS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    if suite == "terraform":
        environment |= settings(ROOT / ".state" / "terraform-test")
        for arguments in (["init", "-backend=false", "-input=false"], ["test"]):
            status = subprocess.run(["terraform", f"-chdir={FOLDER}", *arguments, "-no-color"], env=environment).returncode
            if status:
                return status
        return 0
    folder = "tests" if suite == "journey" else f"{suite}/tests"
    command = [sys.executable, "-m", "pytest"]
    if conformance and suite in PROVING:
        command += ["--conformance", "docs/conformance.md"]
    if suite in ("app", "twin"):  # most of their tests wait for something: two at a time, in processes with bodies of their own
        command += ["--numprocesses=2", "--dist=loadfile"]
    if suite == LONG:
        runs = [[*command, "-m", "long", folder] for folder in LONG_FOLDERS]
        return max(subprocess.run(each, cwd=ROOT, env=environment).returncode for each in runs)
    command += ["-m", "not long"]
    if suite == "journey":  # its other stacks have a region of their own, and mostly wait for Terraform's provider
        return beside([*command, "tests", "--ignore=tests/test_stacks.py"], [*command, "tests/test_stacks.py"], environment)
    command.append(folder)
    if suite != "app":
        return subprocess.run(command, cwd=ROOT, env=environment).returncode
    with scratch.database() as url:
        return subprocess.run(command, cwd=ROOT, env={**environment, "SIGNUP_TEST_DATABASE_URL": url}).returncode


def beside(first: list[str], second: list[str], environment: dict[str, str]) -> int:
    """Run two commands at once; what the second says is shown when both have ended."""
    with tempfile.TemporaryFile("w+") as output:
        other = subprocess.Popen(second, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        status = subprocess.run(first, cwd=ROOT, env=environment).returncode
        status = other.wait() or status
        output.seek(0)
        print(output.read(), flush=True)
    return status


def main(names: list[str]) -> int:
    conformance = "--conformance" in names
    names = [name for name in names if name != "--conformance"]
    unknown = set(names) - {*SUITES, LONG}
    if unknown:
        stop(f"there is no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)} and {LONG}")
    began = time.monotonic()
    summary = []
    try:
        with scratch.images():
            for suite in names or SUITES:
                print(f"\n== {suite} ({time.monotonic() - began:.0f} s since the start)", flush=True)
                started = time.monotonic()
                status = run(suite, conformance)
                summary.append((suite, status, time.monotonic() - started))
    except Failure as failure:
        stop(str(failure))
    print()
    for suite, status, seconds in summary:
        print(f"{suite:10} {'passed' if status == 0 else f'FAILED ({status})'} in {seconds:.0f} s")
    return int(any(status for _, status, _ in summary))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
