"""The table of rules: what it says is what the tests' markers say."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest
from conformance import NOT_RUN, PASSED, ROOT, Rule, Unreadable, collect, read, render

FILE = ROOT / "docs" / "conformance.md"
PAGE = "https://docs.aws.amazon.com/page.html"


def test_the_table_in_the_repository_names_exactly_the_rules_that_tests_prove(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("conformance"):
        pytest.skip("the table is being written")
    if not FILE.exists():
        pytest.skip("no table yet")
    table = read(FILE.read_text())
    rules = set(collect())
    assert rules == table.keys(), "run the suites with --conformance docs/conformance.md"
    assert {rule for rule, result in table.items() if result != PASSED} == set()


def test_every_rule_is_one_sentence_of_a_known_area_with_its_page() -> None:
    rules = collect()
    assert rules
    assert [problem for rule in rules for problem in rule.problems()] == []
    repeated = [words for words, count in Counter((rule.area, rule.rule) for rule in rules).items() if count > 1]
    assert repeated == []


def test_markers_are_found_wherever_they_stand(tmp_path: Path) -> None:
    write(tmp_path)
    assert collect(tmp_path, ["suite"]) == [
        Rule("scaling", "Every one.", "suite/test_a.py::test_parameters", PAGE),
        Rule("network", "It works.", "suite/test_a.py::TestClass::test_method", PAGE),
        Rule("faults", "One.", "suite/test_a.py::test_plain", f"{PAGE}#one"),
        Rule("faults", "Two.", "suite/test_a.py::test_plain", "https://docs.aws.amazon.com/two.html"),
    ]


@pytest.mark.parametrize("argument", ["unknown", "str(1)", "'a', 'b'"])
def test_a_marker_that_can_not_be_read_is_an_error(tmp_path: Path, argument: str) -> None:
    (tmp_path / "test_b.py").write_text(f"@pytest.mark.rule('faults', 'One.', {argument})\ndef test_b(): pass\n")
    with pytest.raises(Unreadable, match="test_b"):
        collect(tmp_path, ["."])


def test_bad_rules_are_named() -> None:
    assert len(list(Rule("weather", "No sentence", "a::b", "a book").problems())) == 3
    assert not list(Rule("faults", "A sentence.", "a::b", PAGE).problems())


def test_the_table_reads_back_as_it_was_written() -> None:
    rules = collect()
    results = dict.fromkeys(rules[::2], PASSED)
    assert read(render(rules, results)) == {rule: results.get(rule, NOT_RUN) for rule in rules}


def session(folder: Path, *options: str) -> int:
    """Run the suite of `write` with this module's plugin."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suite", "--conformance=table.md", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode


def test_only_a_session_without_a_failure_writes(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "table.md"
    assert session(tmp_path, "-k", "plain or fails") == 1
    assert not table.exists()
    assert session(tmp_path, "-k", "plain or parameters") == 0
    assert {rule.rule: result for rule, result in read(table.read_text()).items()} == {
        "Every one.": NOT_RUN,  # one of its parameters was skipped
        "It works.": NOT_RUN,
        "One.": PASSED,
        "Two.": PASSED,
    }
    assert session(tmp_path, "-k", "method") == 0  # another session adds to what is known
    assert {rule.rule for rule, result in read(table.read_text()).items() if result == PASSED} == {"It works.", "One.", "Two."}


def write(folder: Path) -> None:
    """A suite with markers of every kind, under a root of its own."""
    here = Path(__file__).parent
    (folder / "suite").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = rule\n")
    (folder / "suite" / "conftest.py").write_text(
        dedent(f"""
        import sys
        sys.path.append({str(here)!r})
        import conformance
        from pathlib import Path
        conformance.ROOT, conformance.FOLDERS = Path({str(folder)!r}), ("suite",)
        conformance.collect.__defaults__ = (conformance.ROOT, conformance.FOLDERS)
        conformance.Session.__init__.__defaults__ = (conformance.ROOT,)
        from conformance import pytest_addoption, pytest_configure
        """)
    )
    (folder / "suite" / "pages.py").write_text(f"PAGE = {PAGE!r}\n")
    (folder / "suite" / "test_a.py").write_text(
        dedent("""
        import pytest
        from pages import PAGE

        TWO = "https://docs.aws.amazon.com/" + "two.html"

        @pytest.mark.rule("faults", "One.", f"{PAGE}#one")
        @pytest.mark.rule("faults", "Two.", TWO)
        def test_plain():
            pass

        @pytest.mark.rule("scaling", "Every one.", PAGE)
        @pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.skip)])
        def test_parameters(number):
            pass

        def test_fails():
            assert False

        class TestClass:
            @pytest.mark.rule("network", "It works.", PAGE)
            def test_method(self):
                pass
        """)
    )
