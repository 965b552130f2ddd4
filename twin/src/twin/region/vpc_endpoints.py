"""Which of AWS's services an interface in a VPC reaches: all of them by a way out, else those with an endpoint.

Here all services answer at one address, so the rules for packets can't tell them apart; the credentials' scope can. What
would not reach its service is kept without an answer, as its packets would be lost on AWS.
https://docs.aws.amazon.com/vpc/latest/privatelink/concepts.html
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterable
from typing import Any

from twin.region.region import Region
from twin.region.routes import routes_of, table_of, way

# Set by the server that listens in a VPC.
VPC_KEY = "twin.vpc"
# A public address that stands for AWS's services where groups and routes are looked up by address.
AWS_ADDRESS = "52.216.0.1"
_SILENCE_SECONDS = 120.0  # longer than any client waits by default
_SCOPE = re.compile(r"Credential=[^/\s]+/\d{8}/[^/]+/([a-z0-9-]+)/aws4_request")


def install(region: Region) -> None:
    def gate(environ: dict[str, Any]) -> Any | None:
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION") or environ.get("QUERY_STRING", "").replace("%2F", "/"))
        vpc_id, address = environ.get(VPC_KEY), environ.get("REMOTE_ADDR", "")
        if scope is None or vpc_id is None or reaches(region, vpc_id, address, scope.group(1)):
            return None
        return lambda environ, start_response: _silence(region, vpc_id, address, scope.group(1), environ, start_response)

    region.gates.append(gate)


def reaches(region: Region, vpc_id: str, address: str, service: str) -> bool:
    """Whether requests to `service` (as credentials are scoped to it) get there from `address` in the VPC."""
    with region.records():
        ec2 = region.ec2
        for interface in ec2.enis.values():
            ended = interface.instance is not None and interface.instance.state == "terminated"
            if interface.private_ip_address == address and interface.vpc_id == vpc_id and not ended:
                subnet = interface.subnet
                if region.faults.disrupted.get(subnet.id) == service:  # scopes s3 and dynamodb
                    return False
                out = way(routes_of(ec2, subnet), AWS_ADDRESS)
                if out == "nat" or (out == "internet" and interface.public_ip):
                    return True
                return service in services_of(ec2, subnet)
    return True


def services_of(ec2: Any, subnet: Any) -> set[str]:
    """Services with an endpoint that the subnet may use: a gateway in its route table, or an interface in its VPC."""
    table = table_of(ec2, subnet).id
    return {
        endpoint.service_name.split(".")[3]  # com.amazonaws.REGION.SERVICE, sometimes with more behind it
        for endpoint in ec2.vpc_end_points.values()
        if endpoint.vpc_id == subnet.vpc_id
        and endpoint.state == "available"
        and (endpoint.network_interface_ids or table in (endpoint.route_table_ids or []))
    }


def _silence(
    region: Region, vpc_id: str, address: str, service: str, environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    """Say nothing until the client gives up; once the service can be reached, let the client try again."""
    connection: socket.socket = environ["werkzeug.socket"]
    gone = select.poll()
    gone.register(connection, select.POLLRDHUP)
    end = time.monotonic() + _SILENCE_SECONDS
    while time.monotonic() < end and not gone.poll(500) and not reaches(region, vpc_id, address, service):
        pass
    connection.shutdown(socket.SHUT_RDWR)
    start_response("504 Gateway Timeout", [])  # into a closed connection
    return []
