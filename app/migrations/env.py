"""Alembic's environment. `signup-migrate` opens the connection and holds the lock; nothing else runs this."""

from __future__ import annotations

from typing import Any

from alembic import context

from signup.schema.repo import write_floor
from signup.schema.revisions import read_release
from signup.schema.tables import metadata

connection = context.config.attributes["connection"]


def keep_floor(step: Any, **_more: object) -> None:
    """Write a migration's floor in the transaction that ends it: nobody sees a contracted schema without its floor."""
    write_floor(connection, read_release(context.script, step.up_revision_id).floor)


# A transaction for each: one that builds an index beside the service has to end it.
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True, on_version_apply=keep_floor)
with context.begin_transaction():
    context.run_migrations()
