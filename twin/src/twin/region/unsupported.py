"""What the twin would otherwise take and silently do without: refused with the service's own code.

A parameter is here when leaving it out changes what happens. Harmless ones (a cost allocation tag, a credit option) are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin.access import s3_actions
from twin.access.failures import Failure, Kind

if TYPE_CHECKING:
    from twin.access.requests import Call

# The code that each service has for a value it does not take; others get ValidationException.
CODES = {
    "ec2": "UnsupportedOperation",
    "autoscaling": "ValidationError",
    "lambda": "InvalidParameterValueException",
    "rds": "InvalidParameterCombination",
    "elbv2": "InvalidConfigurationRequest",
    "sts": "ValidationError",
}


# Values that ask for nothing.
_OFF: tuple[Any, ...] = (None, False, "", [], {})


@dataclass(frozen=True)
class Refusal:
    """`path` through the parameters, with dots; values in `fine` do what the twin does anyway."""

    path: tuple[str, ...]
    why: str
    fine: tuple[Any, ...]


_parameters: dict[tuple[str, str], list[Refusal]] = {}
_operations: dict[tuple[str, str], str] = {}


def refuse(service: str, operation: str, parameter: str, why: str, fine: tuple[Any, ...] = _OFF) -> None:
    """Refuse a parameter of an operation (names as in botocore's models), unless its value is one of `fine`."""
    _parameters.setdefault((service, operation), []).append(Refusal(tuple(parameter.split(".")), why, fine))


def refuse_operation(service: str, operation: str, why: str) -> None:
    """Refuse an operation that moto records and nothing stands behind."""
    _operations[service, operation] = why


def check(call: Call) -> None:
    """Raises Failure when the call asks for what the twin would not do."""
    if call.service == "s3" and call.operation in s3_actions.UNSUPPORTED:
        raise Failure(Kind.UNSUPPORTED, f"{call.operation} is not supported by the twin.")
    why = _operations.get((call.service, call.operation))
    if why:
        raise Failure(Kind.UNSUPPORTED, f"{call.operation} is not supported by the twin: {why}.")
    for refusal in _parameters.get((call.service, call.operation), ()):
        for value in _values(call.parameters, refusal.path):
            if value not in refusal.fine:
                name = ".".join(refusal.path)
                shown = f"{name} {value}" if isinstance(value, str | int) and not isinstance(value, bool) else name
                words = f"{shown} is not supported by the twin: {refusal.why}."
                raise Failure(Kind.OWN, words, CODES.get(call.service, "ValidationException"))


def _values(node: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _values(item, path)
    elif isinstance(node, dict) and path[0] in node:
        yield from _values(node[path[0]], path[1:])


_NO_SPOT = "instances are on-demand, as there is no market"
_LAUNCHES = {
    "RunInstances": "",
    "CreateLaunchTemplate": "LaunchTemplateData.",
    "CreateLaunchTemplateVersion": "LaunchTemplateData.",
}
for _operation, _prefix in _LAUNCHES.items():
    for _name, _why, _fine in (
        ("InstanceMarketOptions", _NO_SPOT, _OFF),
        ("HibernationOptions.Configured", "a container has no memory image to keep", _OFF),
        ("EnclaveOptions.Enabled", "a container has no enclaves", _OFF),
        ("ElasticGpuSpecifications", "there are no GPUs", _OFF),
        ("ElasticInferenceAccelerators", "there are no accelerators", _OFF),
        ("LicenseSpecifications", "licences are not counted", _OFF),
        ("CapacityReservationSpecification.CapacityReservationTarget", "there are no capacity reservations", _OFF),
        ("Placement.Tenancy", "all instances share one machine", (*_OFF, "default")),
        ("Placement.GroupName", "all instances share one machine", _OFF),
        ("Placement.HostId", "all instances share one machine", _OFF),
        ("KernelId", "instances run on the machine's own kernel", _OFF),
        ("RamdiskId", "instances run on the machine's own kernel", _OFF),
    ):
        refuse("ec2", _operation, _prefix + _name, _why, _fine)
for _name in ("RequestSpotInstances", "RequestSpotFleet", "CreateFleet"):
    refuse_operation("ec2", _name, _NO_SPOT)

for _operation in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup"):
    for _name, _why, _fine in (
        ("MixedInstancesPolicy", "groups launch one instance type from one launch template", _OFF),
        ("CapacityRebalance", _NO_SPOT, _OFF),
        ("PlacementGroup", "all instances share one machine", _OFF),
        ("LoadBalancerNames", "there are no Classic Load Balancers", _OFF),
        ("DesiredCapacityType", "capacity is counted in instances", (*_OFF, "units")),
        ("InstanceId", "a group is made from a launch template", _OFF),
    ):
        refuse("autoscaling", _operation, _name, _why, _fine)
refuse("autoscaling", "PutScalingPolicy", "PredictiveScalingConfiguration", "there is no forecast")
for _name in ("PutWarmPool", "DeleteWarmPool"):
    refuse_operation("autoscaling", _name, "a container starts in less time than a warm pool saves")

for _operation in ("CreateFunction", "UpdateFunctionConfiguration", "UpdateFunctionCode"):
    for _name, _why, _fine in (
        ("Layers", "put the packages into the function's zip", _OFF),
        ("PackageType", "package the function as a zip", (*_OFF, "Zip")),
        ("ImageUri", "package the function as a zip", _OFF),
        ("ImageConfig", "package the function as a zip", _OFF),
        ("Code.ImageUri", "package the function as a zip", _OFF),
        ("VpcConfig.SubnetIds", "functions run outside VPCs", _OFF),
        ("Architectures", "functions run on x86_64", (*_OFF, "x86_64", ["x86_64"])),
        ("FileSystemConfigs", "there are no file systems to mount", _OFF),
        ("SnapStart.ApplyOn", "execution environments start anew", (*_OFF, "None")),
        ("CodeSigningConfigArn", "signatures of code are not checked", _OFF),
    ):
        refuse("lambda", _operation, _name, _why, _fine)
for _name in ("PutProvisionedConcurrencyConfig", "PublishLayerVersion", "CreateCodeSigningConfig"):
    refuse_operation("lambda", _name, "nothing stands behind it")

for _operation in ("CreateDBInstance", "ModifyDBInstance", "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime"):
    for _name, _why in (
        ("DBClusterIdentifier", "there are DB instances only"),
        ("EnableIAMDatabaseAuthentication", "databases take passwords"),
        ("Domain", "there is no directory"),
        ("DomainFqdn", "there is no directory"),
        ("ProcessorFeatures", "databases share the machine's processors"),
        ("CharacterSetName", "databases are in UTF-8"),
        ("DBSecurityGroups", "use VPC security groups"),
        ("CustomIamInstanceProfile", "there is no RDS Custom"),
    ):
        refuse("rds", _operation, _name, _why)
for _name in (
    "CreateDBCluster",
    "CreateDBInstanceReadReplica",
    "CreateDBProxy",
    "CreateGlobalCluster",
    "RestoreDBInstanceFromS3",
):
    refuse_operation("rds", _name, "there are DB instances only")

_ALB = "there are Application Load Balancers only"
refuse("elbv2", "CreateLoadBalancer", "Type", _ALB, (*_OFF, "application"))
refuse("elbv2", "CreateLoadBalancer", "IpAddressType", "addresses are IPv4", (*_OFF, "ipv4"))
refuse("elbv2", "SetIpAddressType", "IpAddressType", "addresses are IPv4", (*_OFF, "ipv4"))
refuse("elbv2", "CreateTargetGroup", "Protocol", _ALB, (*_OFF, "HTTP", "HTTPS"))
refuse("elbv2", "CreateTargetGroup", "ProtocolVersion", "targets are spoken to in HTTP/1.1", (*_OFF, "HTTP1"))
refuse("elbv2", "CreateTargetGroup", "TargetType", "targets are instances or addresses", (*_OFF, "instance", "ip"))
for _operation, _name in (
    *(("CreateListener", "DefaultActions.Type"), ("ModifyListener", "DefaultActions.Type")),
    *(("CreateRule", "Actions.Type"), ("ModifyRule", "Actions.Type")),
):
    refuse("elbv2", _operation, _name, "nobody can be asked to sign in", (*_OFF, "forward", "redirect", "fixed-response"))
for _operation in ("CreateListener", "ModifyListener"):
    refuse("elbv2", _operation, "MutualAuthentication.Mode", "client certificates are not asked for", (*_OFF, "off"))
refuse_operation("wafv2", "AssociateWebACL", "load balancers let every request through to their rules")

refuse("iam", "CreateUser", "PermissionsBoundary", "roles have boundaries, users have not")
for _name in ("AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "AssumeRoot", "GetFederationToken"):
    refuse_operation("sts", _name, "there are no identity providers")
