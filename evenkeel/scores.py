"""docs/scores.md: a section for each part of the benchmark. Measuring one anew leaves the others as they are."""

from __future__ import annotations

import platform
import re
import statistics
from datetime import UTC, datetime
from pathlib import Path

from evenkeel.host import ROOT
from evenkeel.steps import Failure

FILE = ROOT / "docs" / "scores.md"
HEAD = """# Scores
Written by `make bench`, each section when its part was measured. Everything runs on one machine at once: load generator,
operator, fleet, database, functions. These are its seconds, not AWS's.
"""


class BoundMissed(Failure):
    """What was measured is not what it must be; `text` (Markdown) is kept all the same, if there is any."""

    def __init__(self, text: str, missed: list[str]) -> None:
        super().__init__("; ".join(missed))
        self.text = text


def keep(title: str, text: str) -> None:
    """Put `text` (Markdown) into the section of that title."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", FILE.read_text() if FILE.exists() else "", re.M | re.S))
    sections[title] = f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}.\n\n{text}\n"
    FILE.write_text("\n".join([HEAD, *(f"## {name}\n{body.rstrip()}\n" for name, body in sections.items())]))


def table(names: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *rows])


def row(what: str, values: list[float], unit: str) -> str:
    """A line of a table: how many, their median, and their 99th percentile, which of fewer than a hundred is the worst."""
    shown = [f"{value:.3g} {unit}".rstrip() for value in (statistics.median(values), quantile(values, 0.99))]
    return f"| {what} | {len(values)} | {shown[0]} | {shown[1]} |"


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    cores = f"{len(names)} x {names[0] if names else platform.machine()}"
    return f"{cores}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"
