"""Which schema revision the release needs and which one the database has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def migrations_folder() -> Path:
    """The folder of the migrations: inside the package once installed, beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def alembic_config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


@cache
def needed_revision() -> str:
    """The newest revision this release brings."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"there is no migration in {migrations_folder()}: the installation is incomplete")
    return head


def current_revision(connection: Connection) -> str | None:
    """The database's revision, or None if it has none yet."""
    return MigrationContext.configure(connection).get_current_revision()


def is_current(revision: str | None) -> bool:
    """Whether a database at that revision serves this release.

    A newer one does too: revisions are numbered in order and only expand, so that the previous release still runs
    (and an instance of it can still start) during a rollout and after a rollback.
    """
    return revision is not None and revision >= needed_revision()
