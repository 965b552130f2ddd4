"""Where users' pictures are."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    """Create the table; the release before has no use for it."""
    op.execute("""
        CREATE TABLE pictures (
            user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
            object_key text NOT NULL,
            content_type text NOT NULL,
            size integer NOT NULL,
            created_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    """Refuse: a schema is never taken back under a running release."""
    raise NotImplementedError("schemas only go forward; write a new revision instead of going back")
