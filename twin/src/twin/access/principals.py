"""Who calls: users by their access keys, roles by temporary credentials, services by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from twin.access.failures import Failure, Kind


@dataclass(frozen=True)
class Principal:
    """A caller and the policies it carries, as JSON documents.

    `arn` is what AWS shows: the user's, or the session's of an assumed role. `boundary` and `session_policies` are None
    where none is set.
    """

    arn: str
    account: str = ""
    user_id: str = ""
    user_name: str = ""
    role_arn: str = ""
    session_name: str = ""
    service: str = ""
    policies: tuple[str, ...] = ()
    boundary: str | None = None
    session_policies: tuple[str, ...] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    issued: datetime | None = None

    @property
    def anonymous(self) -> bool:
        return self.arn == "anonymous"

    @property
    def kind(self) -> str:
        """aws:PrincipalType's word."""
        return "AssumedRole" if self.role_arn else "User" if self.user_name else "Anonymous"


ANONYMOUS = Principal("anonymous")


def service(name: str) -> Principal:
    """A service as principal, such as sns.amazonaws.com."""
    return Principal(name, service=name)


def by_key(iam: Any, key_id: str, token: str | None) -> tuple[str, Principal]:
    """The secret of an access key, and its owner. Hold the region's lock. Raises Failure for a key that opens nothing."""
    key = iam.access_keys.get(key_id)
    if key is None or key.status != "Active":
        raise Failure(Kind.UNKNOWN_KEY)
    session = getattr(key, "session", None)
    if session is None:
        user = iam.users.get(key.user_name)
        if user is None:
            raise Failure(Kind.UNKNOWN_KEY)
        if token is not None:
            raise Failure(Kind.BAD_TOKEN)
        return key.secret_access_key, user_principal(iam, user)
    if token != session.session_token:
        raise Failure(Kind.BAD_TOKEN)
    if datetime.now(UTC).replace(tzinfo=None) >= session.expiration:
        raise Failure(Kind.EXPIRED_TOKEN)
    if key.user_name is not None:
        user = iam.users.get(key.user_name)
        if user is None:
            raise Failure(Kind.UNKNOWN_KEY)
        return key.secret_access_key, user_principal(iam, user)
    role = role_by_arn(iam, session.role_arn)
    if role is None:
        raise Failure(Kind.UNKNOWN_KEY)
    return key.secret_access_key, role_principal(iam, role, session)


def role_by_arn(iam: Any, arn: str) -> Any | None:
    return next((role for role in iam.roles.values() if role.arn == arn), None)


def user_principal(iam: Any, user: Any) -> Principal:
    documents = _documents(user)
    for group in iam.groups.values():
        if user in group.users:
            documents += _documents(group)
    return Principal(
        arn=user.arn,
        account=user.account_id,
        user_id=user.id,
        user_name=user.name,
        policies=documents,
        tags=tag_map(user.tags),
    )


def role_principal(iam: Any, role: Any, session: Any | None = None) -> Principal:
    """A role, in a session of it or by itself (as a service uses it)."""
    name = session.session_name if session else "service"
    return Principal(
        arn=f"arn:aws:sts::{role.account_id}:assumed-role/{role.name}/{name}",
        account=role.account_id,
        user_id=f"{role.id}:{name}",
        role_arn=role.arn,
        session_name=name,
        policies=_documents(role),
        boundary=_boundary(iam, role.permissions_boundary_arn),
        session_policies=getattr(session, "session_policies", None),
        tags=tag_map(role.tags) | getattr(session, "session_tags", {}),
        issued=getattr(session, "issued", None),
    )


def tag_map(tags: Any) -> dict[str, str]:
    """Tags of any of moto's forms: a list of Key and Value (or key and value), or a mapping."""
    if isinstance(tags, dict):
        return {
            str(value.get("Key", key)) if isinstance(value, dict) else str(key): str(value["Value"])
            if isinstance(value, dict)
            else str(value)
            for key, value in tags.items()
        }
    return {str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value", ""))) for tag in tags or []}


def _documents(owner: Any) -> tuple[str, ...]:
    attached = (document_of(policy) for policy in owner.managed_policies.values())
    return (*owner.policies.values(), *attached)


def document_of(policy: Any) -> str:
    """A managed policy's document in its default version."""
    for version in policy.versions:
        if version.version_id == policy.default_version_id:
            return str(version.document)
    return str(policy.versions[-1].document)


def _boundary(iam: Any, arn: str | None) -> str | None:
    if not arn:
        return None
    policy = iam.managed_policies.get(arn)
    # A boundary that was deleted allows nothing.
    return '{"Statement": []}' if policy is None else document_of(policy)
