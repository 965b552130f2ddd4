"""`make docs`: the parts of the documentation that are written from what they describe.

A role's README keeps its words by hand, and a place between two comments where the table of its variables goes.
docs/controls.md is the hardening role's own data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evenkeel import controls
from evenkeel.host import ROOT

BEGIN = "<!-- variables: `make docs` writes them from meta/argument_specs.yml -->"
END = "<!-- end -->"


def roles() -> list[Path]:
    return sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))


def variables(role: Path) -> str:
    """The table of a role's variables: what each is and why, and what it is when nothing is said."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    rows = [f"| `{name}` | {_default(spec)} | {_cell(spec['description'])} |" for name, spec in specs.items()]
    return "\n".join(["| variable | default | what, and why |", "| --- | --- | --- |", *rows])


def _default(spec: dict[str, Any]) -> str:
    value = spec.get("default")
    if value == "":
        return "none, required"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(description: str | list[str]) -> str:
    words = description if isinstance(description, str) else " ".join(description)
    return words.replace("|", "\\|")


def pages() -> dict[Path, str]:
    """Each file that is written in part or as a whole, and what must be in it."""
    found = {controls.PAGE: controls.page()}
    for role in roles():
        readme = role / "README.md"
        before, begin, rest = readme.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{readme.relative_to(ROOT)} has no place for its variables: {BEGIN} and {END}")
        found[readme] = f"{before}{begin}\n{variables(role)}\n{end}{after}"
    return found


def stale() -> list[str]:
    """The files that say something else than what they describe."""
    return [str(path.relative_to(ROOT)) for path, text in pages().items() if not path.exists() or path.read_text() != text]


if __name__ == "__main__":
    for name in stale():
        print(f"written: {name}")
    for path, text in pages().items():
        path.write_text(text)
