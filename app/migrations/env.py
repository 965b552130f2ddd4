"""Alembic's environment. `signup-migrate` opens the connection and holds the lock; nothing else runs this."""

from __future__ import annotations

from alembic import context

from signup.schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
