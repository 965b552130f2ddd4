"""The resources that EC2's actions touch, by their parameters.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

from __future__ import annotations

from typing import Any

# Parameters that name a resource, and its type.
IDENTIFIERS = {
    "AllocationId": "elastic-ip",
    "AllocationIds": "elastic-ip",
    "CapacityReservationId": "capacity-reservation",
    "DhcpOptionsId": "dhcp-options",
    "EgressOnlyInternetGatewayId": "egress-only-internet-gateway",
    "FlowLogIds": "vpc-flow-log",
    "GroupId": "security-group",
    "SecurityGroupIds": "security-group",
    "Groups": "security-group",
    "ImageId": "image",
    "InstanceId": "instance",
    "InstanceIds": "instance",
    "InternetGatewayId": "internet-gateway",
    "KeyName": "key-pair",
    "LaunchTemplateId": "launch-template",
    "NatGatewayId": "natgateway",
    "NetworkAclId": "network-acl",
    "NetworkInterfaceId": "network-interface",
    "PrefixListId": "prefix-list",
    "RouteTableId": "route-table",
    "RouteTableIds": "route-table",
    "SnapshotId": "snapshot",
    "SubnetId": "subnet",
    "SubnetIds": "subnet",
    "TransitGatewayId": "transit-gateway",
    "VolumeId": "volume",
    "VpcEndpointId": "vpc-endpoint",
    "VpcEndpointIds": "vpc-endpoint",
    "VpcId": "vpc",
    "VpcPeeringConnectionId": "vpc-peering-connection",
    "VpnGatewayId": "vpn-gateway",
}
# What each creating action makes; its identifier is not known yet. Key pairs are known by the name they are given.
CREATED = {
    "AllocateAddress": "elastic-ip",
    "CopyImage": "image",
    "CopySnapshot": "snapshot",
    "CreateDhcpOptions": "dhcp-options",
    "CreateEgressOnlyInternetGateway": "egress-only-internet-gateway",
    "CreateFlowLogs": "vpc-flow-log",
    "CreateImage": "image",
    "CreateInternetGateway": "internet-gateway",
    "CreateLaunchTemplate": "launch-template",
    "CreateManagedPrefixList": "prefix-list",
    "CreateNatGateway": "natgateway",
    "CreateNetworkAcl": "network-acl",
    "CreateNetworkInterface": "network-interface",
    "CreatePlacementGroup": "placement-group",
    "CreateRouteTable": "route-table",
    "CreateSecurityGroup": "security-group",
    "CreateSnapshot": "snapshot",
    "CreateSubnet": "subnet",
    "CreateTransitGateway": "transit-gateway",
    "CreateVolume": "volume",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc-endpoint",
    "CreateVpcPeeringConnection": "vpc-peering-connection",
    "RegisterImage": "image",
    "AuthorizeSecurityGroupEgress": "security-group-rule",
    "AuthorizeSecurityGroupIngress": "security-group-rule",
}
# Actions that AWS checks against fewer resources than their parameters name.
ONLY = {
    "CreateImage": ("image", "instance"),
    "CreateSubnet": ("subnet", "vpc"),
    "DescribeInstanceAttribute": (),
}
_OWNERLESS = ("image", "snapshot")


class Ec2:
    """Derives ARNs in one region and account; `records` is moto's EC2 backend, under the region's lock."""

    def __init__(self, records: Any, region: str, account: str) -> None:
        self.records = records
        self.region = region
        self.account = account

    def arn(self, kind: str, identifier: str) -> str:
        # Images and snapshots may belong to others: their ARN has no account.
        owner = "" if kind in _OWNERLESS else self.account
        return f"arn:aws:ec2:{self.region}:{owner}:{kind}/{identifier}"

    def resources(self, operation: str, parameters: dict[str, Any]) -> list[str]:
        if operation.startswith(("Describe", "Get", "Search")) or operation.endswith("Default"):
            return ["*"]
        if operation == "RunInstances":
            return self.run_instances(parameters)
        if operation in ("CreateTags", "DeleteTags"):
            return [self.arn(self.kind_of(one), one) for one in parameters.get("Resources", [])] or ["*"]
        found: dict[str, None] = {}
        for name, value in parameters.items():
            kind = IDENTIFIERS.get(name)
            if kind:
                for one in value if isinstance(value, list) else [value]:
                    found[self.arn(kind, str(one))] = None
        if "LaunchTemplateName" in parameters and operation != "CreateLaunchTemplate":
            template = self.template({"LaunchTemplateName": parameters["LaunchTemplateName"]})
            found[self.arn("launch-template", template.id if template else "*")] = None
        if "GroupName" in parameters and operation in ("DeleteSecurityGroup",):
            found[self.arn("security-group", self.group(str(parameters["GroupName"])))] = None
        if operation in CREATED:
            found[self.arn(CREATED[operation], "*")] = None
        kept = [arn for arn in found if operation not in ONLY or arn.split(":")[5].split("/")[0] in ONLY[operation]]
        return kept or ["*"]

    def run_instances(self, parameters: dict[str, Any]) -> list[str]:
        """Everything that a launch takes or makes: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html"""
        launch = self.launch(parameters)
        found = [self.arn("instance", "*")]
        if launch.get("ImageId"):
            found.append(self.arn("image", str(launch["ImageId"])))
        if "LaunchTemplate" in parameters:
            template = self.template(parameters["LaunchTemplate"])
            found.append(self.arn("launch-template", template.id if template else "*"))
        if launch.get("KeyName"):
            found.append(self.arn("key-pair", str(launch["KeyName"])))
        groups = list(launch.get("SecurityGroupIds") or [])
        groups += [self.group(str(name)) for name in launch.get("SecurityGroups") or []]
        subnets = [launch["SubnetId"]] if launch.get("SubnetId") else []
        existing = []
        for interface in launch.get("NetworkInterfaces") or []:
            groups += interface.get("Groups") or interface.get("SecurityGroupId") or []
            subnets += [interface["SubnetId"]] if interface.get("SubnetId") else []
            existing += [interface["NetworkInterfaceId"]] if interface.get("NetworkInterfaceId") else []
        found += [self.arn("security-group", str(one)) for one in groups or ["*"]]
        found += [self.arn("subnet", str(one)) for one in subnets or ["*"]]
        found += [self.arn("network-interface", str(one)) for one in existing or ["*"]]
        found.append(self.arn("volume", "*"))
        return list(dict.fromkeys(found))

    def launch(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """RunInstances' parameters with the launch template's under them."""
        specification = parameters.get("LaunchTemplate")
        template = self.template(specification) if specification else None
        if template is None:
            return parameters
        version = str((specification or {}).get("Version") or template.default_version_number)
        if version.startswith("$"):
            version = str(len(template.versions) if version == "$Latest" else template.default_version_number)
        number = int(version) if version.isdigit() else 0
        data = template.versions[number - 1].data if 0 < number <= len(template.versions) else {}
        under = {{"SecurityGroupId": "SecurityGroupIds"}.get(name, name): value for name, value in data.items()}
        return {**under, **parameters}

    def template(self, specification: dict[str, Any]) -> Any | None:
        identifier = specification.get("LaunchTemplateId") or self.records.launch_template_name_to_ids.get(
            specification.get("LaunchTemplateName")
        )
        return self.records.launch_templates.get(identifier)

    def group(self, name: str) -> str:
        for groups in self.records.groups.values():
            for group in groups.values():
                if group.name == name:
                    return str(group.id)
        return "*"

    @staticmethod
    def kind_of(identifier: str) -> str:
        """A resource's type by its identifier's prefix, for CreateTags."""
        return PREFIXES.get(identifier.rpartition("-")[0], identifier.rpartition("-")[0])


PREFIXES = {
    "ami": "image",
    "dopt": "dhcp-options",
    "eigw": "egress-only-internet-gateway",
    "eipalloc": "elastic-ip",
    "eni": "network-interface",
    "fl": "vpc-flow-log",
    "i": "instance",
    "igw": "internet-gateway",
    "key": "key-pair",
    "lt": "launch-template",
    "nat": "natgateway",
    "acl": "network-acl",
    "pl": "prefix-list",
    "rtb": "route-table",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "snap": "snapshot",
    "subnet": "subnet",
    "tgw": "transit-gateway",
    "vol": "volume",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
    "pcx": "vpc-peering-connection",
    "vgw": "vpn-gateway",
}
