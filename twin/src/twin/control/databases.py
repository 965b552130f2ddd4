"""Databases: a PostgreSQL for each record that should run, and a state for each PostgreSQL.

Multi-AZ is recorded, but its standby is not there yet.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twin.bodies import postgres, postgres_image
from twin.bodies.deaths import Deaths
from twin.bodies.podman import PodmanError
from twin.control.loop import Loop
from twin.region import rds
from twin.region.region import Region

log = logging.getLogger(__name__)

STOP_SECONDS = 30


def _changeable(server: postgres.Server) -> tuple[object, ...]:
    """What a running server takes over; the rest comes with its next start."""
    return server.password, server.parameters, server.host


class Databases(Loop):
    """Moves RDS instances between states by starting, stopping and removing their containers."""

    period = 1.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="database")
        self._lock = threading.Lock()
        self._build = threading.Lock()
        self._busy: set[str] = set()
        self._dead: set[str] = set()
        self._running: dict[str, postgres.Server] = {}
        self._deaths = Deaths(self._on_death)

    def tick(self) -> None:
        actions = {
            "creating": self._create,
            "starting": self._start,
            "rebooting": self._reboot,
            "stopping": self._stop,
            "deleting": self._delete,
        }
        with self.region.records():
            databases = [database for database in self.region.backend("rds").databases.values() if rds.has_body(database)]
            wanted = {database.body_name: self._server(database) for database in databases if database.status == "available"}
        for database in databases:
            name = database.body_name
            if database.status in actions:
                self._submit(name, actions[database.status], database)
            elif database.status == "available" and name in self._dead:
                self._submit(name, self._revive, database)
            elif name in self._running and name in wanted and _changeable(self._running[name]) != _changeable(wanted[name]):
                self._submit(name, self._change, database)

    def _submit(self, name: str, action: Callable[[Any], None], database: Any) -> None:
        with self._lock:
            if name in self._busy:
                return
            self._busy.add(name)

        def work() -> None:
            try:
                action(database)
            except (PodmanError, OSError, ValueError) as error:
                log.error("%s: %s failed: %s", name, action.__name__.strip("_"), error)
                with self.region.records():
                    if database.status != "deleting":
                        database.status = "failed"
            except Exception:
                log.exception("%s: %s failed", name, action.__name__.strip("_"))
            finally:
                with self._lock:
                    self._busy.discard(name)
                self.wake()

        self._pool.submit(work)

    def _server(self, database: Any) -> postgres.Server:
        """What the record asks for. Call with the region's lock held."""
        return postgres.Server(
            name=database.body_name,
            volume=self.region.settings.state / "volumes" / database.body_name,
            username=database.master_username,
            password=rds.password_of(database),
            database=database.db_name,
            port=int(database.port),
            host=database.address,
            parameters=rds.parameters_of(database),
        )

    # Bodies

    def _create(self, database: Any) -> None:
        with self._build:
            postgres_image.build(self.region.podman)
            version = postgres_image.version(self.region.podman)
        with self.region.records():
            # As AWS, answer a bare major version with the minor version that runs.
            if database.engine_version == postgres_image.MAJOR:
                database.engine_version = version
        self._run(database)

    def _start(self, database: Any) -> None:
        self._run(database)

    def _run(self, database: Any) -> None:
        with self.region.records():
            server = self._server(database)
            interface, subnet = database.interface, database.interface.subnet
            vpc, address, cidr = subnet.vpc_id, interface.private_ip_address, subnet.cidr_block
        namespace = self.region.network.attach(interface.id, vpc, subnet.id, cidr, address)
        pid = postgres.start(self.region.podman, server, namespace)
        postgres.wait_ready(self.region.podman, server, namespace)
        self._dead.discard(server.name)
        self._running[server.name] = server
        self._deaths.watch(server.name, pid)
        self.region.names.set(server.host, address)
        with self.region.records():
            # A request that came meanwhile, to stop or to delete, has its turn next.
            if database.status in ("creating", "starting", "rebooting"):
                database.status = "available"

    def _revive(self, database: Any) -> None:
        log.warning("%s: PostgreSQL ended; it is started again", database.body_name)
        self._run(database)

    def _stop(self, database: Any) -> None:
        self._halt(database)
        with self.region.records():
            if database.status == "stopping":
                database.status = "stopped"

    def _reboot(self, database: Any) -> None:
        self._halt(database)
        self._run(database)

    def _halt(self, database: Any) -> None:
        self._deaths.forget(database.body_name)
        self._dead.discard(database.body_name)
        self.region.podman.run("stop", f"--time={STOP_SECONDS}", "--ignore", database.body_name)

    def _delete(self, database: Any) -> None:
        name = database.body_name
        self._deaths.forget(name)
        self._dead.discard(name)
        self._running.pop(name, None)
        self.region.podman.remove(name)
        self.region.network.detach(database.interface.id)
        self.region.names.remove(database.address)
        shutil.rmtree(self.region.settings.state / "volumes" / name, ignore_errors=True)
        with self.region.records():
            self.region.ec2.delete_network_interface(database.interface.id)
            database.interface.subnet.del_subnet_ip(database.interface.private_ip_address)
            databases = self.region.backend("rds").databases
            if databases.get(database.db_instance_identifier) is database:
                del databases[database.db_instance_identifier]

    def _change(self, database: Any) -> None:
        """Give the running server a new password or new parameters."""
        with self.region.records():
            wanted = self._server(database)
        running = self._running[wanted.name]
        if wanted.password != running.password:
            postgres.set_password(self.region.podman, wanted)
        if wanted.parameters != running.parameters:
            postgres.reload(self.region.podman, wanted)
        self._running[wanted.name] = wanted
        if wanted.host != running.host:
            self.region.names.remove(running.host)
            self.region.names.set(wanted.host, database.interface.private_ip_address)

    def _on_death(self, name: str) -> None:
        self._dead.add(name)
        self.wake()

    def end(self) -> None:
        super().end()
        self._pool.shutdown(wait=False, cancel_futures=True)
