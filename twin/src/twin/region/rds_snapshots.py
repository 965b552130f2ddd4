"""Snapshots and automated backups as records; the control loop gives them their contents.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_CommonTasks.BackupRestore.html
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.rds import models
from moto.rds.exceptions import DBInstanceAlreadyExists, InvalidParameterCombination, RDSClientError

from twin.region import rds_unsupported
from twin.region.patch import replace, wrap
from twin.region.rds_records import Source, backups, snapshot_folder, unsupported
from twin.region.rds_states import require
from twin.region.region import Region

# What a restored instance takes over from where its data comes from, unless the request says otherwise.
INHERITED = (
    "db_instance_class",
    "engine",
    "engine_version",
    "port",
    "allocated_storage",
    "iops",
    "storage_type",
    "storage_encrypted",
    "kms_key_id",
    "license_model",
    "db_name",
    "master_username",
    "backup_retention_period",
    "preferred_backup_window",
    "preferred_maintenance_window",
    "auto_minor_version_upgrade",
    "copy_tags_to_snapshot",
)


def automated(region: Region, database: Any) -> list[Any]:
    """An instance's automated snapshots, oldest first. Call with the lock held."""
    found = [
        snapshot
        for snapshot in region.backend("rds").database_snapshots.values()
        if snapshot.snapshot_type == "automated" and snapshot.dbi_resource_id == database.dbi_resource_id
    ]
    return sorted(found, key=lambda snapshot: snapshot.created)


def add_automated(region: Region, database: Any, name: str) -> Any:
    """The record of a new automated snapshot. Call with the lock held."""
    return region.backend("rds").create_db_snapshot(database.db_instance_identifier, name, snapshot_type="automated")


def install(region: Region) -> None:
    @wrap(models.RDSBackend, "create_db_snapshot")
    def create_db_snapshot(
        original: Any,
        self: Any,
        db_instance_identifier: str,
        db_snapshot_identifier: str,
        snapshot_type: str = "manual",
        *args: Any,
        **options: Any,
    ) -> Any:
        [database] = self.describe_db_instances(db_instance_identifier)
        if snapshot_type == "manual":
            require(database, "available", "stopped", "stopping")
        snapshot = original(self, db_instance_identifier, db_snapshot_identifier, snapshot_type, *args, **options)
        _prepare(region, snapshot, database)
        if database.status == "available" and snapshot_type == "manual":
            database.status = "backing-up"
        region.wake("Databases")
        return snapshot

    @wrap(models.RDSBackend, "copy_db_snapshot")
    def copy_db_snapshot(original: Any, self: Any, source_db_snapshot_identifier: str, *args: Any, **options: Any) -> Any:
        if options.get("source_region") or options.get("option_group_name"):
            raise unsupported("A copy from another region or with an option group")
        source = self.get_db_snapshot(source_db_snapshot_identifier)
        _require_available(source)
        snapshot = original(self, source_db_snapshot_identifier, *args, **options)
        _prepare(region, snapshot, source.database)
        snapshot.copy_of = source.folder
        snapshot.source_db_snapshot_identifier = source.arn
        snapshot.consistent_at = source.consistent_at
        region.wake("Databases")
        return snapshot

    @wrap(models.RDSBackend, "delete_db_snapshot")
    def delete_db_snapshot(original: Any, self: Any, db_snapshot_identifier: str) -> Any:
        snapshot = self.get_db_snapshot(db_snapshot_identifier)
        if snapshot.snapshot_type == "automated":
            words = f"Automated snapshots cannot be deleted: {db_snapshot_identifier} goes with its retention period."
            raise RDSClientError("InvalidDBSnapshotState", words)
        if snapshot.status == "creating":
            raise RDSClientError("InvalidDBSnapshotState", f"Cannot delete {db_snapshot_identifier}: it is being created.")
        original(self, snapshot.db_snapshot_identifier)
        snapshot.status = "deleted"
        # A snapshot without a record is removed by the control loop.
        region.wake("Databases")
        return snapshot

    replace(models.DBInstance, "latest_restorable_time")(property(lambda self: self.restorable_until))  # type: ignore[arg-type]

    @wrap(models.RDSBackend, "describe_db_instance_automated_backups")
    def describe_automated_backups(original: Any, self: Any, db_instance_identifier: str | None = None, **options: Any) -> Any:
        found = original(self, db_instance_identifier)
        for backup in found:
            database = self.databases.get(backup.db_instance_identifier)
            if database is not None:
                _describe(backup, database, automated(region, database))
        return found


def _prepare(region: Region, snapshot: Any, database: Any) -> None:
    snapshot.status = "creating"
    snapshot.percent_progress = 0
    snapshot.folder = str(
        snapshot_folder(region) / f"{snapshot.db_snapshot_identifier.replace(':', '-')}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"
    )
    snapshot.copy_of = None
    snapshot.consistent_at = None
    snapshot.availability_zone = database.availability_zone
    snapshot.storage_type = database.storage_type
    snapshot.license_model = database.license_model
    snapshot.iops = database.iops
    snapshot.vpc_id = database.node.interface.subnet.vpc_id
    snapshot.option_group_name = database.option_group_name


def _describe(backup: Any, database: Any, copies: list[Any]) -> None:
    ready = [snapshot for snapshot in copies if snapshot.status == "available"]
    if ready and database.restorable_until:
        backup.restore_window = {"EarliestTime": ready[0].consistent_at, "LatestTime": database.restorable_until}
    for name in (*INHERITED, "dbi_resource_id", "db_instance_arn", "availability_zone", "region"):
        if not hasattr(backup, name):
            setattr(backup, name, getattr(database, name))


def install_restores(region: Region, create: Callable[[Any, dict[str, Any]], Any]) -> None:
    @replace(models.RDSBackend, "restore_db_instance_from_db_snapshot")
    def restore_db_instance_from_db_snapshot(self: Any, from_snapshot_id: str, overrides: Any) -> Any:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html"""
        snapshot = self.get_db_snapshot(from_snapshot_id)
        _require_available(snapshot)
        source = Source(snapshot.folder, None, None)
        return _restore(region, self, create, snapshot.database, overrides, overrides["db_instance_identifier"], source)

    @replace(models.RDSBackend, "restore_db_instance_to_point_in_time")
    def restore_db_instance_to_point_in_time(
        self: Any, source_db_identifier: str, target_db_identifier: str, overrides: Any
    ) -> Any:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceToPointInTime.html"""
        if not source_db_identifier:
            raise unsupported("A restore of a deleted instance's backups")
        [database] = self.describe_db_instances(source_db_identifier)
        until, latest = overrides.get("restore_time"), overrides.get("use_latest_restorable_time")
        if bool(until) == bool(latest):
            raise InvalidParameterCombination("Specify either RestoreTime or UseLatestRestorableTime.")
        if not database.backup_retention_period:
            words = f"Point In Time Restore is not enabled for this instance: {source_db_identifier}."
            raise RDSClientError("PointInTimeRestoreNotEnabled", words)
        source = _moment(region, database, until)
        return _restore(region, self, create, database, overrides, target_db_identifier, source)


def _moment(region: Region, database: Any, until: datetime | None) -> Source:
    """The copy to start from, and the log to replay."""
    copies = [snapshot for snapshot in automated(region, database) if snapshot.status == "available"]
    last = database.restorable_until
    if not copies or last is None:
        words = f"The DB instance {database.db_instance_identifier} has no completed backup yet."
        raise RDSClientError("InvalidParameterValue", words)
    moment = _naive(until) if until else last
    fitting = [snapshot for snapshot in copies if snapshot.consistent_at <= moment]
    if moment > last or not fitting:
        words = (
            f"The specified instance cannot be restored to a time later than {last.isoformat(timespec='seconds')}Z "
            f"or earlier than {copies[0].consistent_at.isoformat(timespec='seconds')}Z"
        )
        raise RDSClientError("InvalidParameterValue", words)
    exactly = moment.replace(tzinfo=UTC) if until else None
    return Source(fitting[-1].folder, str(backups(region, database) / "wal"), exactly)


def _naive(date: datetime) -> datetime:
    return date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date


def _require_available(snapshot: Any) -> None:
    if snapshot.status != "available":
        words = f"The DB snapshot {snapshot.db_snapshot_identifier} is {snapshot.status}."
        raise RDSClientError("InvalidDBSnapshotState", words)


def _restore(region: Region, backend: Any, create: Any, old: Any, overrides: Any, name: str, source: Source) -> Any:
    given = {key: value for key, value in overrides.items() if value is not None}
    rds_unsupported.check(given)
    if given.get("manage_master_user_password"):
        # The API reference: "Applies to RDS for Oracle only."
        raise InvalidParameterCombination("ManageMasterUserPassword can't be specified for a restore of this engine.")
    if given.get("db_name"):
        raise InvalidParameterCombination("DBName can't be specified for a restore of postgres.")
    if given.get("engine_version"):
        raise unsupported("An upgrade while restoring")
    if name in backend.databases:
        raise DBInstanceAlreadyExists
    storage = given.get("allocated_storage")
    if storage is not None and int(storage) < old.allocated_storage:
        words = "The allocated storage size can't be less than the source snapshot or backup size."
        raise RDSClientError("InvalidParameterValue", words)
    wanted = {key: getattr(old, key) for key in INHERITED}
    wanted["db_subnet_group_name"] = old._db_subnet_group_name
    asked = {"db_snapshot_identifier", "source_db_instance_identifier", "target_db_instance_identifier", "restore_time"}
    asked |= {"use_latest_restorable_time", "tag_specifications"}
    wanted |= {key: value for key, value in given.items() if key not in asked}
    # The master user's password is the one in the data, whoever managed it.
    wanted |= {"db_instance_identifier": name, "master_user_password": None}
    database = create(backend, wanted)
    database.source = source
    database.restored_from = old.db_instance_identifier if source.wal else overrides["db_snapshot_identifier"]
    return database
