"""What an RDS instance's record says beyond moto: its nodes, their network interfaces, and where its data comes from.

All of it is plain data on moto's records, so that it survives with them.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moto.rds.exceptions import RDSClientError

from twin.bodies.replication import is_promotable
from twin.region.region import Region

# What RDS's passwords may have but / @ " ' and space: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
PASSWORD_CHARACTERS = string.ascii_letters + string.digits + "!#$%&()*+-.:;<=>?[]^_{|}~"
PASSWORD_LENGTH = 32


@dataclass
class Node:
    """One server of an instance. `name` is its container's and its volume's, `interface` moto's network interface."""

    name: str
    interface: Any

    @property
    def zone(self) -> str:
        return str(self.interface.subnet.availability_zone)

    @property
    def address(self) -> str:
        return str(self.interface.private_ip_address)


@dataclass(frozen=True)
class Source:
    """What a new instance is restored from: a copy of data, with `wal` and up to `until` for a point in time."""

    copy: str
    wal: str | None = None
    until: datetime | None = None


def has_body(database: Any) -> bool:
    return hasattr(database, "node")


def volume(region: Region, node: Node) -> Path:
    return region.settings.state / "volumes" / node.name


def backups(region: Region, database: Any) -> Path:
    """The folder of an instance's automated backups: finished log in `wal/`, copies of the data in `base/`."""
    return region.settings.state / "volumes" / "backups" / str(database.dbi_resource_id)


def snapshot_folder(region: Region) -> Path:
    return region.settings.state / "volumes" / "snapshots"


def unsupported(what: str) -> RDSClientError:
    return RDSClientError("InvalidParameterValue", f"{what} is not supported by the twin.")


def give_body(region: Region, database: Any, subnet: Any) -> None:
    """Let a new record have a body, with its primary in `subnet`. Call with the lock held."""
    database.status = "creating"
    # moto has one constant for all; Terraform's provider looks instances up by it.
    database.dbi_resource_id = "db-" + base64.b32encode(secrets.token_bytes(17)).decode()[:26]
    database.replication_password = secrets.token_urlsafe(24)
    database.nodes_made = 0
    database.standby = None
    database.retired = []
    database.secondary_availability_zone = None
    database.restorable_until = None
    database.source = None
    database.failover_requested = False
    set_primary(database, new_node(region, database, subnet))


def set_primary(database: Any, node: Node) -> None:
    database.node = node
    database.availability_zone = node.zone


def set_standby(database: Any, node: Node | None) -> None:
    database.standby = node
    database.secondary_availability_zone = node.zone if node else None


def new_node(region: Region, database: Any, subnet: Any) -> Node:
    """A node with an interface in `subnet`, in the instance's security groups. Call with the lock held."""
    database.nodes_made += 1
    interface = region.ec2.create_network_interface(
        subnet,
        subnet.get_available_subnet_ip(database),
        group_ids=database.vpc_security_group_ids,
        description="RDSNetworkInterface",
    )
    # A name of a database may have 63 characters, and a host name no more.
    stem = f"{database.db_instance_identifier[:40].rstrip('-')}-{database.dbi_resource_id[-5:].lower()}"
    return Node(f"{stem}-{database.nodes_made}", interface)


def forget_node(region: Region, node: Node) -> None:
    """Delete a node's interface. Call with the lock held."""
    if node.interface.id in region.ec2.enis:
        region.ec2.delete_network_interface(node.interface.id)
        node.interface.subnet.del_subnet_ip(node.interface.private_ip_address)


def subnets_of(region: Region, database: Any) -> list[Any]:
    """Where the instance's nodes may be: its subnet group's subnets, else the default VPC's."""
    group = getattr(database, "db_subnet_group", None)
    return list(group._subnets) if group else list(region.ec2.get_default_subnets().values())


def standby_subnet(region: Region, database: Any) -> Any | None:
    """Where a standby can be built now: not in the primary's zone, where it was before if there is power."""
    usable = [
        subnet
        for subnet in subnets_of(region, database)
        if subnet.availability_zone != database.node.zone and not region.faults.refuses_launch(subnet.availability_zone)
    ]
    usable.sort(key=lambda subnet: bool(subnet.availability_zone != database.secondary_availability_zone))
    return usable[0] if usable else None


def standby_is_promotable(region: Region, database: Any) -> bool:
    return database.standby is not None and is_promotable(volume(region, database.standby))


def nodes_of(database: Any) -> list[Node]:
    return [node for node in (database.node, database.standby) if node is not None]


def instances(region: Region) -> list[Any]:
    """The instances with bodies. Call with the lock held."""
    return [database for database in region.backend("rds").databases.values() if has_body(database)]


def password_of(database: Any) -> str | None:
    """The master user's password as it should be now; None where only the data knows it, as after a restore."""
    if database.manage_master_user_password:
        secret = database.master_user_secret
        wanted: str = json.loads(getattr(secret, "pending", None) or current_secret(secret.secret))["password"]
        return wanted
    return database._master_user_password if database._master_user_password is None else str(database._master_user_password)


def parameters_of(database: Any) -> dict[str, str]:
    """The parameters that the instance's parameter group sets."""
    [group] = database.db_parameter_groups()
    values = {name: parameter.get("ParameterValue") for name, parameter in group.parameters.items()}
    return {name: str(value) for name, value in values.items() if value is not None}


def current_secret(secret: Any) -> str:
    version: dict[str, Any] = secret.versions[secret.default_version_id]
    return str(version["secret_string"])


def new_password() -> str:
    return "".join(secrets.choice(PASSWORD_CHARACTERS) for _ in range(PASSWORD_LENGTH))
