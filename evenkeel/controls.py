"""docs/controls.md: what of the benchmark is set, met otherwise, waived or without an object. From the hardening role's data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import yaml

from evenkeel.host import ROOT

PAGE = ROOT / "docs" / "controls.md"
DATA = ROOT / "roles" / "hardening" / "vars" / "main"
STATUSES = {
    "set": "by the role, and verified at every bake",
    "met": "by something else, which the reason names",
    "waived": "not done, for the reason given",
    "inapplicable": "without an object here",
}
HEAD = """\
# Controls
<!-- Written by `make docs` from roles/hardening/vars/main. -->
Where the image stands with regard to the {title}. The same data are what the role `hardening` sets and what
`tasks/verify.yml` checks on the booted machine; a failure there fails the bake. What the kernel decides is checked where the
machine has one of its own: a container has its host's. To leave a setting out on one machine, name it in
`hardening_waivers` and say why.
"""


class ControlsError(ValueError):
    """The data leave a number of the benchmark out, or have one twice or one that it does not have."""


@dataclass(frozen=True)
class Control:
    """One row: the numbers that share a reason. `name` is that of a setting, which can be waived."""

    numbers: tuple[str, ...]
    status: str
    reason: str
    name: str = ""


def controls() -> list[Control]:
    """All of the benchmark, in its order, each number exactly once."""
    settings = _data("settings.yml")["__hardening_settings"]
    benchmark = _data("benchmark.yml")
    known = _numbers(benchmark["__hardening_benchmark"])
    rows = [Control(tuple(_flat(entry["cis"])), "set", entry["reason"], name) for name, entry in settings.items()]
    for entry in benchmark["__hardening_elsewhere"]:
        numbers = [number for pattern in entry["cis"] for number in _matching(pattern, known)]
        if entry["status"] not in STATUSES:
            raise ControlsError(f"{entry['cis']}: there is no status {entry['status']}")
        rows.append(Control(tuple(numbers), entry["status"], entry["reason"]))
    found = Counter(number for row in rows for number in row.numbers)
    wrong = sorted(
        {*(set(known) - set(found)), *(set(found) - set(known)), *(n for n, count in found.items() if count > 1)}, key=_key
    )
    if wrong:
        raise ControlsError(f"missing, unknown or twice in {DATA.relative_to(ROOT)}: {', '.join(wrong)}")
    return sorted(rows, key=lambda row: _key(row.numbers[0]) if row.numbers else (99,))


def page() -> str:
    rows = controls()
    counts = Counter(row.status for row in rows for _ in row.numbers)
    title = _data("benchmark.yml")["__hardening_benchmark"]["title"]
    lines = [HEAD.format(title=title), "| status | numbers | meaning |", "| --- | --- | --- |"]
    lines += [f"| {status} | {counts[status]} | {meaning} |" for status, meaning in STATUSES.items()]
    lines += [
        f"| together | {sum(counts.values())} | |",
        "",
        "| numbers | status | setting | reason |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        name = f"`{row.name}`" if row.name else ""
        lines.append(f"| {_spans(row.numbers) or 'no number'} | {row.status} | {name} | {row.reason} |")
    return "\n".join(lines) + "\n"


def _data(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text())


def _flat(numbers: list[Any]) -> list[str]:
    return [number for entry in numbers for number in (_flat(entry) if isinstance(entry, list) else [str(entry)])]


def _numbers(benchmark: dict[str, Any]) -> list[str]:
    numbers = [f"{section}.{n}" for section, last in benchmark["sections"].items() for n in range(1, last + 1)]
    return [number for number in numbers if number not in benchmark["without"]]


def _matching(pattern: Any, known: list[str]) -> list[str]:
    section, star, _ = str(pattern).partition("*")
    return [number for number in known if number.startswith(section)] if star else [section]


def _key(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split("."))


def _spans(numbers: tuple[str, ...]) -> str:
    """Neighbours as one span: 1.1.1.1 to 1.1.1.9."""
    spans: list[list[str]] = []
    for number in sorted(numbers, key=_key):
        before = _key(spans[-1][-1]) if spans else ()
        if before and _key(number) == (*before[:-1], before[-1] + 1):
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)


if __name__ == "__main__":
    print(page())
