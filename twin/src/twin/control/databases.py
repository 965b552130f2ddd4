"""Databases: a PostgreSQL for each record that should run, a pair for a Multi-AZ one, and a state for each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twin.bodies import postgres, postgres_image, replication
from twin.bodies.podman import PodmanError
from twin.control.backups import Backups
from twin.control.database_nodes import Nodes
from twin.control.loop import Loop
from twin.control.multi_az import MultiAZ
from twin.region import rds_records as records
from twin.region import rds_secrets
from twin.region.rds_events import tell
from twin.region.region import Region

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
TRIES = 3  # for what podman itself refuses
FAILURES = 10  # in a row to bring a server back, after which the instance has failed
# In these states a server runs, and one that ended is brought back.
RUNNING = ("available", "modifying", "backing-up")
# An action that fails in one of these states can't be tried again: the instance has failed.
FATAL = ("creating", "starting", "rebooting", "stopping")


def _changeable(server: postgres.Server) -> tuple[object, ...]:
    """What a running server takes over; the rest comes with its next start."""
    return server.parameters, server.host, server.archiving


class Databases(Loop):
    """Moves RDS instances between states by starting, stopping, promoting and removing their containers."""

    period = 1.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self.nodes = Nodes(region, self.wake)
        self.multi_az = MultiAZ(region, self.nodes)
        self.backups = Backups(region, self.nodes)
        self._pool = ThreadPoolExecutor(6, thread_name_prefix="database")
        self._lock = threading.Lock()
        self._build = threading.Lock()
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    # Decisions

    def adopt(self) -> None:
        containers = set(self.region.podman.containers())
        with self.region.records():
            databases = records.instances(self.region)
        for database in databases:
            if database.status in ("stopped", "deleting"):
                continue
            for node in records.nodes_of(database):
                self.nodes.adopt(database, node, containers)
            self.region.names.set(database.address, database.node.address)

    def tick(self) -> None:
        with self.region.records():
            for database in records.instances(self.region):
                action = self._action_for(database)
                if action:
                    self._submit(database.dbi_resource_id, action, database)
                for node in records.nodes_of(database):
                    if self.nodes.alive(node) and not self.nodes.has_power(node):
                        self._submit(node.name, self.nodes.kill, node)
            for snapshot in self.backups.pending_copies():
                self._submit(snapshot.folder, self.backups.copy, snapshot)
        self._submit("sweep", lambda _: self.backups.sweep(), None)

    def _action_for(self, database: Any) -> Callable[[Any], None] | None:
        """What to do for an instance now. Call with the lock held."""
        actions = {
            "creating": self._create,
            "starting": self._start,
            "rebooting": self._reboot,
            "stopping": self._stop,
            "deleting": self._delete,
        }
        if database.status in actions:
            return actions[database.status]
        if database.status == "stopped":
            return self._take_snapshots if self.backups.pending(database) else None
        if database.status not in RUNNING:
            return None
        if not self.nodes.alive(database.node):
            return self._recovery(database)
        if database.status == "modifying":
            return self._modify
        if rds_secrets.rotation_is_due(database):
            database.master_user_secret.rotate_secret()
        concerns = (
            database.status == "backing-up",
            bool(self.backups.pending(database)),
            self._changed(database),
            self.backups.is_due(database),
            self.multi_az.needs_care(database),
        )
        return self._tend if any(concerns) else None

    def _recovery(self, database: Any) -> Callable[[Any], None] | None:
        """How to bring back a primary that ended: by its standby if that loses nothing, else in place, once there is power."""
        if self.multi_az.can_fail_over(database):
            return self._fail_over
        if self.multi_az.must_fail_over(database) or not self.nodes.has_power(database.node):
            return None
        return self._revive

    def _changed(self, database: Any) -> bool:
        for node in records.nodes_of(database):
            running = self.nodes.running.get(node.name)
            if running is None:
                continue
            wanted = self.nodes.server(database, node)
            if _changeable(running) != _changeable(wanted):
                return True
            if node is database.node and wanted.password not in (None, running.password):
                return True
        return False

    def _submit(self, key: str, action: Callable[[Any], None], record: Any) -> None:
        with self._lock:
            if key in self._busy or self._not_before.get(key, 0.0) > time.monotonic():
                return
            self._busy.add(key)

        def work() -> None:
            try:
                action(record)
                self._not_before.pop(key, None)
                self._failures.pop(key, None)
            except (PodmanError, OSError, ValueError) as error:
                log.error("%s: %s failed: %s", key, action.__name__.strip("_"), error)
                # podman's own failures, as under load, pass; PostgreSQL's words come from a server that won't start.
                self._failed(key, record, may_pass=str(error).startswith("podman "))
            except Exception:
                log.exception("%s: %s failed", key, action.__name__.strip("_"))
                self._failed(key, record, may_pass=False)
            finally:
                with self._lock:
                    self._busy.discard(key)

        self._pool.submit(work)

    def _failed(self, key: str, record: Any, may_pass: bool) -> None:
        self._not_before[key] = time.monotonic() + RETRY_SECONDS
        self._failures[key] = self._failures.get(key, 0) + 1
        if not records.has_body(record):
            return
        # A failover that was begun must end, however often it takes.
        hopeless = self._failures[key] >= FAILURES and not self.nodes.alive(record.node) and record.standby is None
        if may_pass and self._failures[key] < TRIES:
            return
        if hopeless or (record.status in FATAL and not record.failover_requested):
            with self.region.records():
                record.status = "failed"
            tell(self.region, record, 31, state="failed")

    def _settle(self, database: Any, *states: str) -> None:
        """The instance is available, unless a request has moved it on meanwhile."""
        with self.region.records():
            if database.status not in states:
                return  # to be woken by what changes nothing is to go on without a pause
            database.status = "available"
        self.wake()

    # States

    def _create(self, database: Any) -> None:
        with self._build:
            postgres_image.build(self.region.podman)
            version = postgres_image.version(self.region.podman)
        with self.region.records():
            # As AWS, answer a bare major version with the minor version that runs.
            if database.engine_version == postgres_image.MAJOR:
                database.engine_version = version
        restored = database.source is not None
        if restored:
            self.backups.restore(database)
        self._run(database)
        if restored:
            postgres.set_replication_password(self.region.podman, self.nodes.running[database.node.name])
            tell(
                self.region,
                database,
                19 if database.source.wal else 43,
                source=database.restored_from,
                target=database.resource_id,
            )
            with self.region.records():
                database.source = None
        if database.multi_az and not self.multi_az.build(database):
            log.warning("%s: no zone for a standby now", database.db_instance_identifier)
        if not restored:
            tell(self.region, database, 5)
        if database.backup_retention_period:
            self.backups.keep(database)
        self._settle(database, "creating")

    def _run(self, database: Any) -> None:
        """Start the primary where it was, and let the instance's name lead to it."""
        self.nodes.start(database.node, self.nodes.wanted(database, database.node))
        self.nodes.wait_ready(database.node)
        self.region.names.set(database.address, database.node.address)

    def _start(self, database: Any) -> None:
        self._run(database)
        if database.standby is not None and self.nodes.has_power(database.standby):
            self.multi_az.start_standby(database)
        tell(self.region, database, 88)
        self._settle(database, "starting")

    def _stop(self, database: Any) -> None:
        self._take_snapshots(database)
        for node in records.nodes_of(database):  # the primary first: it hands its last log to the standby
            self.nodes.stop(node)
        with self.region.records():
            if database.status == "stopping":
                database.status = "stopped"
        tell(self.region, database, 87)

    def _reboot(self, database: Any) -> None:
        if database.failover_requested and not self.multi_az.can_fail_over(database):
            self.multi_az.care(database)  # a standby that is being made, or catches up
        if database.failover_requested and self.multi_az.can_fail_over(database):
            self.multi_az.fail_over(database)
        else:
            self.nodes.stop(database.node)
            self._run(database)
            if self.nodes.alive(database.standby):
                self.multi_az.restart_standby(database)
        tell(self.region, database, 6)
        with self.region.records():
            database.failover_requested = False
        self._settle(database, "rebooting")

    def _delete(self, database: Any) -> None:
        self._take_snapshots(database)
        for node in (*records.nodes_of(database), *database.retired):
            self.nodes.remove(node)
        self.region.names.remove(database.address)
        self.backups.discard(database)
        self.backups.remove_folder(database)
        tell(self.region, database, 3)
        with self.region.records():
            if database.manage_master_user_password:
                database.master_user_secret.delete_secret()
            databases = self.region.backend("rds").databases
            if databases.get(database.db_instance_identifier) is database:
                del databases[database.db_instance_identifier]

    def _modify(self, database: Any) -> None:
        """Make a Single-AZ instance Multi-AZ, or the other way round."""
        if database.multi_az and database.standby is None:
            tell(self.region, database, 24)
            if not self.multi_az.build(database):
                raise PodmanError("no zone for a standby now")
            tell(self.region, database, 25)
        elif not database.multi_az:
            tell(self.region, database, 30)
            if database.standby is not None:
                self.multi_az.go_on_alone(database)
            with self.region.records():
                database.secondary_availability_zone = None
            tell(self.region, database, 29)
        self._settle(database, "modifying")

    # A running instance

    def _fail_over(self, database: Any) -> None:
        self.multi_az.fail_over(database)
        self.wake()

    def _revive(self, database: Any) -> None:
        log.warning("%s: PostgreSQL ended; it is started again", database.node.name)
        tell(self.region, database, 20)
        if self.nodes.alive(database.standby) and not self.multi_az.joined(database):
            self.nodes.attach(database.node)
            self.nodes.join(database)
        self._run(database)
        tell(self.region, database, 6)
        tell(self.region, database, 21)

    def _tend(self, database: Any) -> None:
        """Look after a running instance: first of all a standby that ended, since every commit waits for it."""
        if database.standby is not None and not self.nodes.alive(database.standby):
            self.multi_az.care(database)
        if self.multi_az.can_fail_over(database) and self.multi_az.is_unresponsive(database):
            log.warning("%s: the primary does not answer", database.db_instance_identifier)
            self._fail_over(database)
            return
        self._change(database)
        self._take_snapshots(database)
        self._settle(database, "backing-up")
        with self.region.records():
            due = self.backups.is_due(database)
        if due:
            self.backups.keep(database)
        if self.multi_az.needs_care(database):
            self.multi_az.care(database)

    def _change(self, database: Any) -> None:
        """Give the running servers new passwords and parameters."""
        with self.region.records():
            if not self._changed(database):
                return
        for node in records.nodes_of(database):
            running, wanted = self.nodes.running.get(node.name), self.nodes.wanted(database, node)
            if running is None:
                continue
            if _changeable(running) != _changeable(wanted):
                self.nodes.reload(node, wanted)
            if node is database.node and wanted.password not in (None, running.password):
                self._change_password(database, wanted, known=running.password is not None)
            if node is database.node and wanted.host != running.host:
                self.region.names.remove(running.host)
                self.region.names.set(wanted.host, node.address)

    def _change_password(self, database: Any, wanted: postgres.Server, known: bool) -> None:
        postgres.set_password(self.region.podman, wanted)
        self.nodes.running[wanted.name] = wanted
        standby = database.standby
        if standby is not None and replication.has_all(self.nodes.pid(database.node), wanted.port, standby.interface.id):
            # Otherwise the password is set again should the standby become the primary.
            self.nodes.learned(standby, wanted.password)
        if known:
            tell(self.region, database, 16)
        with self.region.records():
            managed = database.manage_master_user_password
            if managed and database.master_user_secret.pending and records.password_of(database) == wanted.password:
                rds_secrets.finish_rotation(database)

    def _take_snapshots(self, database: Any) -> None:
        with self.region.records():
            pending = self.backups.pending(database)
        for snapshot in pending:
            self.backups.take(database, snapshot)

    def end(self) -> None:
        super().end()
        self._pool.shutdown(wait=False, cancel_futures=True)
