"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("verified", Boolean, nullable=False, server_default=false()),
    Column("account_created", DateTime(timezone=True), nullable=False),
    Column("account_updated", DateTime(timezone=True), nullable=False),
    CheckConstraint("email = lower(email)", name="users_email_lower"),
    Index("users_email", "email", unique=True),
)

# What a repeated sign-up of a not yet verified address asked for. Confirming the mail of that sign-up, and only that,
# puts it in force: otherwise whoever signs an address up before its owner would choose the owner's password.
registrations = Table(
    "registrations",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("registrations_user", "user_id"),
)

# Where in the bucket a user's picture is. Its object comes before this row, and goes after it.
pictures = Table(
    "pictures",
    metadata,
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("object_key", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("published_at", DateTime(timezone=True)),
    Column("last_error", Text),
    Index("outbox_due", "next_attempt_at", postgresql_where=text("published_at IS NULL")),
    Index("outbox_published", "published_at", postgresql_where=text("published_at IS NOT NULL")),
    Index("outbox_user", text("(payload ->> 'user_id')")),
)

# What SendGrid tells of mails that it took. `noted_at`: since when the table of mails has it too.
mail_events = Table(
    "mail_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("message_id", Uuid, ForeignKey("outbox.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("reason", Text),
    Column("noted_at", DateTime(timezone=True)),
    Index("mail_events_message", "message_id"),
    Index("mail_events_unnoted", "occurred_at", postgresql_where=text("noted_at IS NULL")),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event", Text, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("request_id", Text, nullable=False),
    Index("audit_user", "user_id", "occurred_at"),
)

# The oldest release, by its newest revision, whose code runs on this schema. One row.
schema_floor = Table(
    "schema_floor",
    metadata,
    Column("id", Boolean, primary_key=True, server_default=true()),
    Column("floor", Text, nullable=False),
    CheckConstraint("id", name="schema_floor_one_row"),
)
