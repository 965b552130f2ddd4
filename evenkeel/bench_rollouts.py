"""The parts of `make bench` that deploy: good images in a row, and every bad one, under load on the region that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.scores import row, table
from evenkeel.steps import Failure

DEPLOYS = 10
_WHEN = ("before", "during")


def deploys(local: Local) -> str:
    """Deploy ten times in a row; returns Markdown."""
    found = _measured(local, "deploy_loses")
    rows = [row(name, [float(each["steps"][name]) for each in found], "s") for name in found[0]["steps"]]
    rows.append(row("the whole command", [each["seconds"] for each in found], "s"))
    rows += [row(f"99th percentile of answers {when}", [each[f"p99 {when} ms"] for each in found], "ms") for when in _WHEN]
    slower = [each["p99 during ms"] / each["p99 before ms"] for each in found]
    rows.append(row("the latter in multiples of the former", slower, ""))
    sums = {name: sum(each[name] for each in found) for name in ("requests", "signups", "failed", "lost")}
    return table(("a deploy of another image at 50 requests/s", "runs", "median", "worst"), rows) + (
        f"\n\n{len(found)} deploys in a row: {sums['requests']} requests, {sums['failed']} failed; {sums['signups']} signups "
        f"acknowledged, {sums['lost']} lost; never fewer than {min(each['least healthy'] for each in found)} healthy instances."
    )


def bad_images(local: Local) -> str:
    """Deploy every bad image; returns Markdown."""
    rows = [
        f"| {each['what'].removeprefix('bad image: ')} | {each['seconds']:.0f} s | {each['requests']} | {each['failed']} "
        f"| {each['least healthy']} | {each['why']} |"
        for each in _measured(local, "bad_image")
    ]
    return table(("a bad image, at 50 requests/s", "ended after", "requests", "failed", "least healthy", "because"), rows)


def _measured(local: Local, which: str) -> list[dict[str, Any]]:
    """Run those of the rollouts' tests; returns what they report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        own = {"EVENKEEL_TEST_NAME": local.name, "EVENKEEL_TEST_SLOT": str(local.slot), "EVENKEEL_KEEP": "1"}
        own |= {"EVENKEEL_DEPLOYS": str(DEPLOYS), "EVENKEEL_ROLLOUT_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "tests/test_rollouts.py", "-x", "-m", "long", "-k", which]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"rollouts are not what they must be:\n{done.stdout[-3000:]}")
        return [json.loads(line) for line in report.read_text().splitlines()]
