"""Multi-AZ: a synchronous standby in another zone, which takes over when the primary or its zone fails.

Nothing acknowledged is lost: a standby may be promoted only while the primary acknowledges nothing that the standby
lacks, and the old primary is ended for good before that. A primary that loses its standby goes on alone, and no standby
may be promoted until one has caught up again.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZSingleStandby.html
"""

from __future__ import annotations

import logging
import time
from typing import Any

from twin.bodies import replication
from twin.bodies.podman import PodmanError
from twin.bodies.postgres_sql import Unresponsive, run
from twin.control.database_nodes import Nodes
from twin.region import rds_records as records
from twin.region.rds_events import tell
from twin.region.region import Region

log = logging.getLogger(__name__)

# How long a standby may be silent before the primary goes on without it, and how long it may take to connect at first.
SILENT_SECONDS = 10.0
CONNECT_SECONDS = 60.0
# How long a primary may leave a statement unanswered before its standby takes over.
UNRESPONSIVE_SECONDS = 10.0


class MultiAZ:
    def __init__(self, region: Region, nodes: Nodes) -> None:
        self.region = region
        self.nodes = nodes
        # Since when a primary has not heard of its standby. Lost with the process, which only lengthens a wait.
        self._silent: dict[str, float] = {}
        # Since when a primary has not answered, likewise.
        self._deaf: dict[str, float] = {}

    # Decisions

    def can_fail_over(self, database: Any) -> bool:
        """Whether the standby has every acknowledged commit, and power."""
        return records.standby_is_promotable(self.region, database) and self.nodes.has_power(database.standby)

    def must_fail_over(self, database: Any) -> bool:
        """Whether an earlier attempt has ended the primary for good."""
        return replication.is_fenced(records.volume(self.region, database.node))

    def is_unresponsive(self, database: Any) -> bool:
        """Whether a primary that runs has not answered for too long. One that answers with an error does answer."""
        try:
            run(self.nodes.pid(database.node), int(database.port), "SELECT 1")
        except Unresponsive:
            since = self._deaf.setdefault(database.node.name, time.monotonic())
            return time.monotonic() - since > UNRESPONSIVE_SECONDS
        except PodmanError:
            pass
        self._deaf.pop(database.node.name, None)
        return False

    def needs_care(self, database: Any) -> bool:
        """Whether there is a standby to look after, to make or to remove."""
        return bool(database.retired or database.multi_az or database.standby)

    # Actions

    def fail_over(self, database: Any) -> None:
        """Promote the standby. Raises PodmanError when that is not possible now; it can be tried again."""
        old, new = database.node, database.standby
        began = time.monotonic()
        if not self.must_fail_over(database):
            tell(self.region, database, 13)
        log.warning("%s: %s is replaced by %s in %s", database.db_instance_identifier, old.name, new.name, new.zone)
        self.nodes.fence(old)
        if not self.nodes.alive(new):
            with self.region.records():
                server = self.nodes.server(database, new)
            self.nodes.start(new, server)
        replication.promote(records.volume(self.region, new), self.nodes.pid(new))
        self.nodes.wait_ready(new)
        self.region.names.set(database.address, new.address)
        with self.region.records():
            records.set_primary(database, new)
            database.standby = None
            # Where a standby is built next, if that zone has power.
            database.secondary_availability_zone = old.zone
            database.retired.append(old)
        # The mark that it may be promoted stays: if the records are lost here, it tells that this one is to be the primary.
        self.nodes.reload(new, self.nodes.wanted(database, new))
        tell(self.region, database, 49)
        log.warning("%s: failover took %.1f s", database.db_instance_identifier, time.monotonic() - began)

    def care(self, database: Any) -> None:
        """Bring the standby nearer to what the record asks for: one step a call."""
        for node in list(database.retired):
            self.nodes.remove(node)
            with self.region.records():
                database.retired.remove(node)
        if not database.multi_az:
            if database.standby is not None:
                self.go_on_alone(database)
        elif not self.nodes.alive(database.standby):
            if database.standby is not None:
                self.go_on_alone(database)
            self.build(database, recovery=True)
        else:
            self._listen(database)

    def build(self, database: Any, recovery: bool = False) -> bool:
        """Make a standby and let it catch up; whether there was a zone for it. Raises PodmanError."""
        if database.standby is not None:
            self._drop(database)  # half made, by a process that ended
        with self.region.records():
            subnet = records.standby_subnet(self.region, database)
            if subnet is None:
                return False
            standby = records.new_node(self.region, database, subnet)
            records.set_standby(database, standby)
            server = self.nodes.server(database, standby)
        if recovery:
            tell(self.region, database, 361)
        try:
            namespace = self.nodes.attach(standby)
            self.nodes.join(database)
            primary = records.volume(self.region, database.node)
            replication.copy_primary(self.region.podman, server, primary, namespace)
            self.nodes.start(standby, server)
            self.synchronise(database)
        except Exception:
            self._drop(database)
            raise
        if recovery:
            tell(self.region, database, 362)
        return True

    def synchronise(self, database: Any) -> None:
        """Wait until the standby streams, then let the primary wait for it. Raises PodmanError."""
        primary, standby = database.node, database.standby
        name = standby.interface.id

        def alive() -> bool:
            return self.nodes.alive(primary) and self.nodes.alive(standby)

        deadline = time.monotonic() + CONNECT_SECONDS
        while not replication.streaming(self.nodes.pid(primary), int(database.port), name):
            if not alive() or time.monotonic() > deadline:
                raise PodmanError(f"{standby.name} does not follow {primary.name}")
            time.sleep(0.1)
        with self.region.records():
            server = self.nodes.server(database, primary, confirmed_by=name)
        self.nodes.reload(primary, server)
        try:
            replication.confirm(self.nodes.pid(primary), int(database.port), name, alive)
        except PodmanError:
            if self.nodes.alive(primary):
                self.nodes.reload(primary, self.nodes.wanted(database, primary))
            raise
        replication.set_promotable(records.volume(self.region, standby), True)

    def go_on_alone(self, database: Any) -> None:
        """Let the primary acknowledge commits by itself, and drop its standby, which may not be promoted from now on."""
        replication.set_promotable(records.volume(self.region, database.standby), False)
        if self.nodes.alive(database.node):
            self.nodes.reload(database.node, self.nodes.wanted(database, database.node))
        self._drop(database)

    def restart_standby(self, database: Any) -> None:
        """Restart a standby with settings that need it, after its primary has them."""
        self.nodes.stop(database.standby)
        self.start_standby(database)

    def start_standby(self, database: Any) -> None:
        """Start a standby that was stopped, next to its running primary."""
        with self.region.records():
            server = self.nodes.server(database, database.standby)
        self.nodes.attach(database.standby)
        if not self.joined(database):
            self.nodes.join(database)
        self.nodes.start(database.standby, server)

    def joined(self, database: Any) -> bool:
        primary, standby = (self.region.network.namespace(node.interface.id) for node in (database.node, database.standby))
        return replication.joined(primary, standby)

    def _drop(self, database: Any) -> None:
        with self.region.records():
            standby = database.standby
            database.standby = None
            if not database.multi_az:
                database.secondary_availability_zone = None
            if standby is not None:
                database.retired.append(standby)
        if standby is not None:
            self.nodes.fence(standby)

    def _listen(self, database: Any) -> None:
        """See that the standby follows."""
        key = database.standby.name
        if replication.streaming(self.nodes.pid(database.node), int(database.port), database.standby.interface.id):
            self._silent.pop(key, None)
            if not records.standby_is_promotable(self.region, database):
                self.synchronise(database)
                tell(self.region, database, 362)
            return
        since = self._silent.setdefault(key, time.monotonic())
        if time.monotonic() - since > SILENT_SECONDS:
            log.warning("%s: its standby is silent; the primary goes on alone", database.db_instance_identifier)
            self._silent.pop(key)
            self.go_on_alone(database)
