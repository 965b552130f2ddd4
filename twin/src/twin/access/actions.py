"""What a call must be allowed: actions, each on its resources, by IAM's names (API names with exceptions)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from twin.access import s3_actions
from twin.access.launch_context import of_launch
from twin.access.requests import Call
from twin.access.resources import Resources, values_at
from twin.access.resources_ec2 import Ec2

# Anyone who can sign may ask who they are: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
# Where a role is handed to a service: parameter paths, and the service that gets it.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
PASSED_ROLES: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("lambda", "CreateFunction"): (("Role", "lambda.amazonaws.com"),),
    ("lambda", "UpdateFunctionConfiguration"): (("Role", "lambda.amazonaws.com"),),
    ("autoscaling", "PutLifecycleHook"): (("RoleARN", "autoscaling.amazonaws.com"),),
    ("autoscaling", "CreateAutoScalingGroup"): (("LifecycleHookSpecificationList.RoleARN", "autoscaling.amazonaws.com"),),
    ("rds", "CreateDBInstance"): (("MonitoringRoleArn", "monitoring.rds.amazonaws.com"),),
    ("rds", "ModifyDBInstance"): (("MonitoringRoleArn", "monitoring.rds.amazonaws.com"),),
    ("rds", "AddRoleToDBInstance"): (("RoleArn", "rds.amazonaws.com"),),
    ("events", "PutRule"): (("RoleArn", "events.amazonaws.com"),),
    ("events", "PutTargets"): (("Targets.RoleArn", "events.amazonaws.com"),),
    ("ecs", "RegisterTaskDefinition"): (
        ("taskRoleArn", "ecs-tasks.amazonaws.com"),
        ("executionRoleArn", "ecs-tasks.amazonaws.com"),
    ),
    ("fis", "CreateExperimentTemplate"): (("roleArn", "fis.amazonaws.com"),),
    ("fis", "UpdateExperimentTemplate"): (("roleArn", "fis.amazonaws.com"),),
    ("ec2", "CreateFlowLogs"): (("DeliverLogsPermissionArn", "vpc-flow-logs.amazonaws.com"),),
    ("logs", "PutSubscriptionFilter"): (("roleArn", "logs.amazonaws.com"),),
    ("application-autoscaling", "RegisterScalableTarget"): (("RoleARN", "application-autoscaling.amazonaws.com"),),
    ("stepfunctions", "CreateStateMachine"): (("roleArn", "states.amazonaws.com"),),
    ("s3", "PutBucketReplication"): (("ReplicationConfiguration.Role", "s3.amazonaws.com"),),
}
# Batches have no permission of their own: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
COVERED = {
    ("sns", "PublishBatch"): "Publish",
    ("sqs", "SendMessageBatch"): "SendMessage",
    ("sqs", "DeleteMessageBatch"): "DeleteMessage",
    ("sqs", "ChangeMessageVisibilityBatch"): "ChangeMessageVisibility",
}
_PARTIQL = re.compile(
    r"\s*(select|insert|update|delete)\b(?:.*?\bfrom\b|\s+into\b)?\s+\"?([\w.-]+)\"?(?:\.\"([\w.-]+)\")?", re.I | re.S
)
_TRANSACTIONS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


@dataclass(frozen=True)
class Check:
    """One action on one resource; `context` has condition keys (in lower case) of this check alone."""

    action: str
    resource: str
    context: dict[str, list[str]] = field(default_factory=dict)


def checks(call: Call, resources: Resources) -> list[Check]:
    """Everything the call must be allowed. Hold the region's lock: names are looked up in moto's records."""
    if (call.service, call.operation) in FREE:
        return []
    special = {"s3": _s3, "dynamodb": _dynamodb, "lambda": _lambda, "budgets": _budgets, "ec2": _ec2, "autoscaling": _autoscaling}
    if call.service in special:
        found = list(special[call.service](call, resources))
    else:
        action = COVERED.get((call.service, call.operation), call.operation)
        found = [Check(f"{call.prefix}:{action}", arn) for arn in resources.of(call)]
    found += _passed(call, resources)
    return found


def _plain(call: Call, resources: Resources) -> Iterator[Check]:
    for arn in resources.of(call):
        yield Check(f"{call.prefix}:{call.operation}", arn)


def _s3(call: Call, resources: Resources) -> Iterator[Check]:
    parameters = call.parameters
    bucket, key = parameters.get("Bucket"), parameters.get("Key")
    if call.operation == "DeleteObjects":
        # Each key by itself: the gate sorts out which may go, since S3 answers for each.
        for one in (parameters.get("Delete") or {}).get("Objects", []):
            action = "s3:DeleteObjectVersion" if one.get("VersionId") else "s3:DeleteObject"
            yield Check(action, f"arn:aws:s3:::{bucket}/{one.get('Key')}")
        return
    arn = resources.of(call)[0]
    for action in s3_actions.actions(call.operation, bool(parameters.get("VersionId"))):
        yield Check(action, arn)
    if call.operation in ("CopyObject", "UploadPartCopy"):
        yield from _copied(call, parameters.get("CopySource"), arn)
    writes = call.operation in ("PutObject", "CopyObject", "CreateMultipartUpload")
    if writes and parameters.get("ACL"):
        yield Check("s3:PutObjectAcl", arn)
    if writes and parameters.get("Tagging"):
        yield Check("s3:PutObjectTagging", arn)
    if call.operation in ("GetObject", "HeadObject") and not _exists(resources.region, bucket, key):
        # Whether an object is missing is told only to those who may list: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        yield Check("s3:ListBucket", f"arn:aws:s3:::{bucket}")


def _copied(call: Call, source: Any, arn: str) -> Iterator[Check]:
    if call.operation == "UploadPartCopy":
        yield Check("s3:PutObject", arn)
    path, _, version = unquote(str(source or "")).partition("?versionId=")
    yield Check("s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{path.lstrip('/')}")


def _exists(region: Any, bucket: Any, key: Any) -> bool:
    found = region.backend("s3").buckets.get(bucket)
    # A bucket that is not there is said not to be, to everyone.
    return found is None or key in found.keys


def _dynamodb(call: Call, resources: Resources) -> Iterator[Check]:
    parameters = call.parameters
    if call.operation in ("TransactWriteItems", "TransactGetItems"):
        for item in parameters.get("TransactItems", []):
            for kind, one in item.items():
                action = _TRANSACTIONS.get(kind, "GetItem")
                yield _table(call, resources, f"dynamodb:{action}", one.get("TableName"), _leading(resources, one))
    elif call.operation in ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"):
        statements = [parameters] if call.operation == "ExecuteStatement" else []
        statements += parameters.get("Statements", []) + parameters.get("TransactStatements", [])
        for statement in statements:
            found = _PARTIQL.match(str(statement.get("Statement", "")))
            verb = found[1].capitalize() if found else "Select"
            check = _table(call, resources, f"dynamodb:PartiQL{verb}", found[2] if found else None)
            yield Check(check.action, f"{check.resource}/index/{found[3]}") if found and found[3] else check
    elif call.operation in ("BatchGetItem", "BatchWriteItem"):
        for name, items in (parameters.get("RequestItems") or {}).items():
            yield _table(call, resources, f"dynamodb:{call.operation}", name, _batch_leading(resources, name, items))
    else:
        for check in _plain(call, resources):
            yield Check(check.action, check.resource, _leading(resources, parameters))


def _table(call: Call, resources: Resources, action: str, name: Any, context: dict[str, list[str]] | None = None) -> Check:
    one = Call("dynamodb", call.signing_name, call.region, "json", "POST", "GetItem", {"TableName": name})
    return Check(action, resources.of(one)[0], context or {})


def _hash_key(resources: Resources, name: Any) -> str | None:
    table = resources.region.backend("dynamodb").tables.get(str(name).rpartition("/")[2])
    return str(table.hash_key_attr) if table is not None else None


def _leading(resources: Resources, parameters: dict[str, Any]) -> dict[str, list[str]]:
    """dynamodb:LeadingKeys: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html"""
    key = _hash_key(resources, parameters.get("TableName"))
    item = parameters.get("Key") or parameters.get("Item") or {}
    if key in item:
        return {"dynamodb:leadingkeys": [_text(item[key])]}
    condition = str(parameters.get("KeyConditionExpression") or "")
    if key and condition:
        names = {key, *(alias for alias, name in (parameters.get("ExpressionAttributeNames") or {}).items() if name == key)}
        found = re.search(rf"(?:^|[\s(])(?:{'|'.join(map(re.escape, names))})\s*=\s*(:\w+)", condition)
        values = parameters.get("ExpressionAttributeValues") or {}
        if found and found[1] in values:
            return {"dynamodb:leadingkeys": [_text(values[found[1]])]}
    return {}


def _batch_leading(resources: Resources, name: str, items: Any) -> dict[str, list[str]]:
    key = _hash_key(resources, name)
    rows = items.get("Keys", []) if isinstance(items, dict) else [values_at(one, ["*"]) for one in items or []]
    found = []
    for row in rows:
        for part in [row] if isinstance(row, dict) else list(row):
            item = part.get("Item") or part.get("Key") or part
            if key in item:
                found.append(_text(item[key]))
    return {"dynamodb:leadingkeys": found} if found else {}


def _text(value: Any) -> str:
    return str(next(iter(value.values()))) if isinstance(value, dict) and value else str(value)


def _lambda(call: Call, resources: Resources) -> Iterator[Check]:
    names = {"Invoke": "InvokeFunction", "InvokeAsync": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}
    for arn in resources.of(call):
        yield Check(f"lambda:{names.get(call.operation, call.operation)}", arn)


def _budgets(call: Call, resources: Resources) -> Iterator[Check]:
    reads = call.operation.startswith(("Describe", "List"))
    if "Tag" in call.operation:
        yield from _plain(call, resources)
        return
    name = call.parameters.get("BudgetName") or (call.parameters.get("Budget") or {}).get("BudgetName") or "*"
    yield Check(f"budgets:{'View' if reads else 'Modify'}Budget", f"arn:aws:budgets::{resources.account}:budget/{name}")


def _ec2(call: Call, resources: Resources) -> Iterator[Check]:
    own = Ec2(resources.region.ec2, call.region, resources.account)
    for check in _plain(call, resources):
        launches = call.operation == "RunInstances"
        yield Check(check.action, check.resource, of_launch(own, call.parameters, check.resource) if launches else {})
    # Tags given at creation need ec2:CreateTags too: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
    if call.operation != "CreateTags":
        for specification in call.parameters.get("TagSpecifications") or []:
            if specification.get("Tags"):
                arn = own.arn(str(specification.get("ResourceType")), "*")
                yield Check("ec2:CreateTags", arn, {"ec2:createaction": [call.operation]})


def _autoscaling(call: Call, resources: Resources) -> Iterator[Check]:
    yield from _plain(call, resources)
    # Who makes a group launches its instances: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
    template = _group_template(call)
    if template:
        subnets = str(call.parameters.get("VPCZoneIdentifier") or "").split(",")
        run = Call("ec2", "ec2", call.region, "ec2", "POST", "RunInstances", {"LaunchTemplate": template})
        if subnets[0]:
            run.parameters["SubnetId"] = subnets[0].strip()
        yield from _ec2(run, resources)


def _group_template(call: Call) -> Any:
    """The launch template that a group is to launch from; None if the call says nothing of one."""
    if call.operation in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup"):
        return call.parameters.get("LaunchTemplate")
    if call.operation == "StartInstanceRefresh":
        return (call.parameters.get("DesiredConfiguration") or {}).get("LaunchTemplate")
    return None


def _passed(call: Call, resources: Resources) -> Iterator[Check]:
    for path, service in PASSED_ROLES.get((call.service, call.operation), ()):
        for arn in values_at(call.parameters, path.split(".")):
            if arn:
                yield Check("iam:PassRole", str(arn), {"iam:passedtoservice": [service]})
    for profile in _profiles(call, resources):
        for role in profile.roles:
            yield Check("iam:PassRole", role.arn, {"iam:passedtoservice": ["ec2.amazonaws.com"]})
    if call.service == "iam" and call.operation == "AddRoleToInstanceProfile":
        name = call.parameters.get("RoleName")
        for role in resources.region.backend("iam").roles.values():
            if role.name == name:
                yield Check("iam:PassRole", role.arn, {"iam:passedtoservice": ["ec2.amazonaws.com"]})


def _profiles(call: Call, resources: Resources) -> Iterator[Any]:
    """The instance profiles that a call gives to instances."""
    parameters: dict[str, Any] = {}
    if call.service == "autoscaling" and call.operation == "CreateLaunchConfiguration":
        parameters = {"IamInstanceProfile": {"Name": call.parameters.get("IamInstanceProfile")}}
    elif call.service == "autoscaling":
        template = _group_template(call)
        parameters = {"LaunchTemplate": template} if template else {}
    elif call.service == "ec2" and call.operation in (
        *("RunInstances", "AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"),
    ):
        parameters = call.parameters
    if not parameters:
        return
    launch = Ec2(resources.region.ec2, call.region, resources.account).launch(parameters)
    wanted = launch.get("IamInstanceProfile") or {}
    names = {wanted.get("Name"), wanted.get("Arn")} if isinstance(wanted, dict) else {wanted}
    for profile in resources.region.backend("iam").instance_profiles.values():
        # A launch configuration takes either in its one parameter.
        if {profile.name, profile.arn} & names:
            yield profile
