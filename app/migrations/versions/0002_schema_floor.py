"""The schema's floor: which older releases still run on it. The row itself is written by each run of migrations."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    """Create the table of one row."""
    op.execute("""
        CREATE TABLE schema_floor (
            id boolean PRIMARY KEY DEFAULT true,
            floor text NOT NULL,
            CONSTRAINT schema_floor_one_row CHECK (id)
        )
    """)


def downgrade() -> None:
    """Refuse: a schema is never taken back under a running release."""
    raise NotImplementedError("schemas only go forward; write a new revision instead of going back")
