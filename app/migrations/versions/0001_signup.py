"""Users, registrations, the outbox and the audit trail.

Revisions are numbered in order, and each declares its `phase`. During a rollout, and after a rollback, the previous release
runs on the newer schema: so a revision either expands the schema, or contracts it by what `floor`, the newest revision of an
earlier release, no longer uses.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

phase = "expand"


def upgrade() -> None:
    """Create the tables."""
    op.execute("""
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            first_name text NOT NULL,
            last_name text NOT NULL,
            email text NOT NULL,
            password_hash text NOT NULL,
            verified boolean NOT NULL DEFAULT false,
            account_created timestamptz NOT NULL,
            account_updated timestamptz NOT NULL,
            CONSTRAINT users_email_lower CHECK (email = lower(email))
        )
    """)
    op.execute("CREATE UNIQUE INDEX users_email ON users (email)")
    op.execute("""
        CREATE TABLE registrations (
            message_id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            first_name text NOT NULL,
            last_name text NOT NULL,
            password_hash text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX registrations_user ON registrations (user_id)")
    op.execute("""
        CREATE TABLE outbox (
            id uuid PRIMARY KEY,
            kind text NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz NOT NULL DEFAULT now(),
            published_at timestamptz,
            last_error text
        )
    """)
    op.execute("CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE published_at IS NULL")
    op.execute("CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL")
    op.execute("""
        CREATE TABLE audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            event text NOT NULL,
            user_id uuid NOT NULL,
            occurred_at timestamptz NOT NULL,
            request_id text NOT NULL
        )
    """)
    op.execute("CREATE INDEX audit_user ON audit (user_id, occurred_at)")


def downgrade() -> None:
    """Refuse: a schema is never taken back under a running release."""
    raise NotImplementedError("schemas only go forward; write a new revision instead of going back")
