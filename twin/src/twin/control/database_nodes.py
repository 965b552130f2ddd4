"""The servers behind RDS instances, one by one: started, stopped, removed, watched, found again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twin.bodies import netns, postgres, replication
from twin.bodies.deaths import Deaths
from twin.bodies.podman import PodmanError
from twin.bodies.postgres import Replication, Server
from twin.bodies.postgres_config import PRIMARY_ADDRESS
from twin.region import rds_records as records
from twin.region.rds_records import Node
from twin.region.region import Region

log = logging.getLogger(__name__)

STOP_SECONDS = 30


class Nodes:
    """What runs, and as what. `on_death` is told when a server ends that nobody stopped."""

    def __init__(self, region: Region, on_death: Callable[[], None]) -> None:
        self.region = region
        self._on_death = on_death
        self._deaths = Deaths(self._died)
        self._pids: dict[str, int] = {}
        self.running: dict[str, Server] = {}

    def alive(self, node: Node | None) -> bool:
        return node is not None and node.name in self._pids

    def pid(self, node: Node) -> int:
        """The first process of the node's container; 0 when it does not run."""
        return self._pids.get(node.name, 0)

    def has_power(self, node: Node) -> bool:
        return node.zone not in self.region.faults.dark

    def server(self, database: Any, node: Node, confirmed_by: str | None = None) -> Server:
        """What the record asks `node` to be. Call with the region's lock held."""
        standby = node is database.standby
        return Server(
            name=node.name,
            volume=records.volume(self.region, node),
            username=database.master_username,
            password=records.password_of(database),
            database=database.db_name,
            port=int(database.port),
            host=database.address,
            parameters=records.parameters_of(database),
            replication=Replication(
                database.replication_password,
                name=node.interface.id,
                upstream=PRIMARY_ADDRESS if standby else None,
                confirmed_by=confirmed_by,
            ),
            backups=records.backups(self.region, database),
            archiving=bool(database.backup_retention_period),
        )

    def wanted(self, database: Any, node: Node) -> Server:
        """The same with the primary's standby, if it may be waited for."""
        with self.region.records():
            confirmed_by = None
            if node is database.node and records.standby_is_promotable(self.region, database):
                confirmed_by = database.standby.interface.id
            return self.server(database, node, confirmed_by)

    def attach(self, node: Node) -> Any:
        """Give a node its network interface, unless it has it; returns the path of its namespace."""
        name = self.region.network.namespace(node.interface.id)
        if netns.path(name).exists():
            return netns.path(name)
        with self.region.records():
            subnet = node.interface.subnet
            vpc, cidr = subnet.vpc_id, subnet.cidr_block
        return self.region.network.attach(node.interface.id, vpc, subnet.id, cidr, node.address)

    def join(self, database: Any) -> None:
        """Link the two nodes of a pair."""
        namespaces = [self.region.network.namespace(node.interface.id) for node in (database.node, database.standby)]
        replication.join(*namespaces)

    def start(self, node: Node, server: Server) -> None:
        """Start a node's server and watch it. Raises PodmanError."""
        if replication.is_fenced(server.volume):
            raise PodmanError(f"{node.name} was replaced by its standby and is not started again")
        if not self.has_power(node):
            raise PodmanError(f"{node.zone} has no power")
        namespace = self.attach(node)
        self.watch(node, server, postgres.start(self.region.podman, server, namespace))

    def watch(self, node: Node, server: Server, pid: int) -> None:
        self.running[node.name] = server
        self._pids[node.name] = pid
        self._deaths.watch(node.name, pid)

    def wait_ready(self, node: Node) -> None:
        """Return once the node accepts connections. Raises PodmanError."""
        namespace = netns.path(self.region.network.namespace(node.interface.id))
        server = self.running.get(node.name)
        if server is None:  # its end was noticed before anyone looked
            raise PodmanError(f"{node.name}: PostgreSQL ended: {postgres.last_words(self.region.podman, node.name)}")
        postgres.wait_ready(self.region.podman, server, namespace)

    def reload(self, node: Node, server: Server) -> None:
        """Let a running node take over settings that need no restart."""
        postgres.reload(self.region.podman, server)
        self.running[node.name] = replace(server, password=self.running[node.name].password)

    def learned(self, node: Node, password: str | None) -> None:
        """A standby has its primary's new password."""
        if node.name in self.running:
            self.running[node.name] = replace(self.running[node.name], password=password)

    def stop(self, node: Node) -> None:
        """Let a server end in order; its container and data stay."""
        self._forget(node)
        self.region.podman.run("stop", f"--time={STOP_SECONDS}", "--ignore", node.name)

    def kill(self, node: Node) -> None:
        """End a server as a power cut does; its death is told."""
        self.region.podman.run("kill", node.name, check=False)

    def fence(self, node: Node) -> None:
        """End a server for good: when this returns it runs nowhere, and nothing starts it again. Raises PodmanError."""
        self._forget(node)
        self.region.podman.remove(node.name)
        replication.fence(records.volume(self.region, node))
        # Whoever is still connected learns that nobody is there.
        self.region.network.detach(node.interface.id)

    def remove(self, node: Node) -> None:
        """Remove a node with its data and its interface."""
        self._forget(node)
        self.region.podman.remove(node.name)
        self.region.network.detach(node.interface.id)
        shutil.rmtree(records.volume(self.region, node), ignore_errors=True)
        with self.region.records():
            records.forget_node(self.region, node)

    def adopt(self, database: Any, node: Node, containers: set[str]) -> None:
        """Watch a server that runs already. What it was told last is not known, so it is told again."""
        pid = self.region.podman.pid(node.name) if node.name in containers else 0
        if pid:
            self.watch(node, replace(self.wanted(database, node), password=None, parameters={"": ""}), pid)

    def _forget(self, node: Node) -> None:
        self._deaths.forget(node.name)
        self._pids.pop(node.name, None)
        self.running.pop(node.name, None)

    def _died(self, name: str) -> None:
        log.warning("%s: PostgreSQL ended", name)
        self._pids.pop(name, None)
        self.running.pop(name, None)
        self._on_death()
