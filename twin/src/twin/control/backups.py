"""Contents of snapshots, automated backups and their log, and new instances made from them."""

from __future__ import annotations

import logging
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twin.bodies import postgres, postgres_copies
from twin.bodies.podman import PodmanError
from twin.control.database_nodes import Nodes
from twin.region import rds_records as records
from twin.region import rds_snapshots
from twin.region.rds_events import tell
from twin.region.region import Region

log = logging.getLogger(__name__)

DAY = timedelta(days=1)


class Backups:
    """`archive_seconds` is how far the latest restorable time may lie back; on AWS it is typically five minutes."""

    archive_seconds = 60.0

    def __init__(self, region: Region, nodes: Nodes) -> None:
        self.region = region
        self.nodes = nodes
        self._archived: dict[str, float] = {}

    # Snapshots

    def pending(self, database: Any) -> list[Any]:
        """Snapshots of the instance that have no contents yet. Call with the lock held."""
        return [
            snapshot
            for snapshot in self.region.backend("rds").database_snapshots.values()
            if snapshot.status == "creating" and snapshot.dbi_resource_id == database.dbi_resource_id and not snapshot.copy_of
        ]

    def pending_copies(self) -> list[Any]:
        """Copies of snapshots that have no contents yet. Call with the lock held."""
        return [
            snapshot
            for snapshot in self.region.backend("rds").database_snapshots.values()
            if snapshot.status == "creating" and snapshot.copy_of
        ]

    def take(self, database: Any, snapshot: Any) -> None:
        """Give a snapshot its contents; one that fails is shown so."""
        manual = snapshot.snapshot_type == "manual"
        tell(self.region, snapshot, 40 if manual else 90)
        target = Path(snapshot.folder)
        shutil.rmtree(target, ignore_errors=True)
        try:
            if self.nodes.alive(database.node):
                postgres_copies.take(self.region.podman, self.nodes.running[database.node.name], target)
            else:
                postgres_copies.take_stopped(self.nodes.wanted(database, database.node), target)
        except (PodmanError, OSError, KeyError) as error:
            log.error("%s: the snapshot failed: %s", snapshot.db_snapshot_identifier, error)
            with self.region.records():
                snapshot.status = "failed"
            return
        self._finish(snapshot, datetime.now(UTC).replace(tzinfo=None))
        tell(self.region, snapshot, 42 if manual else 91)

    def copy(self, snapshot: Any) -> None:
        target = Path(snapshot.folder)
        try:
            part = target.with_name(f"{target.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            postgres_copies.copy(Path(snapshot.copy_of), part)
            part.rename(target)
        except (PodmanError, OSError) as error:
            log.error("%s: the copy failed: %s", snapshot.db_snapshot_identifier, error)
            with self.region.records():
                snapshot.status = "failed"
            return
        self._finish(snapshot, snapshot.consistent_at)
        tell(self.region, snapshot, 42)

    def _finish(self, snapshot: Any, consistent_at: datetime) -> None:
        with self.region.records():
            snapshot.consistent_at = consistent_at
            snapshot.percent_progress = 100
            snapshot.status = "available"

    def sweep(self) -> None:
        """Remove contents whose snapshot is gone, unless an instance is being made from them."""
        folder = records.snapshot_folder(self.region)
        if not folder.exists():
            return
        with self.region.records():
            kept = {snapshot.folder for snapshot in self.region.backend("rds").database_snapshots.values()}
            kept |= {found.source.copy for found in records.instances(self.region) if found.source is not None}
            found = [entry for entry in folder.iterdir() if str(entry).removesuffix(".part") not in kept]
        for entry in found:
            shutil.rmtree(entry, ignore_errors=True)
        _remove_empty(folder)

    # Automated backups

    def is_due(self, database: Any) -> bool:
        """Whether automated backups want something done now. Call with the lock held."""
        last = self._archived.get(database.dbi_resource_id)
        if not database.backup_retention_period:
            return database.restorable_until is not None
        return last is None or time.monotonic() - last >= self.archive_seconds or self._copy_is_due(database)

    def _copy_is_due(self, database: Any) -> bool:
        copies = [snapshot for snapshot in rds_snapshots.automated(self.region, database) if snapshot.status != "failed"]
        if not copies:
            return True
        now = datetime.now(UTC).replace(tzinfo=None)
        age = now - copies[-1].created
        return age > DAY + timedelta(hours=1) or (age > timedelta(hours=12) and _in_window(database.preferred_backup_window, now))

    def keep(self, database: Any) -> None:
        """Bring the automated backups up to date. Raises PodmanError."""
        if not database.backup_retention_period:
            tell(self.region, database, 28)
            self.discard(database)
            return
        with self.region.records():
            due = self._copy_is_due(database)
        if due:
            self.back_up(database)
        began = datetime.now(UTC).replace(tzinfo=None)
        postgres_copies.archive(self.nodes.pid(database.node), int(database.port))
        self._archived[database.dbi_resource_id] = time.monotonic()
        with self.region.records():
            database.restorable_until = began
        self._prune(database)

    def back_up(self, database: Any) -> None:
        """Take the daily copy."""
        with self.region.records():
            first = database.restorable_until is None and database.status == "available"
            before = database.status
            database.status = "backing-up"
            name = f"rds:{database.db_instance_identifier}-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}"
            snapshot = rds_snapshots.add_automated(self.region, database, name)
        try:
            if first:
                tell(self.region, database, 32)
            tell(self.region, database, 1)
            self.take(database, snapshot)
            tell(self.region, database, 2)
        finally:
            with self.region.records():
                if database.status == "backing-up":
                    database.status = before

    def discard(self, database: Any) -> None:
        """Remove all automated backups."""
        with self.region.records():
            kept = self.region.backend("rds").database_snapshots
            for snapshot in rds_snapshots.automated(self.region, database):
                del kept[snapshot.db_snapshot_identifier]
            database.restorable_until = None
        self._archived.pop(database.dbi_resource_id, None)
        shutil.rmtree(records.backups(self.region, database) / "wal", ignore_errors=True)
        if self.nodes.alive(database.node):
            postgres.own(records.backups(self.region, database) / "wal")
        self.sweep()

    def remove_folder(self, database: Any) -> None:
        folder = records.backups(self.region, database)
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(folder.parent)

    def _prune(self, database: Any) -> None:
        """Let copies go that are older than the retention period, and the log that only they need."""
        with self.region.records():
            copies = [snapshot for snapshot in rds_snapshots.automated(self.region, database) if snapshot.status == "available"]
            horizon = datetime.now(UTC).replace(tzinfo=None) - DAY * int(database.backup_retention_period)
            # The newest copy from before the horizon is still needed to reach the horizon.
            old = [snapshot for snapshot in copies if snapshot.consistent_at <= horizon][:-1]
            for snapshot in old:
                del self.region.backend("rds").database_snapshots[snapshot.db_snapshot_identifier]
            needed = min((snapshot.created for snapshot in copies if snapshot not in old), default=None)
        if not old or needed is None:
            return
        self.sweep()
        limit = needed.replace(tzinfo=UTC).timestamp()
        for file in (records.backups(self.region, database) / "wal").iterdir():
            if file.stat().st_mtime < limit and ".history" not in file.name:
                file.unlink(missing_ok=True)

    # New instances

    def restore(self, database: Any) -> None:
        """Make the data of a new instance from its source. Raises PodmanError."""
        source = database.source
        server = self.nodes.wanted(database, database.node)
        wal = Path(source.wal) if source.wal else None
        postgres_copies.restore(self.region.podman, server, Path(source.copy), wal, source.until)


def _in_window(window: str, now: datetime) -> bool:
    """Whether `now` (UTC) is in a window such as 03:00-03:30."""
    start, end = window.split("-")
    clock = f"{now:%H:%M}"
    return start <= clock < end if start <= end else clock >= start or clock < end


def _remove_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
