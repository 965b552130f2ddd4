"""What SendGrid says of mails that it took."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    """Create the table; the release before has no use for it."""
    op.execute("""
        CREATE TABLE mail_events (
            id text PRIMARY KEY,
            message_id uuid NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
            kind text NOT NULL,
            occurred_at timestamptz NOT NULL,
            reason text,
            noted_at timestamptz
        )
    """)
    op.execute("CREATE INDEX mail_events_message ON mail_events (message_id)")
    op.execute("CREATE INDEX mail_events_unnoted ON mail_events (occurred_at) WHERE noted_at IS NULL")


def downgrade() -> None:
    """Refuse: a schema is never taken back under a running release."""
    raise NotImplementedError("schemas only go forward; write a new revision instead of going back")
