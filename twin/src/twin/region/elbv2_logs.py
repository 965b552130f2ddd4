"""Whether a bucket takes a load balancer's access logs, which AWS tries out when they are turned on.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

from twin.region.elbv2_attributes import refused
from twin.region.region import Region

DELIVERY_SERVICE = "logdelivery.elasticloadbalancing.amazonaws.com"
# Elastic Load Balancing's account in us-east-1, which bucket policies named before there was the service's own name.
DELIVERY_ACCOUNT = "127311923021"
TEST_FILE = "ELBAccessLogTestFile"


def folder(region: Region, attributes: dict[str, str]) -> str:
    """Where in the bucket a load balancer's logs are, without a slash at the end."""
    prefix = attributes["access_logs.s3.prefix"].strip("/")
    return f"{prefix}/AWSLogs/{region.settings.account_id}" if prefix else f"AWSLogs/{region.settings.account_id}"


def check(region: Region, attributes: dict[str, str]) -> None:
    """Write the test file; raises InvalidConfigurationRequest when the bucket is not there or does not let logs in."""
    name, prefix = attributes["access_logs.s3.bucket"], attributes["access_logs.s3.prefix"]
    if not name:
        raise refused("The value of 'access_logs.s3.bucket' cannot be empty when access logs are enabled")
    if "AWSLogs" in prefix:
        raise refused("The value of 'access_logs.s3.prefix' cannot contain 'AWSLogs'")
    s3 = region.backend("s3")
    bucket = s3.buckets.get(name)
    if bucket is None or bucket.region_name != region.settings.region:
        raise refused(f"The bucket '{name}' does not exist in the load balancer's Region")
    key = f"{folder(region, attributes)}/{TEST_FILE}"
    if not _admits(bucket.policy, f"arn:aws:s3:::{name}/{key}"):
        raise refused(f"Access Denied for bucket: {name}. Please check S3bucket permission")
    words = f"Enable AccessLog for ELB at {region.settings.region}\n"
    s3.put_object(name, key, words.encode())


def _admits(policy: bytes | str | None, resource: str) -> bool:
    statements = json.loads(policy)["Statement"] if policy else []
    for statement in statements if isinstance(statements, list) else [statements]:
        principals = statement.get("Principal") or {}
        named = ["*"] if principals == "*" else [*_list(principals.get("Service")), *_list(principals.get("AWS"))]
        if (
            statement["Effect"] == "Allow"
            and any(name in ("*", DELIVERY_SERVICE) or DELIVERY_ACCOUNT in name for name in named)
            and any(fnmatchcase("s3:PutObject", action) for action in _list(statement.get("Action")))
            and any(fnmatchcase(resource, pattern) for pattern in _list(statement.get("Resource")))
        ):
            return True
    return False


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []
