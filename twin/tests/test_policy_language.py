"""The policy language by itself: operators, quantifiers, wildcards, variables, and who a statement is about."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from twin.access.policies import decide, effect
from twin.access.principals import ANONYMOUS, Principal, service

REFERENCE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies"
ARN = "arn:aws:s3:::bucket/key"
USER = Principal("arn:aws:iam::123456789012:user/ann", account="123456789012", user_name="ann")


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps(
        {"Version": version, "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", **one} for one in statements]}
    )


def says(document: str, action: str = "s3:GetObject", resource: str = ARN, **keys: Any) -> bool | None:
    """What a policy says when these condition keys are in the request; `_` stands for : and / in their names."""
    found = {key.lower(): value if isinstance(value, list) else [value] for key, value in keys.items()}
    return effect((document,), action, resource, lambda key: found.get(key.lower()))


def holds(operator: str, wanted: Any, found: Any) -> bool:
    keys = {} if found is None else {"k": found}
    return says(policy({"Condition": {operator: {"k": wanted}}}), **keys) is True


@pytest.mark.rule("access", "Each condition operator compares as documented.", f"{REFERENCE}_elements_condition_operators.html")
@pytest.mark.parametrize(
    ("operator", "wanted", "good", "bad"),
    [
        ("StringEquals", "a", "a", "A"),
        ("StringEquals", ["a", "b"], "b", "c"),
        ("StringNotEquals", ["a", "b"], "c", "b"),
        ("StringEqualsIgnoreCase", "a", "A", "b"),
        ("StringNotEqualsIgnoreCase", "a", "b", "A"),
        ("StringLike", "a*c?", "abbcd", "abbc"),
        ("StringNotLike", "a*", "b", "ab"),
        ("NumericEquals", "10", "10.0", "11"),
        ("NumericNotEquals", 10, "11", "10"),
        ("NumericLessThan", "10", "9", "10"),
        ("NumericLessThanEquals", "10", "10", "11"),
        ("NumericGreaterThan", "10", "11", "10"),
        ("NumericGreaterThanEquals", "10", "10", "9"),
        ("DateLessThan", "2030-01-01T00:00:00Z", "2029-12-31T23:59:59Z", "2030-01-01T00:00:00Z"),
        ("DateGreaterThanEquals", "2030-01-01T00:00:00Z", "1893456000", "1893455999"),
        ("DateEquals", "2030-01-01T00:00:00Z", "2030-01-01T01:00:00+01:00", "2030-01-01T00:00:01Z"),
        ("DateNotEquals", "2030-01-01", "2030-01-02", "2030-01-01"),
        ("Bool", "true", "TRUE", "false"),
        ("Bool", False, "false", "true"),
        ("BinaryEquals", "QQ==", "QQ==", "QQ=="[::-1]),
        ("IpAddress", ["10.0.0.0/8", "2001:db8::/32"], "10.1.2.3", "11.1.2.3"),
        ("IpAddress", "2001:db8::/32", "2001:db8::1", "10.0.0.1"),
        ("NotIpAddress", "10.0.0.0/8", "11.1.2.3", "10.1.2.3"),
        ("ArnEquals", "arn:aws:sns:*:1:t*", "arn:aws:sns:r:1:topic", "arn:aws:sns:r:2:topic"),
        ("ArnLike", "arn:aws:sns:*:*:t", "arn:aws:sns:r:1:t", "arn:aws:sns:r:1:x:t"),
        ("ArnNotLike", "arn:aws:sns:*:*:t", "arn:aws:sns:r:1:x", "arn:aws:sns:r:1:t"),
        ("NumericEquals", "10", "10", "ten"),
    ],
)
def test_operators(operator: str, wanted: Any, good: str, bad: str) -> None:
    assert holds(operator, wanted, good)
    assert not holds(operator, wanted, bad)


@pytest.mark.rule(
    "access",
    "Without the key, a condition fails, but for negated operators and ...IfExists.",
    f"{REFERENCE}_elements_condition_operators.html#Conditions_IfExists",
)
def test_missing_keys() -> None:
    assert not holds("StringEquals", "a", None)
    assert holds("StringEqualsIfExists", "a", None)
    assert not holds("StringEqualsIfExists", "a", "b")
    assert holds("StringNotEquals", "a", None)
    assert holds("NotIpAddress", "10.0.0.0/8", None)
    assert holds("Null", "true", None)
    assert not holds("Null", "true", "a")
    assert holds("Null", False, "a")


@pytest.mark.rule(
    "access",
    "ForAllValues holds for every value or none at all, ForAnyValue for at least one.",
    f"{REFERENCE}_condition-single-vs-multi-valued-context-keys.html",
)
def test_many_values() -> None:
    assert holds("ForAllValues:StringEquals", ["a", "b"], ["a"])
    assert not holds("ForAllValues:StringEquals", ["a", "b"], ["a", "c"])
    assert holds("ForAllValues:StringEquals", ["a"], None)
    assert holds("ForAnyValue:StringLike", ["a*"], ["c", "ab"])
    assert not holds("ForAnyValue:StringLike", ["a*"], ["c"])
    assert not holds("ForAnyValue:StringLike", ["a*"], None)
    assert not holds("ForAnyValue:StringNotEquals", ["a"], None)


@pytest.mark.rule(
    "access",
    "Several keys must all hold; of several values of a key, one.",
    f"{REFERENCE}_condition-logic-multiple-context-keys-or-values.html",
)
def test_keys_and_values() -> None:
    document = policy({"Condition": {"StringEquals": {"a": ["1", "2"], "b": "3"}}})
    assert says(document, a="2", b="3")
    assert says(document, a="2") is None
    assert says(document, a="4", b="3") is None


@pytest.mark.rule("access", "NotAction and NotResource cover everything else.", f"{REFERENCE}_elements_notaction.html")
def test_not_action_and_not_resource() -> None:
    others = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}})
    assert says(others)
    assert says(others, action="IAM:ListUsers") is None
    elsewhere = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::bucket/*"}]}
    )
    assert says(elsewhere) is None
    assert says(elsewhere, resource="arn:aws:s3:::other/key") is False


@pytest.mark.rule(
    "access", "Actions are compared without regard to case, resources with it.", f"{REFERENCE}_elements_action.html"
)
def test_wildcards() -> None:
    assert says(policy({"Action": "S3:get*"}))
    assert says(policy({"Action": "s3:Get?bject"}))
    assert says(policy({"Action": ["sqs:*", "s3:Put*"]})) is None
    assert says(policy({"Resource": "arn:aws:s3:::bucket/k?y"}))
    assert says(policy({"Resource": "arn:aws:s3:::Bucket/*"})) is None
    assert says(policy({"Resource": "arn:aws:s3:::bucket"})) is None


def test_variables() -> None:
    own = policy({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"})
    assert says(own, resource="arn:aws:s3:::bucket/ann/x", **{"aws:username": "ann"})
    assert says(own, resource="arn:aws:s3:::bucket/bob/x", **{"aws:username": "ann"}) is None
    # A value's own wildcards are no wildcards, and a missing value matches nothing.
    assert says(own, resource="arn:aws:s3:::bucket/bob/x", **{"aws:username": "*"}) is None
    assert says(own, resource="arn:aws:s3:::bucket//x") is None
    default = policy({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/team, 'none'}/*"})
    assert says(default, resource="arn:aws:s3:::bucket/none/x")
    literal = policy({"Resource": "arn:aws:s3:::bucket/${*}"})
    assert says(literal, resource="arn:aws:s3:::bucket/*")
    assert says(literal, resource="arn:aws:s3:::bucket/a") is None
    # The older version has no variables.
    old = policy({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"}, version="2008-10-17")
    assert says(old, resource="arn:aws:s3:::bucket/ann/x", **{"aws:username": "ann"}) is None


def decided(principal: Principal, resource_policy: str | None, **options: Any) -> bool:
    return decide(principal, "s3:GetObject", ARN, lambda key: None, resource_policy, **options).allowed


def about(**element: Any) -> str:
    return policy(element)


@pytest.mark.rule(
    "access",
    "A resource policy is about the principals that it names, or all but those of NotPrincipal.",
    f"{REFERENCE}_elements_principal.html",
)
def test_principals() -> None:
    role = Principal(
        "arn:aws:sts::123456789012:assumed-role/r/s", account="123456789012", role_arn="arn:aws:iam::123456789012:role/r"
    )
    assert decided(USER, about(Principal={"AWS": USER.arn}))
    assert decided(USER, about(Principal="*"))
    assert decided(ANONYMOUS, about(Principal={"AWS": "*"}))
    assert not decided(ANONYMOUS, about(Principal={"AWS": USER.arn}))
    assert decided(role, about(Principal={"AWS": [role.role_arn]}))
    assert decided(role, about(Principal={"AWS": role.arn}))
    # Naming the account leaves it to the account's own policies.
    assert not decided(USER, about(Principal={"AWS": "123456789012"}))
    assert not decided(USER, about(Principal={"AWS": "999999999999"}))
    assert decided(service("sns.amazonaws.com"), about(Principal={"Service": "sns.amazonaws.com"}))
    assert not decided(service("sns.amazonaws.com"), about(Principal={"Service": "events.amazonaws.com"}))
    everyone_else = Principal(USER.arn, account=USER.account, user_name="ann", policies=(policy({}),))
    assert not decided(everyone_else, about(Effect="Deny", NotPrincipal={"AWS": role.role_arn}))
    assert decided(role, about(Principal="*"))


@pytest.mark.rule(
    "access",
    "A resource policy that names the user gets past its boundary, one that names the role does not.",
    f"{REFERENCE}_evaluation-logic_policy-eval-basics.html",
)
def test_boundaries_and_resource_policies() -> None:
    nothing = json.dumps({"Statement": []})
    user = Principal(USER.arn, account=USER.account, user_name="ann", boundary=nothing)
    assert decided(user, about(Principal={"AWS": USER.arn}))
    role_arn = "arn:aws:iam::123456789012:role/r"
    role = Principal("arn:aws:sts::123456789012:assumed-role/r/s", account="123456789012", role_arn=role_arn, boundary=nothing)
    assert not decided(role, about(Principal={"AWS": role_arn}))
    assert decided(role, about(Principal={"AWS": role.arn}))


def test_a_policy_that_cannot_be_read_denies() -> None:
    assert says("{") is False
    assert says(policy({"Condition": {"StringSortOf": {"a": "b"}}})) is False


def test_a_check_costs_far_less_than_a_millisecond() -> None:
    documents = [
        policy(*({"Action": f"service{n}:Do{m}*", "Resource": f"arn:aws:service{n}:::thing/{m}/*"} for m in range(20)))
        for n in range(9)
    ]
    documents.append(policy({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}))
    principal = Principal(USER.arn, account=USER.account, policies=tuple(documents))
    assert decided(principal, None)
    started = time.perf_counter()
    for _ in range(200):
        decided(principal, None)
    assert (time.perf_counter() - started) / 200 < 0.001
