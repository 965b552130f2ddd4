"""The condition keys of a request: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from twin.access.principals import Principal, tag_map
from twin.access.requests import Call

_S3_PARAMETERS = {
    "Prefix": "s3:prefix",
    "Delimiter": "s3:delimiter",
    "MaxKeys": "s3:max-keys",
    "VersionId": "s3:versionid",
    "ACL": "s3:x-amz-acl",
    "ServerSideEncryption": "s3:x-amz-server-side-encryption",
    "SSEKMSKeyId": "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "StorageClass": "s3:x-amz-storage-class",
    "CopySource": "s3:x-amz-copy-source",
}
_PARAMETERS = {
    ("iam", "PolicyArn"): "iam:policyarn",
    ("iam", "PermissionsBoundary"): "iam:permissionsboundary",
    ("iam", "AWSServiceName"): "iam:awsservicename",
    ("sts", "ExternalId"): "sts:externalid",
    ("sts", "RoleSessionName"): "sts:rolesessionname",
    ("sts", "SourceIdentity"): "sts:sourceidentity",
    ("secretsmanager", "VersionStage"): "secretsmanager:versionstage",
    ("secretsmanager", "Name"): "secretsmanager:name",
    ("sns", "Protocol"): "sns:protocol",
    ("sns", "Endpoint"): "sns:endpoint",
    ("lambda", "Principal"): "lambda:principal",
    ("cloudwatch", "Namespace"): "cloudwatch:namespace",
    ("dynamodb", "Select"): "dynamodb:select",
    ("dynamodb", "ReturnValues"): "dynamodb:returnvalues",
    ("autoscaling", "MinSize"): "autoscaling:minsize",
    ("autoscaling", "MaxSize"): "autoscaling:maxsize",
    ("rds", "Engine"): "rds:databaseengine",
    ("rds", "DBInstanceClass"): "rds:databaseclass",
    ("rds", "MultiAZ"): "rds:multiaz",
    ("rds", "StorageEncrypted"): "rds:storageencrypted",
    ("rds", "ManageMasterUserPassword"): "rds:managemasteruserpassword",
    ("elbv2", "Scheme"): "elasticloadbalancing:scheme",
    ("elbv2", "Protocol"): "elasticloadbalancing:listenerprotocol",
    ("ec2", "VpcId"): "ec2:vpcid",
}
# Services with a tag key of their own beside aws:ResourceTag.
_OWN_TAGS = {
    "ec2": "ec2:resourcetag",
    "autoscaling": "autoscaling:resourcetag",
    "elasticloadbalancing": "elasticloadbalancing:resourcetag",
    "secretsmanager": "secretsmanager:resourcetag",
    "iam": "iam:resourcetag",
    "ssm": "ssm:resourcetag",
    "rds": "rds:db-tag",
    "ecs": "ecs:resourcetag",
}


class Context:
    """Looks condition keys up, whatever their case; values that cost something only when asked for."""

    def __init__(self, region: Any, principal: Principal, call: Call | None, source_ip: str, own: dict[str, list[str]]) -> None:
        self.region = region
        self.principal = principal
        self.call = call
        self.source_ip = source_ip
        self.own = own
        self.resource = "*"
        self.extra: dict[str, list[str]] = {}
        self._request_tags: dict[str, str] | None = None
        self._fixed = self._common()

    def on(self, resource: str, extra: dict[str, list[str]]) -> Context:
        """The same request, on this resource."""
        self.resource = resource
        self.extra = extra
        return self

    def __call__(self, key: str) -> list[str] | None:
        key = key.lower()
        for source in (self.extra, self.own, self._fixed):
            if key in source:
                return source[key]
        name, slash, tag = key.partition("/")
        if slash:
            return self._tag(name, tag)
        if key == "aws:tagkeys":
            return sorted(self.request_tags) or None
        if key == "aws:currenttime":
            return [datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
        if key == "aws:epochtime":
            return [str(int(time.time()))]
        return None

    def _common(self) -> dict[str, list[str]]:
        principal, call = self.principal, self.call
        found = {
            "aws:securetransport": ["true"],
            "aws:viaawsservice": ["false"],
            "aws:principaltype": [principal.kind],
            "aws:resourceaccount": [self.region.settings.account_id],
        }
        named = {
            "aws:principalarn": principal.role_arn or (principal.arn if not principal.service else ""),
            "aws:principalaccount": principal.account,
            "aws:userid": principal.user_id,
            "aws:username": principal.user_name,
            "aws:sourceip": self.source_ip,
            "aws:principalservicename": principal.service,
        }
        found |= {key: [value] for key, value in named.items() if value}
        found["aws:principalisawsservice"] = [str(bool(principal.service)).lower()]
        if principal.issued:
            found["aws:tokenissuetime"] = [principal.issued.strftime("%Y-%m-%dT%H:%M:%SZ")]
        if principal.role_arn and principal.session_name.startswith("i-"):
            account = principal.account
            arn = f"arn:aws:ec2:{self.region.settings.region}:{account}:instance/{principal.session_name}"
            found["ec2:sourceinstancearn"] = found["aws:ec2instancesourceinstancearn"] = [arn]
        if call is not None:
            found["aws:requestedregion"] = [call.region]
            for header, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
                if header in call.headers:
                    found[key] = [call.headers[header]]
            found |= self._parameters(call)
        return found

    @staticmethod
    def _parameters(call: Call) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in call.parameters.items():
            key = _S3_PARAMETERS.get(name) if call.service == "s3" else _PARAMETERS.get((call.service, name))
            if key:
                found[key] = [str(value).lower() if isinstance(value, bool) else str(value)]
        if call.service == "ec2":
            found["ec2:region"] = [call.region]
        if call.service == "kms":
            for name, value in (call.parameters.get("EncryptionContext") or {}).items():
                found[f"kms:encryptioncontext:{name}".lower()] = [str(value)]
        if call.service == "s3":
            found["s3:signatureversion"] = ["AWS4-HMAC-SHA256"]
            query = "authorization" not in call.headers
            found["s3:authtype"] = ["REST-QUERY-STRING" if query else "REST-HEADER"]
        if call.service == "autoscaling" and isinstance(call.parameters.get("LaunchTemplate"), dict):
            found["autoscaling:launchtemplateversionspecified"] = [str("Version" in call.parameters["LaunchTemplate"]).lower()]
        return found

    def _tag(self, name: str, tag: str) -> list[str] | None:
        """A tag's value; tag keys in condition keys are compared without regard to case, as AWS does."""
        if name == "aws:principaltag":
            tags = self.principal.tags
        elif name == "aws:requesttag":
            tags = self.request_tags
        elif name == "aws:resourcetag" or name in _OWN_TAGS.values():
            tags = resource_tags(self.region, self.resource)
        else:
            return None
        return next(([value] for key, value in tags.items() if key.lower() == tag), None)

    @property
    def request_tags(self) -> dict[str, str]:
        """The tags that the request gives to what it makes or changes."""
        if self._request_tags is None:
            self._request_tags = _given(self.call.parameters) if self.call else {}
        return self._request_tags


def _given(parameters: dict[str, Any]) -> dict[str, str]:
    for name in ("Tags", "tags"):
        if parameters.get(name):
            tags = parameters[name]
            if isinstance(tags, list) and tags and "TagKey" in tags[0]:
                return {str(tag["TagKey"]): str(tag.get("TagValue", "")) for tag in tags}
            return tag_map(tags)
    found: dict[str, str] = {}
    for specification in parameters.get("TagSpecifications") or []:
        found |= tag_map(specification.get("Tags"))
    for name in ("TagKeys", "tagKeys"):
        found |= {str(key): "" for key in parameters.get(name) or []}
    return found


def resource_tags(region: Any, arn: str) -> dict[str, str]:
    """The tags of an existing resource, as its service keeps them."""
    parts = arn.split(":", 5)
    if len(parts) != 6:
        return {}
    service, name = parts[2], parts[5]
    try:
        return tag_map(_tags_of(region, service, arn, name))
    except (KeyError, AttributeError, IndexError):
        return {}


def _tags_of(region: Any, service: str, arn: str, name: str) -> Any:
    last = name.rpartition("/")[2]
    if service == "ec2":
        return region.ec2.tags.get(last, {})
    records = region.backend({"elasticloadbalancing": "elbv2"}.get(service, service))
    if service == "autoscaling":
        return records.autoscaling_groups[last].tags
    if service == "elasticloadbalancing":
        owners = {**records.target_groups, **records.load_balancers}
        return owners[arn].tags
    if service == "iam":
        kind = name.partition("/")[0]
        owners = {"role": records.roles, "user": records.users, "instance-profile": records.instance_profiles}[kind]
        return next(owner.tags for owner in owners.values() if owner.arn == arn)
    if service == "rds":
        kind, _, identifier = name.partition(":")
        return {"db": records.databases, "snapshot": records.database_snapshots}[kind][identifier].tags
    if service == "secretsmanager":
        return records.secrets[arn].tags
    if service == "sns":
        return records.topics[arn]._tags
    if service == "sqs":
        return records.queues[name].tags
    if service == "lambda":
        return records.get_function(arn).tags
    if service == "dynamodb":
        return records.tables[name.split("/")[1]].tags
    if service == "kms":
        return records.tagger.get_tag_dict_for_resource(last)
    return records.tagger.get_tag_dict_for_resource(arn)
