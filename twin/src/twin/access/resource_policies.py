"""The policies that resources carry, from moto's records."""

from __future__ import annotations

import json
from typing import Any

# Resources that nobody gets at without their own policy's consent, an account's administrator included.
MUST_AGREE = ("kms",)


def policy_of(region: Any, action: str, arn: str) -> str | None:
    """The resource policy that has a say in this action, as JSON, or None. Hold the region's lock."""
    parts = arn.split(":", 5)
    if len(parts) != 6:
        return None
    service, name = parts[2], parts[5]
    if action.lower() == "sts:assumerole":
        role = next((role for role in region.backend("iam").roles.values() if role.arn == arn), None)
        return trust(role.assume_role_policy_document) if role is not None else None
    if service != action.partition(":")[0]:
        return None
    find = _FINDERS.get(service)
    return find(region.backend(service), arn, name) if find else None


def trust(document: Any) -> str:
    """A trust policy has no Resource: it is about the role that it stands in."""
    return document if isinstance(document, str) else json.dumps(document)


def _s3(records: Any, arn: str, name: str) -> str | None:
    bucket = records.buckets.get(name.partition("/")[0])
    if bucket is None or not bucket.policy:
        return None
    return bucket.policy.decode() if isinstance(bucket.policy, bytes) else str(bucket.policy)


def _sqs(records: Any, arn: str, name: str) -> str | None:
    queue = records.queues.get(name)
    return str(queue.policy) if queue is not None and queue.policy else None


def _sns(records: Any, arn: str, name: str) -> str | None:
    topic = records.topics.get(arn)
    return str(topic.policy) if topic is not None else None


def _lambda(records: Any, arn: str, name: str) -> str | None:
    try:
        statements = records.get_function(arn).policy.statements
    except Exception:  # moto's errors of an unknown function are several
        return None
    return json.dumps({"Version": "2012-10-17", "Statement": statements}) if statements else None


def _kms(records: Any, arn: str, name: str) -> str | None:
    key = records.keys.get(name.partition("/")[2])
    return str(key.policy) if key is not None else None


def _secretsmanager(records: Any, arn: str, name: str) -> str | None:
    secret = records.secrets.get(arn)
    return str(secret.policy) if secret is not None and getattr(secret, "policy", None) else None


def _logs(records: Any, arn: str, name: str) -> str | None:
    """The account's policies, each of which names the log groups that it is about."""
    documents = [json.loads(policy.policy_document) for policy in records.resource_policies.values()]
    statements = [one for document in documents for one in _listed(document.get("Statement", []))]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}) if statements else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_FINDERS = {"s3": _s3, "sqs": _sqs, "sns": _sns, "lambda": _lambda, "kms": _kms, "logs": _logs, "secretsmanager": _secretsmanager}
