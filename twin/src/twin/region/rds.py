"""RDS for PostgreSQL: records whose instances get a body, and refusals of what has none.

The other files `rds_*.py` beside this one are its parts: states, snapshots, events, secrets, groups.
"""

from __future__ import annotations

from typing import Any

from moto.rds import models
from moto.rds.exceptions import InvalidParameterCombination, RDSClientError

from twin.bodies.postgres import NAME
from twin.bodies.postgres_image import MAJOR
from twin.bodies.postgres_sql import REPLICATOR, SUPERUSER
from twin.region import rds_events, rds_groups, rds_secrets, rds_snapshots, rds_states, rds_unsupported
from twin.region.patch import replace, wrap
from twin.region.rds_records import give_body
from twin.region.region import Region


def install(region: Region) -> None:
    _install_creation(region)
    for part in (rds_states, rds_snapshots, rds_events, rds_secrets, rds_groups, rds_unsupported):
        part.install(region)


def _install_creation(region: Region) -> None:
    @wrap(models.RDSBackend, "create_db_instance")
    def create_db_instance(original: Any, self: Any, db_kwargs: dict[str, Any]) -> Any:
        rds_unsupported.check(db_kwargs)
        check_names(db_kwargs)
        _check_password(db_kwargs)
        return create(region, original, self, db_kwargs)

    @replace(models.DBInstance, "save_automated_backup")
    def save_automated_backup(self: Any) -> None:
        """moto makes a record at once; here the control loop makes a backup."""

    @replace(models.DBInstance, "default_db_parameter_group_details")
    def default_group(self: Any) -> tuple[str, str]:
        """moto takes a version without a point, such as 17, for one without a major version."""
        parts = str(self.engine_version).split(".")
        # PostgreSQL's major version is one number since 10, other engines' are two.
        major = parts[0] if self.engine.endswith("postgres") else ".".join(parts[:2])
        return f"{self.engine}{major}", f"default.{self.engine}{major}"

    rds_snapshots.install_restores(region, lambda backend, wanted: create(region, create_db_instance_of_moto, backend, wanted))


create_db_instance_of_moto = models.RDSBackend.create_db_instance


def create(region: Region, original: Any, backend: Any, wanted: dict[str, Any]) -> Any:
    """Make a record that will have a body; `original` is moto's way to make one."""
    wanted["engine_version"] = wanted.get("engine_version") or MAJOR
    subnet = _subnet(region, backend, wanted)
    if not wanted.get("vpc_security_group_ids"):
        # moto takes the default VPC's, wherever the subnets are.
        wanted["vpc_security_group_ids"] = [region.ec2.get_default_security_group(subnet.vpc_id).id]
    database = original(backend, wanted)
    give_body(region, database, subnet)
    database.multi_az = bool(wanted.get("multi_az"))
    rds_states.performance_insights(database, wanted)
    region.wake("Databases")
    return database


def check_names(wanted: dict[str, Any]) -> None:
    """Refuse names that PostgreSQL could not take over."""
    version = wanted.get("engine_version") or MAJOR
    if version.split(".")[0] != MAJOR:
        raise InvalidParameterCombination(f"Cannot find version {version} for postgres: this region has {MAJOR}.")
    username = wanted.get("master_username") or ""
    if not NAME.fullmatch(username):
        raise RDSClientError("InvalidParameterValue", f"MasterUsername {username} is not valid.")
    if username in (SUPERUSER, REPLICATOR, "rds_superuser", "public") or username.startswith("pg_"):
        raise RDSClientError("InvalidParameterValue", f"MasterUsername {username} cannot be used as it is a reserved word.")
    name = wanted.get("db_name")
    if name is not None and not NAME.fullmatch(name):
        raise RDSClientError("InvalidParameterValue", f"DBName {name} must begin with a letter and hold letters, digits and _.")


def _check_password(wanted: dict[str, Any]) -> None:
    password = wanted.get("master_user_password")
    if wanted.get("manage_master_user_password"):
        if password:
            raise InvalidParameterCombination("You can't specify MasterUserPassword when ManageMasterUserPassword is on.")
    else:
        rds_secrets.check_password(password or "")


def _subnet(region: Region, backend: Any, wanted: dict[str, Any]) -> Any:
    """The primary's subnet: the group's first in the zone asked for, else its first in a zone that has room."""
    name = wanted.get("db_subnet_group_name")
    if name:
        candidates = list(backend.describe_db_subnet_groups(name)[0]._subnets)
    else:
        candidates = list(region.ec2.get_default_subnets().values())
        if not candidates:
            raise InvalidParameterCombination("No default VPC: name a DBSubnetGroupName.")
    zone = wanted.get("availability_zone")
    if wanted.get("multi_az"):
        if zone:
            # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
            raise InvalidParameterCombination("Requesting a specific availability zone is not valid for Multi-AZ instances.")
        rds_states.check_zones(candidates)
    fitting = [subnet for subnet in candidates if not zone or subnet.availability_zone == zone]
    if not fitting:
        raise InvalidParameterCombination(f"The DB subnet group has no subnet in {zone}.")
    with_room = [subnet for subnet in fitting if not region.faults.refuses_launch(subnet.availability_zone)]
    if not with_room:
        words = "The specified DB instance class isn't available in the specified Availability Zone."
        raise RDSClientError("InsufficientDBInstanceCapacity", words)
    return with_room[0]
