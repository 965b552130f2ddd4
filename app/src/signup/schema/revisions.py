"""Which schema revision the release needs and which one the database has.

Alembic is imported where it is used: it takes as long as half of all else that a worker imports, and nothing that runs in
an instance whose database is current needs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory


class MigrationError(Exception):
    """A migration does not keep the rules; the text says which one, and what to do."""


@dataclass(frozen=True)
class ReleaseSchema:
    """A release's newest revision, and the oldest release's that still runs on the schema it makes."""

    head: str
    floor: str


def migrations_folder() -> Path:
    """The folder of the migrations: inside the package once installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def alembic_config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


@cache
def needed_revision() -> str:
    """The newest revision this release brings, by the migrations' file names, which begin with their numbers."""
    names = [path.name[:4] for path in (migrations_folder() / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")]
    if not names:
        raise MigrationError(f"there is no migration in {migrations_folder()}: the installation is incomplete")
    return max(names)


@cache
def release_schema() -> ReleaseSchema:
    """What this release brings. Raises MigrationError."""
    from alembic.script import ScriptDirectory

    return read_release(ScriptDirectory.from_config(alembic_config()))


def read_release(scripts: ScriptDirectory, until: str | None = None) -> ReleaseSchema:
    """The newest revision of a folder of migrations, or `until`, and its floor.

    Raises MigrationError where one doesn't keep the rules.
    """
    head = floor = ""
    for script in reversed(list(scripts.walk_revisions())):
        revision, phase = script.revision, getattr(script.module, "phase", None)
        declared = getattr(script.module, "floor", None)
        if not re.fullmatch("[0-9]{4}", revision) or not isinstance(script.down_revision, str | None):
            raise MigrationError(f"migration {revision!r}: number it with four digits, and let it follow one other")
        if revision <= head:
            raise MigrationError(f"migration {revision} follows {head}: number it higher")
        if phase not in ("expand", "contract"):
            raise MigrationError(f'migration {revision}: declare `phase = "expand"` or `phase = "contract"`, not {phase!r}')
        if phase == "expand":
            if declared is not None:
                raise MigrationError(f"migration {revision}: an expand migration keeps its predecessor's floor; remove `floor`")
            floor = floor or revision
        else:
            if not isinstance(declared, str) or not floor <= declared <= head:
                raise MigrationError(
                    f"migration {revision}: declare `floor`, the oldest release's head whose code runs on the schema it leaves, "
                    f"from {floor or 'nothing'} to {head or 'nothing'}; it is {declared!r}"
                )
            floor = declared
        head = revision
        if head == until:
            break
    if not head:
        raise MigrationError(f"there is no migration in {scripts.dir}: the installation is incomplete")
    return ReleaseSchema(head, floor)


def is_current(revision: str | None) -> bool:
    """Whether a database at that revision has all that this release needs.

    A newer one has, too: revisions are numbered in order, so that the previous release still runs (and an instance of it
    can still start) during a rollout and after a rollback. Whether it has too little left says its floor: `is_beyond`.
    """
    return revision is not None and revision >= needed_revision()


def is_beyond(floor: str | None) -> bool:
    """Whether a database with that floor has lost what this release's code relies on."""
    return floor is not None and floor > needed_revision()
