"""What of EC2's networking the twin does not have is refused, rather than recorded without effect.

Code and form as in https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from twin.region.patch import replace, wrap
from twin.region.region import Region

_ACTIONS = (
    "accept_vpc_peering_connection",
    "create_vpc_peering_connection",
    "create_carrier_gateway",
    "create_customer_gateway",
    "create_egress_only_internet_gateway",
    "create_flow_logs",
    "create_traffic_mirror_filter",
    "create_traffic_mirror_target",
    "create_transit_gateway",
    "create_transit_gateway_peering_attachment",
    "create_transit_gateway_route_table",
    "create_transit_gateway_vpc_attachment",
    "create_vpc_endpoint_service_configuration",
    "create_vpn_connection",
    "create_vpn_gateway",
    "attach_vpn_gateway",
    "assign_ipv6_addresses",
    "associate_subnet_cidr_block",
    "enable_vpc_classic_link",
)
_ROUTES = (
    "DestinationIpv6CidrBlock",
    "CarrierGatewayId",
    "EgressOnlyInternetGatewayId",
    "InstanceId",
    "LocalGatewayId",
    "NetworkInterfaceId",
    "TransitGatewayId",
    "VpcEndpointId",
    "VpcPeeringConnectionId",
)
_PARAMETERS = {
    "create_route": _ROUTES,
    "replace_route": _ROUTES,
    "associate_vpc_cidr_block": ("AmazonProvidedIpv6CidrBlock", "Ipv6CidrBlock"),
    "create_vpc": ("AmazonProvidedIpv6CidrBlock", "Ipv6CidrBlock", "Ipv6IpamPoolId", "Ipv4IpamPoolId"),
    "create_subnet": ("Ipv6CidrBlock", "Ipv6Native", "OutpostArn"),
}


class Unsupported(EC2ClientError):
    def __init__(self, what: str) -> None:
        super().__init__("UnsupportedOperation", f"{what} is not supported by the twin.")


def install(region: Region) -> None:
    for name in _ACTIONS:
        replace(EC2Response, name)(_refuse(name))
    for name, parameters in _PARAMETERS.items():

        @wrap(EC2Response, name)
        def checked(original: Any, self: Any, *, name: str = name, parameters: tuple[str, ...] = parameters) -> Any:
            for parameter in parameters:
                if str(self._get_param(parameter) or "false").lower() != "false":
                    raise Unsupported(f"{_action(name)}'s {parameter}")
            return original(self)


def _refuse(name: str) -> Any:
    def refuse(self: Any) -> Any:
        raise Unsupported(_action(name))

    return refuse


def _action(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
