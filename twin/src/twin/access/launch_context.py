"""Condition keys of a launch, for each resource that it takes or makes.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

from __future__ import annotations

from typing import Any

from twin.access.resources_ec2 import Ec2

# Parameters that put another resource in the place of the launch template's.
OVERRIDES = {
    "image": ("ImageId",),
    "key-pair": ("KeyName",),
    "network-interface": ("NetworkInterfaces",),
    "security-group": ("NetworkInterfaces", "SecurityGroupIds", "SecurityGroups"),
    "subnet": ("NetworkInterfaces", "SubnetId"),
    "volume": ("BlockDeviceMappings",),
}


def of_launch(ec2: Ec2, parameters: dict[str, Any], arn: str) -> dict[str, list[str]]:
    """The keys, in lower case, that RunInstances with these parameters has for the resource."""
    found: dict[str, list[str]] = {}
    kind, _, identifier = arn.split(":", 5)[5].partition("/")
    launch = ec2.launch(parameters)
    if kind == "instance":
        tokens = (launch.get("MetadataOptions") or {}).get("HttpTokens")
        found |= {"ec2:instancetype": [str(launch["InstanceType"])]} if launch.get("InstanceType") else {}
        found |= {"ec2:metadatahttptokens": [str(tokens)]} if tokens else {}
    image = ec2.records.amis.get(identifier) if kind == "image" else None
    if image is not None:
        found["ec2:owner"] = [str(image.owner_id)]
    template = ec2.template(parameters["LaunchTemplate"]) if parameters.get("LaunchTemplate") else None
    if template is not None:
        overridden = any(parameters.get(name) for name in OVERRIDES.get(kind, ()))
        found["ec2:launchtemplate"] = [ec2.arn("launch-template", template.id)]
        found["ec2:islaunchtemplateresource"] = ["false" if overridden else "true"]
    return found
