"""Network ACLs as rules for packets: numbered, without memory, the last one denies.

https://docs.aws.amazon.com/vpc/latest/userguide/nacl-rules.html
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models import network_acls

from twin.bodies.vpc_rules import Acl, Entry
from twin.region.patch import wrap
from twin.region.region import Region
from twin.region.security_groups import match_of

_LAST = 32767  # AWS shows it as "*": denies what no other entry matches


def install(region: Region) -> None:
    for name in (
        "create_network_acl_entry",
        "delete_network_acl_entry",
        "replace_network_acl_entry",
        "replace_network_acl_association",
    ):

        @wrap(network_acls.NetworkAclBackend, name)
        def changed(original: Any, *args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            region.wake("Networks")
            return result


def acls_of(ec2: Any, vpc_id: str) -> dict[str, Acl]:
    """The VPC's network ACLs, by id."""
    found = {}
    for acl in ec2.network_acls.values():
        if acl.vpc_id == vpc_id:
            entries = [entry for entry in acl.network_acl_entries if int(entry.rule_number) < _LAST and entry.cidr_block]
            found[acl.id] = Acl(
                ingress=tuple(_entry(entry) for entry in entries if not _egress(entry)),
                egress=tuple(_entry(entry) for entry in entries if _egress(entry)),
            )
    return found


def acl_of_subnet(ec2: Any, subnet: Any) -> str:
    """Id of the subnet's network ACL."""
    default = ""
    for acl in ec2.network_acls.values():
        if any(association.subnet_id == subnet.id for association in acl.associations):
            return str(acl.id)
        if acl.vpc_id == subnet.vpc_id and acl.default:
            default = acl.id
    return default


def allows(entries: tuple[Entry, ...], protocol: str, port: int) -> bool:
    """Whether the first entry that matches, of those for any address, allows the traffic."""
    for entry in sorted(entries, key=lambda entry: entry.number):
        if entry.cidr == "0.0.0.0/0" and entry.match.covers(protocol, port):
            return entry.allow
    return False


def _egress(entry: Any) -> bool:
    return str(entry.egress).lower() == "true"


def _entry(record: Any) -> Entry:
    protocol = str(record.protocol)
    icmp = protocol in ("1", "icmp")
    first, last = (record.icmp_type, record.icmp_code) if icmp else (record.port_range_from, record.port_range_to)
    return Entry(int(record.rule_number), record.rule_action == "allow", match_of(protocol, first, last), record.cidr_block)
