"""What migrations declare, and what a release says of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from signup.schema.revisions import MigrationError, ReleaseSchema, alembic_config, needed_revision, read_release, release_schema


def scripts(folder: Path, *declared: str) -> ScriptDirectory:
    """A folder of migrations numbered from 0001, each with these module-level lines."""
    (folder / "versions").mkdir()
    for number, lines in enumerate(declared, 1):
        before = f"{number - 1:04}" if number > 1 else None
        text = f"revision = '{number:04}'\ndown_revision = {before!r}\n{lines}\ndef upgrade(): pass\n"
        (folder / "versions" / f"{number:04}_x.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)


def test_every_migration_of_this_release_keeps_the_rules() -> None:
    found = release_schema()
    names = sorted(
        path.name[:4] for path in (Path(alembic_config().get_main_option("script_location") or "") / "versions").glob("*.py")
    )
    assert names == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert found.head == needed_revision() == names[-1]
    assert found.floor in names


def test_the_command_says_it_without_a_database() -> None:
    program = "from signup.schema.release import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f'{{"head": "{release_schema().head}", "floor": "{release_schema().floor}"}}\n'


def test_a_contract_raises_the_floor_and_an_expand_keeps_it(tmp_path: Path) -> None:
    made = scripts(tmp_path, "phase = 'expand'", "phase = 'expand'", "phase = 'contract'; floor = '0002'", "phase = 'expand'")
    assert read_release(made) == ReleaseSchema(head="0004", floor="0002")
    floors = [read_release(made, f"{number:04}").floor for number in range(1, 5)]
    assert floors == ["0001", "0001", "0002", "0002"]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (["pass"], 'declare `phase = "expand"` or `phase = "contract"`, not None'),
        (["phase = 'alter'"], "not 'alter'"),
        (["phase = 'expand'; floor = '0001'"], "keeps its predecessor's floor"),
        (["phase = 'expand'", "phase = 'contract'"], "declare `floor`"),
        # Its own number would say that no earlier release runs on it: not even the one it is rolled out over.
        (["phase = 'expand'", "phase = 'contract'; floor = '0002'"], "from 0001 to 0001; it is '0002'"),
        (
            ["phase = 'expand'", "phase = 'expand'", "phase = 'contract'; floor = '0002'", "phase = 'contract'; floor = '0001'"],
            "from 0002 to 0003; it is '0001'",
        ),
        ([], "there is no migration"),
    ],
)
def test_a_migration_that_breaks_the_rules_is_named(tmp_path: Path, declared: list[str], words: str) -> None:
    with pytest.raises(MigrationError) as caught:
        read_release(scripts(tmp_path, *declared))
    assert words in str(caught.value)
    if declared:
        assert f"migration {len(declared):04}" in str(caught.value)


def test_numbers_must_rise_and_have_four_digits(tmp_path: Path) -> None:
    made = scripts(tmp_path, "phase = 'expand'")
    text = "revision = '{}'\ndown_revision = '0001'\nphase = 'expand'\ndef upgrade(): pass\n"
    for wrong, words in (("0000", "number it higher"), ("2", "four digits")):
        (tmp_path / "versions" / "wrong.py").write_text(text.format(wrong))
        with pytest.raises(MigrationError, match=words):
            read_release(ScriptDirectory(made.dir))
