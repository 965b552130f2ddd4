"""The table of AWS's documented rules and the tests that prove them, made from `@pytest.mark.rule(area, rule, source)`.

`pytest twin/tests --conformance docs/conformance.md` writes it at the end of a session in which everything passed. Rules
whose tests did not run in that session (another suite's) keep the result they had.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("twin/tests", "tests")
AREAS = (
    "instance refresh",
    "health and replacement",
    "scaling",
    "lifecycle",
    "balance",
    "draining",
    "load balancing",
    "failover",
    "database",
    "network",
    "access",
    "alarms and events",
    "functions",
    "faults",
)
PASSED, NOT_RUN = "passed", "not run"
HEAD = """\
# Conformance
Rules that AWS documents, and the tests that prove them on the twin. The tests write this file:
`python -m pytest twin/tests --conformance docs/conformance.md`, and likewise with `tests`, after a session in which everything
passed.
"""


@dataclass(frozen=True)
class Rule:
    """`test` is a path from the repository's root, `::`, and the names of class and function."""

    area: str
    rule: str
    test: str
    source: str

    def problems(self) -> Iterator[str]:
        if self.area not in AREAS:
            yield f"{self.test}: no area {self.area!r}; there are {', '.join(AREAS)}"
        if not self.rule.endswith(".") or "|" in self.rule or "\n" in self.rule:
            yield f"{self.test}: {self.rule!r} is not one sentence of a table"
        if not self.source.startswith("https://") or " " in self.source:
            yield f"{self.test}: {self.source!r} is no address of a page"


class Unreadable(ValueError):
    """A marker's arguments can't be read without running the module."""


def collect(root: Path = ROOT, folders: Iterable[str] = FOLDERS) -> list[Rule]:
    """Every marker in the folders' test modules, read from their source, in the table's order. Raises Unreadable."""
    found = []
    for folder in folders:
        for file in sorted((root / folder).glob("test_*.py")):
            tree = ast.parse(file.read_text(), str(file))
            found += list(_rules(tree.body, file.relative_to(root).as_posix(), _constants(tree, file.parent)))
    return sorted(found, key=lambda rule: (AREAS.index(rule.area) if rule.area in AREAS else len(AREAS), rule.test))


def _rules(body: list[ast.stmt], where: str, constants: dict[str, str]) -> Iterator[Rule]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not node.name.lower().startswith("test"):
            continue
        test = f"{where}::{node.name}"
        for call in (inner for decorator in node.decorator_list for inner in ast.walk(decorator) if isinstance(inner, ast.Call)):
            if ast.unparse(call.func) == "pytest.mark.rule":
                try:
                    area, rule, source = (_text(argument, constants) for argument in call.args)
                except (KeyError, ValueError) as error:
                    raise Unreadable(f"{test}: a rule takes three texts or constants of its module: {error}") from None
                yield Rule(area, rule, test, source)
        if isinstance(node, ast.ClassDef):
            yield from _rules(node.body, test, constants)


def _constants(tree: ast.Module, folder: Path) -> dict[str, str]:
    """Texts that the module gives a name to, or takes from a module beside it."""
    known: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and (beside := folder / f"{node.module}.py").exists():
            theirs = _constants(ast.parse(beside.read_text()), folder)
            known |= {name.asname or name.name: theirs[name.name] for name in node.names if name.name in theirs}
        elif isinstance(node, ast.Assign):
            for name, value in _pairs(node.targets[0], node.value):
                try:
                    known[name] = _text(value, known)
                except (KeyError, ValueError):
                    continue  # no text
    return known


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they stand for, in `A = ...` and `A, B = ..., ...`."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for inner, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(inner, part)


def _text(node: ast.expr, constants: dict[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.FormattedValue(value=value):
            return _text(value, constants)
    raise ValueError(ast.unparse(node))


def render(rules: list[Rule], results: dict[Rule, str]) -> str:
    """The table as Markdown, a section for each area."""
    lines = [HEAD]
    number = 0
    for area in dict.fromkeys(rule.area for rule in rules):
        lines.append(f"## {area.capitalize()}\n| | rule | test | source | last run |\n| --- | --- | --- | --- | --- |")
        for rule in (rule for rule in rules if rule.area == area):
            number += 1
            page = rule.source.rstrip("/").rsplit("/", 1)[-1]
            lines.append(f"| {number} | {rule.rule} | `{rule.test}` | [{page}]({rule.source}) | {results.get(rule, NOT_RUN)} |")
        lines.append("")
    lines.append(f"{number} rules.\n")
    return "\n".join(lines)


def read(text: str) -> dict[Rule, str]:
    """The rules that a table names, and their results."""
    found = {}
    area = ""
    for line in text.splitlines():
        if line.startswith("## "):
            area = line[3:].lower()
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) == 5 and cells[0].strip("| ").isdigit():
            found[Rule(area, cells[1], cells[2].strip("`"), cells[3].split("](")[1].rstrip(")"))] = cells[4].rstrip("| ")
    return found


class Session:
    """Watches a pytest session, and writes the table at its end."""

    def __init__(self, file: Path, root: Path = ROOT) -> None:
        self.file = file
        self.root = root
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        # A test with parameters has passed when all of them have; one that was skipped has not run.
        test = report.nodeid.split("[")[0]
        if report.failed or report.skipped:
            self.passed[test] = False
        elif report.when == "call":
            self.passed.setdefault(test, True)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0 and any(self.passed.values()):
            rules = collect(self.root)
            before = read(self.file.read_text()) if self.file.exists() else {}
            self.file.write_text(
                render(rules, {rule: PASSED for rule in rules if self.passed.get(rule.test, before.get(rule) == PASSED)})
            )


# Hooks, which the suites' conftest modules take over.


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--conformance", type=Path, metavar="FILE", help="write the table of proven rules, if everything passes")


def pytest_configure(config: Any) -> None:
    file = config.getoption("conformance")
    if file and not hasattr(config, "workerinput"):  # pytest-xdist's processes report to the one that started them
        config.pluginmanager.register(Session(Path(config.invocation_params.dir) / file), "conformance-session")
