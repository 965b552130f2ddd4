"""Alembic's environment. `signup-migrate` opens the connection and holds the lock; nothing else runs this."""

from __future__ import annotations

from alembic import context

from signup.schema.repo import write_floor
from signup.schema.revisions import release_schema
from signup.schema.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
# One transaction for all: nobody sees a contracted schema without its floor.
with context.begin_transaction():
    context.run_migrations()
    write_floor(connection, release_schema().floor)
