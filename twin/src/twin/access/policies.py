"""Policies and the order in which they decide: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twin.access import conditions
from twin.access.conditions import Condition
from twin.access.patterns import Lookup, compiled, expression
from twin.access.principals import Principal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statement:
    """One statement, ready to be compared. None stands for an element that is not there."""

    allows: bool
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None
    principals: dict[str, tuple[str, ...]] | None
    not_principals: dict[str, tuple[str, ...]] | None
    conditions: tuple[Condition, ...]
    variables: bool

    def names(self, action: str) -> bool:
        if self.actions is not None:
            return any(pattern == "*" or compiled(pattern, True).fullmatch(action) for pattern in self.actions)
        return self.not_actions is not None and not any(compiled(pattern, True).fullmatch(action) for pattern in self.not_actions)

    def covers(self, resource: str, lookup: Lookup) -> bool:
        """Whether resource and conditions are this statement's."""
        if self.resources is not None:
            if not any(self._is(pattern, resource, lookup) for pattern in self.resources):
                return False
        elif self.not_resources is not None and any(self._is(pattern, resource, lookup) for pattern in self.not_resources):
            return False
        return all(condition.holds(lookup) for condition in self.conditions)

    def _is(self, pattern: str, resource: str, lookup: Lookup) -> bool:
        if pattern == "*":
            return True
        if self.variables and "${" in pattern:
            found = expression(pattern, lookup)
            return found is not None and found.fullmatch(resource) is not None
        return compiled(pattern).fullmatch(resource) is not None


@functools.lru_cache(maxsize=4096)
def parse(document: str) -> tuple[Statement, ...]:
    """A policy's statements. One that can't be read denies everything, so that no mistake opens a door."""
    try:
        policy = json.loads(document)
        variables = policy.get("Version", "2008-10-17") >= "2012-10-17"
        return tuple(_statement(one, variables) for one in _listed(policy.get("Statement", [])))
    except (ValueError, TypeError, AttributeError, KeyError):
        log.exception("a policy can't be read; it denies everything: %s", document)
        return (Statement(False, ("*",), None, ("*",), None, {"*": ("*",)}, None, (), False),)


@functools.lru_cache(maxsize=32768)
def about(document: str, action: str) -> tuple[Statement, ...]:
    """The policy's statements that name this action: few of many, and the same at each request."""
    return tuple(statement for statement in parse(document) if statement.names(action))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(statement: dict[str, Any], name: str) -> tuple[str, ...] | None:
    return tuple(str(value) for value in _listed(statement[name])) if name in statement else None


def _principals(statement: dict[str, Any], name: str) -> dict[str, tuple[str, ...]] | None:
    if name not in statement:
        return None
    value = statement[name]
    if isinstance(value, str):
        return {"*": ("*",)} if value == "*" else {"AWS": (value,)}
    return {kind: tuple(str(one) for one in _listed(names)) for kind, names in value.items()}


def _statement(statement: dict[str, Any], variables: bool) -> Statement:
    return Statement(
        allows=statement["Effect"] == "Allow",
        actions=_texts(statement, "Action"),
        not_actions=_texts(statement, "NotAction"),
        resources=_texts(statement, "Resource"),
        not_resources=_texts(statement, "NotResource"),
        principals=_principals(statement, "Principal"),
        not_principals=_principals(statement, "NotPrincipal"),
        conditions=conditions.parse(statement.get("Condition") or {}, variables),
        variables=variables,
    )


@dataclass(frozen=True)
class Decision:
    """`reason` completes AWS's sentence "... is not authorized to perform: ACTION on resource: ARN ..."."""

    allowed: bool
    reason: str = ""


ALLOWED = Decision(True)


def effect(documents: Iterable[str], action: str, resource: str, lookup: Lookup) -> bool | None:
    """What a set of identity policies says: True allowed, False denied, None nothing."""
    allowed: bool | None = None
    for document in documents:
        for statement in about(document, action):
            if (allowed is None or not statement.allows) and statement.covers(resource, lookup):
                if not statement.allows:
                    return False
                allowed = True
    return allowed


def resource_effect(document: str | None, principal: Principal, action: str, resource: str, lookup: Lookup) -> bool | set[str]:
    """What a resource's policy says to a principal: False denied, else who is allowed: of "session", "role", "account"."""
    allowed: set[str] = set()
    for statement in about(document, action) if document else ():
        levels = _levels(statement, principal)
        if levels and statement.covers(resource, lookup):
            if not statement.allows:
                return False
            allowed |= levels
    return allowed


def _levels(statement: Statement, principal: Principal) -> set[str]:
    if statement.principals is not None:
        return _named(statement.principals, principal)
    if statement.not_principals is not None:
        return set() if _named(statement.not_principals, principal) else {"session"}
    return set()


def _named(principals: dict[str, tuple[str, ...]], principal: Principal) -> set[str]:
    names = principals.get("AWS", ())
    if "*" in principals or "*" in names:
        return {"session"}
    if principal.service:
        return {"session"} if principal.service in principals.get("Service", ()) else set()
    levels = set()
    if principal.arn in names:
        levels.add("session")
    if principal.role_arn and principal.role_arn in names:
        levels.add("role")
    if principal.account and {principal.account, f"arn:aws:iam::{principal.account}:root"} & set(names):
        levels.add("account")
    return levels


def decide(
    principal: Principal, action: str, resource: str, lookup: Lookup, resource_policy: str | None, policy_must_agree: bool = False
) -> Decision:
    """Whether the principal may do it.

    `policy_must_agree`: nothing is allowed without the resource's own policy, as with KMS keys and roles to assume.
    """
    granted = resource_effect(resource_policy, principal, action, resource, lookup)
    identity = effect(principal.policies, action, resource, lookup)
    if identity is False:
        return Decision(False, "with an explicit deny in an identity-based policy")
    if isinstance(granted, bool):
        return Decision(False, "with an explicit deny in a resource-based policy")
    boundary = True if principal.boundary is None else effect((principal.boundary,), action, resource, lookup)
    session = True if principal.session_policies is None else effect(principal.session_policies, action, resource, lookup)
    if boundary is False:
        return Decision(False, "with an explicit deny in a permissions boundary")
    if session is False:
        return Decision(False, "with an explicit deny in a session policy")
    # What a resource's policy gives to the very session or user needs no one else's consent.
    if "session" in granted:
        return ALLOWED
    no_resource = Decision(False, f"because no resource-based policy allows the {action} action")
    if principal.service or principal.anonymous or (policy_must_agree and not granted):
        return no_resource
    if not identity and "role" not in granted:
        return Decision(False, f"because no identity-based policy allows the {action} action")
    if not boundary:
        return Decision(False, f"because no permissions boundary allows the {action} action")
    if not session:
        return Decision(False, f"because no session policy allows the {action} action")
    return ALLOWED
