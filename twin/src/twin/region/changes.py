"""What a request may change, told from its envelope: nothing, records that can be made again by repeating it, or anything."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, parse_qsl


class Change(Enum):
    NONE = "none"
    # Deterministic, frequent, and on the way of an application's data: kept by repeating the request.
    REPEATABLE = "repeatable"
    # Everything else: kept by a snapshot of the records.
    ANY = "any"


_READS = (
    *("Describe", "List", "Get", "Head", "BatchGet", "Query", "Scan", "TransactGet", "Search", "Lookup", "Filter", "Simulate"),
    *("Validate", "Estimate", "Check", "Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateRandom", "Verify", "Sign"),
)
# Named like reads, yet they make credentials.
_NOT_READS = {"GetSessionToken", "GetFederationToken", "GetRoleCredentials", "GenerateDataKeyPair"}

_REPEATABLE = {
    "sqs": {
        *("SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "PurgeQueue"),
        *("ChangeMessageVisibility", "ChangeMessageVisibilityBatch"),
    },
    "sns": {"Publish", "PublishBatch"},
    "dynamodb": {
        *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
        *("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"),
    },
    "logs": {"CreateLogStream", "PutLogEvents"},
    "monitoring": {"PutMetricData"},
    "events": {"PutEvents"},
}
# Of an object in S3: a part of an upload, a version. An upload's id is not: moto draws it from the system, not from its seed.
_OBJECT_PARAMETERS = {"partNumber", "uploadId", "versionId", "x-id"}
_SCOPE = re.compile(r"Credential=[^/,\s]+/\d+/[^/]*/([^/,\s]+)/aws4_request")
_INVOCATION = re.compile(r"/2015-03-31/functions/[^/]+/invocations/?")


def of(environ: dict[str, Any], body: bytes) -> Change:
    """What the request with this WSGI environment and body may change."""
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    service = _service(environ, query)
    if _INVOCATION.fullmatch(path) and service in ("lambda", ""):
        # The outcome of another invocation is its answer; only an event is work taken over.
        return Change.REPEATABLE if environ.get("HTTP_X_AMZ_INVOCATION_TYPE") == "Event" else Change.NONE
    action = _action(environ, path, query, body)
    if not action:
        if method in ("GET", "HEAD", "OPTIONS"):
            return Change.NONE
        return Change.REPEATABLE if service == "s3" and _of_object(method, path, query) else Change.ANY
    if action.startswith(_READS) and action not in _NOT_READS:
        return Change.NONE
    return Change.REPEATABLE if action in _REPEATABLE.get(service, ()) else Change.ANY


def _service(environ: dict[str, Any], query: str) -> str:
    """The service in the signature's scope; empty when the request is not signed with version 4."""
    found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found:
        return found[1].lower()
    parts = dict(parse_qsl(query)).get("X-Amz-Credential", "").split("/")
    return parts[3].lower() if len(parts) == 5 else ""


def _action(environ: dict[str, Any], path: str, query: str, body: bytes) -> str:
    """The action's name in the protocols that name it: JSON, query, and CBOR over RPC. Empty for REST."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rsplit(".", 1)[-1])
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        found = parse_qs(body.decode(errors="replace")).get("Action")
        if found:
            return found[0]
    if "Action=" in query:
        return dict(parse_qsl(query)).get("Action", "")
    if path.startswith("/service/") and "/operation/" in path:
        return path.rsplit("/", 1)[-1]
    return ""


def _of_object(method: str, path: str, query: str) -> bool:
    parameters = set(parse_qs(query, keep_blank_values=True))
    bucket, _, key = path.lstrip("/").partition("/")
    if not key:
        return bool(bucket) and method == "POST" and parameters == {"delete"}
    return all(name in _OBJECT_PARAMETERS or name.lower().startswith("x-amz-") for name in parameters)
