"""The part of `make bench` that deploys: good images in a row, and every bad one, under load on the region that runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.steps import Failure

DEPLOYS = 10
WHEN = ("before", "during")


def rollouts(local: Local) -> str:
    """Deploy again and again under load, then every bad image, on the region that runs; returns two tables."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        own = {"EVENKEEL_TEST_NAME": local.name, "EVENKEEL_TEST_SLOT": str(local.slot), "EVENKEEL_KEEP": "1"}
        own |= {"EVENKEEL_DEPLOYS": str(DEPLOYS), "EVENKEEL_ROLLOUT_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "tests/test_rollouts.py", "-m", "long", "-k", "deploy_loses or bad_image"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"rollouts are not what they must be:\n{done.stdout[-3000:]}")
        found = [json.loads(line) for line in report.read_text().splitlines()]
    deploys = [each for each in found if each["what"].startswith("deploy ")]
    bad = [each for each in found if each not in deploys]
    return f"{_deploy_table(deploys)}\n\n{_bad_table(bad)}"


def _deploy_table(deploys: list[dict[str, Any]]) -> str:
    rows = [row(name, [float(each["steps"][name]) for each in deploys], "s") for name in deploys[0]["steps"]]
    rows.append(row("the whole command", [each["seconds"] for each in deploys], "s"))
    rows += [row(f"99th percentile of answers {when}", [each[f"p99 {when} ms"] for each in deploys], "ms") for when in WHEN]
    sums = {name: sum(each[name] for each in deploys) for name in ("requests", "signups", "failed", "lost")}
    return (
        "| a deploy of another image under 50 requests/s | runs | median | worst |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + f"\n\n{len(deploys)} deploys in a row: {sums['requests']} requests, {sums['failed']} failed; {sums['signups']} signups "
        f"acknowledged, {sums['lost']} lost; never fewer than {min(each['least healthy'] for each in deploys)} healthy instances."
    )


def _bad_table(bad: list[dict[str, Any]]) -> str:
    rows = [
        f"| {each['what'].removeprefix('bad image: ')} | {each['seconds']:.0f} s | {each['requests']} | {each['failed']} "
        f"| {each['least healthy']} | {each['why']} |"
        for each in bad
    ]
    names = ("a bad image", "rolled back after", "requests", "failed", "least healthy", "because")
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n" + "\n".join(rows)


def row(what: str, values: list[float], unit: str) -> str:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"| {what} | {len(values)} | {statistics.median(values):.3g} {unit} | {p99:.3g} {unit} |"
