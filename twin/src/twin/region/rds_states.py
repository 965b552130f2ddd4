"""What may be asked of an instance in which state. Requests only ask; the control loop moves the body, then the state.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html#Overview.DBInstance.Status
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models
from moto.rds.exceptions import (
    DBSnapshotAlreadyExistsError,
    InvalidParameterCombination,
    RDSClientError,
    SnapshotQuotaExceededFault,
)
from moto.rds.responses import RDSResponse

from twin.bodies.postgres_image import MAJOR
from twin.region.patch import replace, wrap
from twin.region.rds_events import tell
from twin.region.rds_records import subnets_of, unsupported
from twin.region.rds_secrets import check_password
from twin.region.rds_unsupported import check_change
from twin.region.region import Region


def require(database: Any, *states: str) -> None:
    if database.status not in states:
        words = f"Instance {database.db_instance_identifier} is not in {' or '.join(states)} state: it is {database.status}."
        raise RDSClientError("InvalidDBInstanceState", words)


def check_zones(subnets: list[Any]) -> None:
    """A Multi-AZ instance needs two zones."""
    if len({subnet.availability_zone for subnet in subnets}) < 2:
        words = "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ coverage: {zones}."
        zones = ", ".join(sorted({subnet.availability_zone for subnet in subnets}))
        words = f"{words.format(zones=zones)} Add subnets to cover at least 2 AZs."
        raise RDSClientError("DBSubnetGroupDoesNotCoverEnoughAZs", words)


def performance_insights(database: Any, wanted: Any) -> None:
    """Remember what moto forgets, and Terraform compares."""
    enabled = wanted.get("enable_performance_insights")
    if enabled is not None or not hasattr(database, "performance_insights_enabled"):
        database.performance_insights_enabled = bool(enabled)
    if database.performance_insights_enabled:
        previous = getattr(database, "performance_insights_retention_period", 7)
        database.performance_insights_retention_period = wanted.get("performance_insights_retention_period") or previous
        key = wanted.get("performance_insights_kms_key_id")
        if key or not hasattr(database, "performance_insights_kms_key_id"):
            database.performance_insights_kms_key_id = key


def install(region: Region) -> None:
    _install_deletion(region)
    _install_modification(region)
    _install_power(region)


def _install_deletion(region: Region) -> None:
    @wrap(models.RDSBackend, "delete_db_instance")
    def delete_db_instance(
        original: Any,
        self: Any,
        db_instance_identifier: str,
        final_db_snapshot_identifier: str | None = None,
        skip_final_snapshot: bool | None = False,
        **options: Any,
    ) -> Any:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DeleteDBInstance.html"""
        [database] = self.describe_db_instances(db_instance_identifier)
        if database.status == "deleting":
            raise RDSClientError("InvalidDBInstanceState", f"Instance {db_instance_identifier} is already being deleted.")
        if options.get("delete_automated_backups") is False:
            raise unsupported("DeleteAutomatedBackups=false")
        if skip_final_snapshot and final_db_snapshot_identifier:
            words = "FinalDBSnapshotIdentifier cannot be specified when SkipFinalSnapshot is enabled."
            raise InvalidParameterCombination(words)
        if not skip_final_snapshot and not final_db_snapshot_identifier:
            raise InvalidParameterCombination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
        if database.deletion_protection:
            raise InvalidParameterCombination(
                "Cannot delete protected DB Instance, please disable deletion protection and try again."
            )
        if final_db_snapshot_identifier:
            require(database, "available", "stopped")
            if final_db_snapshot_identifier in self.database_snapshots:
                raise DBSnapshotAlreadyExistsError(final_db_snapshot_identifier)
            if len(self.database_snapshots) >= self.SNAPSHOT_QUOTA:
                raise SnapshotQuotaExceededFault
            self.create_db_snapshot(database.db_instance_identifier, final_db_snapshot_identifier)
        # The record goes when the body has gone.
        database.status = "deleting"
        region.wake("Databases")
        return database


def _install_modification(region: Region) -> None:
    @wrap(models.RDSBackend, "modify_db_instance")
    def modify_db_instance(original: Any, self: Any, db_instance_identifier: str, db_kwargs: Any) -> Any:
        [database] = self.describe_db_instances(db_instance_identifier)
        require(database, "available", "stopped", "failed")
        check_change(db_kwargs, database)
        version = db_kwargs.get("engine_version") or MAJOR
        if version.split(".")[0] != MAJOR:
            raise InvalidParameterCombination(f"Cannot find upgrade target {version} for postgres.")
        if "." in version and version != database.engine_version:
            raise InvalidParameterCombination(f"Cannot find upgrade target {version}: this region has {database.engine_version}.")
        # Told the major version, RDS keeps the minor one.
        db_kwargs.pop("engine_version", None)
        if db_kwargs.get("master_user_password"):
            check_password(db_kwargs["master_user_password"])
            if database.manage_master_user_password and db_kwargs.get("manage_master_user_password") is not False:
                raise InvalidParameterCombination("You can't specify MasterUserPassword when ManageMasterUserPassword is on.")
        if db_kwargs.get("rotate_master_user_password"):
            require(database, "available")
            if not database.manage_master_user_password:
                raise InvalidParameterCombination("You can't rotate a password that RDS doesn't manage in Secrets Manager.")
        retention = db_kwargs.get("backup_retention_period")
        if retention is not None and not 0 <= int(retention) <= 35:
            raise RDSClientError(
                "InvalidParameterValue", f"Invalid backup retention period: {retention}. Must be between 0 and 35."
            )
        wanted = db_kwargs.get("multi_az")
        if wanted:
            check_zones(subnets_of(region, database))
        if db_kwargs.get("manage_master_user_password") and database.manage_master_user_password:
            db_kwargs.pop("manage_master_user_password")  # moto would make a second secret
        database = original(self, db_instance_identifier, db_kwargs)
        performance_insights(database, db_kwargs)
        if db_kwargs.get("db_parameter_group_name"):
            tell(region, database, 11, name=db_kwargs["db_parameter_group_name"])
        if wanted is not None and wanted != (database.secondary_availability_zone is not None) and database.status == "available":
            database.status = "modifying"
        for node in (database.node, database.standby):
            if node is not None and db_kwargs.get("vpc_security_group_ids"):
                _move(region, node, database.vpc_security_group_ids)
        region.wake("Databases")
        return database


def _move(region: Region, node: Any, groups: list[str]) -> None:
    """Put a node's interface into other security groups."""
    region.ec2.modify_network_interface_attribute(node.interface.id, group_ids=list(groups))


def _install_power(region: Region) -> None:
    def asks(name: str, state: str, *allowed: str) -> None:
        @wrap(models.RDSBackend, name)
        def ask(original: Any, self: Any, db_instance_identifier: str, *args: Any, **options: Any) -> Any:
            require(self.describe_db_instances(db_instance_identifier)[0], *allowed)
            database = original(self, db_instance_identifier, *args, **options)
            database.status = state
            region.wake("Databases")
            return database

    asks("stop_db_instance", "stopping", "available")
    asks("start_db_instance", "starting", "stopped")

    @replace(models.RDSBackend, "reboot_db_instance")
    def reboot_db_instance(self: Any, db_instance_identifier: str, force_failover: bool = False) -> Any:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RebootDBInstance.html"""
        [database] = self.describe_db_instances(db_instance_identifier)
        require(database, "available")
        if force_failover and not database.multi_az:
            raise InvalidParameterCombination("ForceFailover cannot be specified for an instance that is not Multi-AZ.")
        database.failover_requested = bool(force_failover)
        database.status = "rebooting"
        region.wake("Databases")
        return database

    @replace(RDSResponse, "reboot_db_instance")
    def reboot(self: Any) -> ActionResult:
        """moto leaves ForceFailover out."""
        wanted = self.params
        database = self.backend.reboot_db_instance(wanted["DBInstanceIdentifier"], bool(wanted.get("ForceFailover")))
        return ActionResult({"DBInstance": database})
