"""What the package says that it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

APP = Path(__file__).parents[1]


def imported() -> Iterator[str]:
    for path in (*(APP / "src").rglob("*.py"), *(APP / "migrations").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            yield from (name.partition(".")[0] for name in names)


def test_it_declares_what_it_imports_and_nothing_else() -> None:
    """Locked or not, what another package happens to bring may be gone with its next version."""
    known = packages_distributions()
    own = {*sys.stdlib_module_names, "signup", "_typeshed"}
    needed = {known[name][0].lower() for name in set(imported()) - own}
    declared = tomllib.loads((APP / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split("[<>=~]", each)[0] for each in declared} == needed
