"""The ARNs that a call touches. What is not known here is "*", which only a policy for all resources allows.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from twin.access.requests import Call
from twin.access.resource_tables import ALL, SINGLE
from twin.access.resources_ec2 import Ec2

# Reading calls of these services have no resource-level permissions.
UNSCOPED_READS = ("autoscaling", "elbv2", "elb", "application-autoscaling")
_FIS_READS = ("ListTagsForResource", "TagResource", "UntagResource")


class Resources:
    """Derives ARNs from calls; look-ups of names go to moto's records, so hold the region's lock."""

    def __init__(self, region: Any) -> None:
        self.region = region
        self.account = region.settings.account_id

    def of(self, call: Call) -> list[str]:
        """The ARNs that the call's own action is checked against, at least one."""
        special = getattr(self, "_" + call.service.replace("-", "_"), None)
        if special is not None:
            found = list(dict.fromkeys(special(call)))
        elif call.service in UNSCOPED_READS and call.operation.startswith("Describe"):
            found = []
        else:
            rows = ALL.get(call.service) or SINGLE.get(call.service, ())
            found = list(self._by_rows(call, rows, every=call.service in ALL))
        return found or ["*"]

    def _by_rows(self, call: Call, rows: tuple[tuple[str, str], ...], every: bool) -> Iterator[str]:
        for path, template in rows:
            values = list(values_at(call.parameters, path.split(".")))
            for value in values:
                yield self._arn(template, str(value), call.region)
            if values and not every:
                return

    def _arn(self, template: str, value: str, region: str) -> str:
        if value.startswith("arn:"):
            return value
        return "arn:aws:" + template.format(v=value, r=region, a=self.account)

    def _ec2(self, call: Call) -> list[str]:
        return Ec2(self.region.ec2, call.region, self.account).resources(call.operation, call.parameters)

    def _sqs(self, call: Call) -> Iterator[str]:
        for arn in self._by_rows(call, SINGLE["sqs"], every=False):
            # A queue's URL ends with account and name.
            yield "arn:aws:sqs:{}:{}:{}".format(call.region, self.account, arn.split(":", 5)[5].rsplit("/", 1)[-1])

    def _sns(self, call: Call) -> Iterator[str]:
        for arn in self._by_rows(call, SINGLE["sns"], every=False):
            # A subscription is the topic's, as far as permissions go.
            yield ":".join(arn.split(":")[:6])

    def _s3(self, call: Call) -> list[str]:
        bucket, key = call.parameters.get("Bucket"), call.parameters.get("Key")
        if not bucket:
            return ["*"]
        return [f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")]

    def _s3control(self, call: Call) -> Iterator[str]:
        yield from self._by_rows(call, (("ResourceArn", "{v}"), ("Bucket", "s3:::{v}")), every=False)

    def _dynamodb(self, call: Call) -> Iterator[str]:
        table, index = call.parameters.get("TableName"), call.parameters.get("IndexName")
        if table:
            arn = self._arn("dynamodb:{r}:{a}:table/{v}", str(table), call.region)
            yield f"{arn}/index/{index}" if index and call.operation in ("Query", "Scan") else arn
        elif call.operation in ("BatchGetItem", "BatchWriteItem"):
            for name in call.parameters.get("RequestItems") or {}:
                yield self._arn("dynamodb:{r}:{a}:table/{v}", str(name), call.region)
        elif call.parameters.get("ResourceArn"):
            yield str(call.parameters["ResourceArn"])

    def _lambda(self, call: Call) -> Iterator[str]:
        if call.operation in ("ListFunctions", "CreateEventSourceMapping", "ListEventSourceMappings"):
            return
        name, uuid = str(call.parameters.get("FunctionName") or ""), call.parameters.get("UUID")
        if name:
            yield self.function(name, call.parameters.get("Qualifier"), call.region)
        elif uuid:
            yield f"arn:aws:lambda:{call.region}:{self.account}:event-source-mapping:{uuid}"
        elif call.parameters.get("Resource"):
            yield str(call.parameters["Resource"])

    def function(self, name: str, qualifier: Any, region: str) -> str:
        """A function's ARN by its name, partial or whole ARN: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""
        found = re.fullmatch(r"(?:arn:aws:lambda:[\w-]+:)?(?:\d{12}:)?(?:function:)?([^:]+)(?::([^:]+))?", name)
        plain, own = (found[1], found[2]) if found else (name, None)
        suffix = own or qualifier
        return f"arn:aws:lambda:{region}:{self.account}:function:{plain}" + (f":{suffix}" if suffix else "")

    def _autoscaling(self, call: Call) -> Iterator[str]:
        if call.operation.startswith("Describe"):
            return
        records = self.region.backend("autoscaling")
        names = list(values_at(call.parameters, ["AutoScalingGroupName"])) or list(
            values_at(call.parameters, ["Tags", "ResourceId"])
        )
        instance = call.parameters.get("InstanceId")
        if instance and not names:
            names = [
                group.name
                for group in records.autoscaling_groups.values()
                for state in group.instance_states
                if state.instance.id == instance
            ]
        for name in names:
            group = records.autoscaling_groups.get(name)
            default = f"arn:aws:autoscaling:{call.region}:{self.account}:autoScalingGroup:*:autoScalingGroupName/{name}"
            yield str(group.arn) if group is not None else default
        launch = call.parameters.get("LaunchConfigurationName")
        if launch and not names:
            prefix = f"arn:aws:autoscaling:{call.region}:{self.account}:launchConfiguration"
            yield f"{prefix}:*:launchConfigurationName/{launch}"

    def _elbv2(self, call: Call) -> Iterator[str]:
        if call.operation.startswith("Describe"):
            return
        if call.operation == "CreateTargetGroup":
            yield f"arn:aws:elasticloadbalancing:{call.region}:{self.account}:targetgroup/{call.parameters.get('Name')}/*"
        elif call.operation == "CreateListener":
            yield str(call.parameters.get("LoadBalancerArn"))
        else:
            yield from self._by_rows(call, SINGLE["elbv2"], every=False)

    def _iam(self, call: Call) -> Iterator[str]:
        listing = call.operation.startswith("List") and not (
            {"RoleName", "UserName", "GroupName", "PolicyArn", "InstanceProfileName"} & call.parameters.keys()
        )
        if listing or call.operation.startswith(("GetAccount", "GenerateCredential")):
            return
        records = self.region.backend("iam")
        named = {
            "InstanceProfileName": [(one.name, one.arn) for one in records.instance_profiles.values()],
            "RoleName": [(one.name, one.arn) for one in records.roles.values()],
            "UserName": [(one.name, one.arn) for one in records.users.values()],
            "GroupName": [(one.name, one.arn) for one in records.groups.values()],
        }
        for parameter, template in SINGLE["iam"]:
            value = call.parameters.get(parameter)
            if value is None or (parameter == "PolicyName" and call.operation != "CreatePolicy"):
                continue
            path = str(call.parameters.get("Path") or "/").lstrip("/") if call.operation.startswith("Create") else ""
            yield dict(named.get(parameter, [])).get(value) or self._arn(template, path + str(value), "")
            return

    def _secretsmanager(self, call: Call) -> Iterator[str]:
        prefix = f"arn:aws:secretsmanager:{call.region}:{self.account}:secret:"
        for value in (call.parameters.get("SecretId"), *call.parameters.get("SecretIdList", [])):
            if value:
                secret = self.region.backend("secretsmanager").secrets.get(str(value))
                unknown = str(value) if str(value).startswith("arn:") else f"{prefix}{value}-??????"
                yield str(secret.arn) if secret is not None else unknown
        if call.parameters.get("Name") and call.operation == "CreateSecret":
            yield prefix + str(call.parameters["Name"])

    def _kms(self, call: Call) -> Iterator[str]:
        for name in ("KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId"):
            if call.parameters.get(name):
                yield self.key(str(call.parameters[name]), call.region)
        if call.operation.endswith("Alias") and call.parameters.get("AliasName"):
            yield f"arn:aws:kms:{call.region}:{self.account}:{call.parameters['AliasName']}"

    def key(self, identifier: str, region: str) -> str:
        """A KMS key's ARN by its id, ARN, alias or alias ARN."""
        records = self.region.backend("kms")
        name = identifier.rpartition(":")[2] if ":alias/" in identifier else identifier
        if name.startswith("alias/"):
            for key in records.keys.values():
                if name in key.aliases:
                    return str(key.arn)
            return f"arn:aws:kms:{region}:{self.account}:{name}"
        return self._arn("kms:{r}:{a}:key/{v}", name, region)

    def _ssm(self, call: Call) -> Iterator[str]:
        if call.operation in ("SendCommand", "StartSession"):
            targets = [*call.parameters.get("InstanceIds", []), *values_at(call.parameters, ["Target"])]
            yield from (f"arn:aws:ec2:{call.region}:{self.account}:instance/{one}" for one in targets)
            document = call.parameters.get("DocumentName")
            if document:
                yield self._arn("ssm:{r}:{a}:document/{v}", str(document), call.region)
        elif "Parameter" in call.operation and not call.operation.startswith("Describe"):
            for path, template in SINGLE["ssm"]:
                for value in values_at(call.parameters, [path]):
                    yield self._arn(template, str(value).lstrip("/"), call.region)
        elif call.parameters.get("ResourceId") and call.parameters.get("ResourceType") == "Parameter":
            yield self._arn("ssm:{r}:{a}:parameter/{v}", str(call.parameters["ResourceId"]).lstrip("/"), call.region)

    def _logs(self, call: Call) -> Iterator[str]:
        group = call.parameters.get("logGroupName") or call.parameters.get("logGroupIdentifier")
        stream = call.parameters.get("logStreamName") or ""
        if call.operation in ("DescribeLogGroups",):
            prefix = call.parameters.get("logGroupNamePrefix") or ""
            yield f"arn:aws:logs:{call.region}:{self.account}:log-group:{prefix}:log-stream:"
        elif group:
            name = str(group).split(":log-group:")[-1].removesuffix(":*")
            yield f"arn:aws:logs:{call.region}:{self.account}:log-group:{name}:log-stream:{stream}"
        elif call.parameters.get("resourceArn"):
            yield str(call.parameters["resourceArn"])

    def _events(self, call: Call) -> Iterator[str]:
        bus = str(call.parameters.get("EventBusName") or "default").rpartition("/")[2]
        rule = call.parameters.get("Rule") or (call.parameters.get("Name") if "Rule" in call.operation else None)
        if call.operation == "PutEvents":
            for entry in call.parameters.get("Entries", []):
                yield self._arn("events:{r}:{a}:event-bus/{v}", str(entry.get("EventBusName") or "default"), call.region)
        elif rule:
            path = rule if bus == "default" else f"{bus}/{rule}"
            yield f"arn:aws:events:{call.region}:{self.account}:rule/{path}"
        elif call.parameters.get("ResourceARN"):
            yield str(call.parameters["ResourceARN"])
        elif "EventBus" in call.operation and call.parameters.get("Name"):
            yield self._arn("events:{r}:{a}:event-bus/{v}", str(call.parameters["Name"]), call.region)

    def _fis(self, call: Call) -> Iterator[str]:
        prefix = f"arn:aws:fis:{call.region}:{self.account}:"
        template = call.parameters.get("experimentTemplateId")
        identifier = call.parameters.get("id")
        if call.operation in _FIS_READS:
            yield str(call.parameters.get("resourceArn"))
        if call.operation == "CreateExperimentTemplate":
            yield prefix + "experiment-template/*"
        if call.operation in ("CreateExperimentTemplate", "UpdateExperimentTemplate"):
            yield from (f"{prefix}action/{one}" for one in values_at(call.parameters, ["actions", "*", "actionId"]))
        if template:
            yield f"{prefix}experiment-template/{template}"
        if call.operation == "StartExperiment":
            yield prefix + "experiment/*"
        elif identifier and not call.operation.startswith("GetAction"):
            kind = "experiment-template" if "Template" in call.operation else "experiment"
            yield f"{prefix}{kind}/{identifier}"

    def _cloudfront(self, call: Call) -> Iterator[str]:
        identifier = call.parameters.get("Id")
        kinds = {
            "OriginAccessControl": "origin-access-control",
            "CachePolicy": "cache-policy",
            "OriginRequestPolicy": "origin-request-policy",
            "ResponseHeadersPolicy": "response-headers-policy",
            "OriginAccessIdentity": "origin-access-identity",
            "Distribution": "distribution",
        }
        for part, kind in kinds.items():
            if part in call.operation and (identifier or call.operation.startswith("Create")):
                yield f"arn:aws:cloudfront::{self.account}:{kind}/{identifier or '*'}"
                return
        yield from self._by_rows(call, SINGLE["cloudfront"], every=False)


def values_at(node: Any, path: list[str]) -> Iterator[Any]:
    """What is at a path of names ("*" for each of a mapping's values); lists on the way are gone through."""
    if isinstance(node, list):
        for item in node:
            yield from values_at(item, path)
    elif not path:
        if node is not None:
            yield node
    elif isinstance(node, dict):
        inner = list(node.values()) if path[0] == "*" else [node[path[0]]] if path[0] in node else []
        for item in inner:
            yield from values_at(item, path[1:])
