"""Security groups as rules for packets; what moto loses of them; and each change noticed at once.

https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models import elastic_network_interfaces, instances, security_groups
from moto.ec2.models.security_groups import SecurityGroupRule

from twin.bodies.vpc_rules import Group, Match, Rule
from twin.region.patch import replace, wrap
from twin.region.region import Region

_CHANGES = (
    "authorize_security_group_ingress",
    "authorize_security_group_egress",
    "revoke_security_group_ingress",
    "revoke_security_group_egress",
    "modify_security_group_rules",
)


def install(region: Region) -> None:
    def description(self: Any) -> str | None:
        """moto looks into the address range alone."""
        found: str | None = self.ip_range.get("Description") or self.source_group.get("Description")
        return found

    replace(SecurityGroupRule, "description")(property(description))  # type: ignore[arg-type]
    for name in _CHANGES:
        _notice(region, security_groups.SecurityGroupBackend, name)
    for name in ("create_network_interface", "delete_network_interface"):
        _notice(region, elastic_network_interfaces.NetworkInterfaceBackend, name)
    _install_membership(region)
    _install_default_groups(region)


def _install_default_groups(region: Region) -> None:
    """A default group lets its members in, which moto leaves out.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
    """

    def let_members_in(ec2: Any, group: Any) -> None:
        source = {"GroupId": group.id, "OwnerId": ec2.account_id, "UserId": ec2.account_id}
        group.ingress_rules.append(SecurityGroupRule(ec2, "-1", group.id, None, None, None, source, is_egress=False))

    @wrap(security_groups.SecurityGroupBackend, "create_security_group")
    def create_security_group(original: Any, self: Any, *args: Any, is_default: bool | None = None, **options: Any) -> Any:
        group = original(self, *args, is_default=is_default, **options)
        if is_default:
            let_members_in(self, group)
        return group

    with region.records():
        for groups in region.ec2.groups.values():
            for group in groups.values():
                if group.is_default and not group.ingress_rules:
                    let_members_in(region.ec2, group)


def _notice(region: Region, owner: Any, name: str) -> None:
    """Let the network's loop look after the method's change."""

    @wrap(owner, name)
    def changed(original: Any, *args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        region.wake("Networks")
        return result


def _install_membership(region: Region) -> None:
    """An interface is in the groups that were set last, through the instance or through the interface itself.

    moto keeps two lists, changes one, and answers with both.
    """
    interface_class = elastic_network_interfaces.NetworkInterface
    replace(interface_class, "group_set")(property(lambda self: list(self._group_set)))  # type: ignore[arg-type]

    @wrap(elastic_network_interfaces.NetworkInterfaceBackend, "modify_network_interface_attribute")
    def modify_network_interface_attribute(
        original: Any, self: Any, eni_id: str, group_ids: Any, *args: Any, **options: Any
    ) -> Any:
        result = original(self, eni_id, group_ids, *args, **options)
        interface = self.get_network_interface(eni_id)
        if group_ids and interface.instance and interface.device_index == 0:
            interface.instance.security_groups = list(interface._group_set)
        region.wake("Networks")
        return result

    @wrap(instances.InstanceBackend, "modify_instance_security_groups")
    def modify_instance_security_groups(original: Any, self: Any, instance_id: str, *args: Any, **options: Any) -> Any:
        instance = original(self, instance_id, *args, **options)
        instance.nics[0]._group_set = list(instance.security_groups)
        region.wake("Networks")
        return instance


def match_of(protocol: str | None, first: Any, last: Any) -> Match:
    """A rule's protocol and ports; `first` and `last` are ICMP's type and code for "icmp"."""
    name = {None: "-1", "all": "-1", "6": "tcp", "17": "udp", "1": "icmp"}.get(protocol, protocol) or "-1"
    if name == "-1" or first is None:
        return Match(name)
    return Match(name, (int(first), int(-1 if last is None else last)))


def groups_of(ec2: Any, vpc_id: str) -> dict[str, Group]:
    """The VPC's security groups, by id; rules for IPv6 addresses are left out, as the twin has none."""

    def rules(records: list[Any]) -> tuple[Rule, ...]:
        return tuple(rule for record in records if (rule := _rule(ec2, vpc_id, record)) is not None)

    return {group.id: Group(rules(group.ingress_rules), rules(group.egress_rules)) for group in ec2.groups[vpc_id].values()}


def _rule(ec2: Any, vpc_id: str, record: Any) -> Rule | None:
    match = match_of(record.ip_protocol, record.from_port, record.to_port)
    if record.cidr_ipv4:
        return Rule(match, cidrs=(record.cidr_ipv4,))
    group = record.source_group.get("GroupId")
    if group:
        # A group that was deleted, or one of another VPC, has no member here.
        return Rule(match, groups=(group,)) if group in ec2.groups[vpc_id] else None
    if record.prefix_list_id in ec2.managed_prefix_lists:
        prefixes = ec2.managed_prefix_lists[record.prefix_list_id]
        return Rule(match, cidrs=prefixes_of(prefixes), aws=prefixes.owner_id == "AWS")
    return None


def prefixes_of(prefix_list: Any) -> tuple[str, ...]:
    """The IPv4 blocks of a prefix list's current version; moto gives AWS's own lists no version."""
    versions = prefix_list.entries
    entries = versions.get(prefix_list.version) or (versions[max(versions)] if versions else [])
    return tuple(entry["Cidr"] for entry in entries if prefix_list.address_family == "IPv4")
