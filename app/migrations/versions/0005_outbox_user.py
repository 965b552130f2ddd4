"""Finding the messages of a user.

An index on a table that the service writes is built concurrently: nothing waits for it. It waits for the transactions under
way, and what an attempt that failed has left is to be dropped first.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    """Create the index; the release before has no use for it."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '60s'")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS outbox_user")
        op.execute("CREATE INDEX CONCURRENTLY outbox_user ON outbox ((payload ->> 'user_id'))")
        op.execute("SET lock_timeout = '2s'")


def downgrade() -> None:
    """Refuse: a schema is never taken back under a running release."""
    raise NotImplementedError("schemas only go forward; write a new revision instead of going back")
