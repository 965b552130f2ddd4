"""Multi-AZ: a real pair of PostgreSQL servers, ended in every way, while a client counts what was acknowledged."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from botocore.exceptions import ClientError
from common import until
from database_api import ZONES, Api, ask, serving

from twin.bodies import postgres_config, replication
from twin.bodies.podman import PodmanError
from twin.bodies.postgres_sql import run
from twin.control import multi_az
from twin.control.databases import Databases
from twin.region import rds_records
from twin.settings import Settings

MULTI_AZ = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZSingleStandby.html"
FAILOVER = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html"
REBOOT = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RebootDBInstance.html"
MODIFY = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Migrating.html"
EVENTS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html"
CREATE = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html"
PASSWORD = "a-good-password"


@pytest.fixture
def api(twin_settings: Settings, tmp_path: Path) -> Iterator[Api]:
    with serving(twin_settings, tmp_path) as api:
        yield api


class Writer:
    """Inserts one number after the other through the endpoint's name, and keeps those that were acknowledged, and when."""

    def __init__(self, api: Api) -> None:
        self.api = api
        ask(api.connect(password=PASSWORD), "CREATE TABLE IF NOT EXISTS counted (number bigint PRIMARY KEY)")
        self.acknowledged: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._write()
            except psycopg2.Error:
                time.sleep(0.02)

    def _write(self) -> None:
        connection = self.api.connect(password=PASSWORD, connect_timeout=2)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not self._end.is_set():
                number = next(self._numbers)
                cursor.execute("INSERT INTO counted VALUES (%s)", (number,))
                self.acknowledged[number] = time.monotonic()

    def wrote_since(self, moment: float) -> bool:
        return any(when > moment for when in list(self.acknowledged.values()))

    def pause_after(self, moment: float) -> float:
        """Seconds of the longest pause between two acknowledged writes that ended after `moment`."""
        times = [when for when in self.acknowledged.values() if when > moment]
        before = max(when for when in self.acknowledged.values() if when <= moment)
        pause = max(later - earlier for earlier, later in itertools.pairwise([before, *times]))
        print(f"longest pause {pause:.2f} s")
        return round(pause, 2)

    def lost(self) -> set[int]:
        """Acknowledged, and not found."""
        found = {number for (number,) in ask(self.api.connect(password=PASSWORD), "SELECT number FROM counted")}
        assert len(self.acknowledged) > 20
        return set(self.acknowledged) - found


def make_pair(api: Api) -> None:
    api.create(MultiAZ=True, MasterUserPassword=PASSWORD)
    api.wait("available")


def settled(api: Api, writer: Writer) -> None:
    """Wait until the pair is whole again, and writes go on."""
    until(lambda: in_sync(api))
    moment = time.monotonic()
    until(lambda: writer.wrote_since(moment))


def in_sync(api: Api) -> bool:
    with api.region.records():
        return bool(rds_records.standby_is_promotable(api.region, api.record()))


@pytest.mark.rule("failover", "A Multi-AZ instance has a primary and a synchronous standby in two zones.", MULTI_AZ)
@pytest.mark.rule("failover", "A failed primary is replaced by its standby without losing an acknowledged write.", FAILOVER)
@pytest.mark.rule("failover", "After a failover the endpoint's name leads to the new primary.", FAILOVER)
@pytest.mark.rule("failover", "After a failover the zones of primary and standby have changed places.", FAILOVER)
@pytest.mark.rule("failover", "A reboot with ForceFailover makes the standby the primary.", REBOOT)
@pytest.mark.rule("failover", "A failover is told by the events of category failover, RDS-EVENT-0013 and RDS-EVENT-0049.", EVENTS)
def test_no_acknowledged_write_is_lost(api: Api, record_property: Any) -> None:
    make_pair(api)
    described = api.describe()
    assert (described["MultiAZ"], described["AvailabilityZone"], described["SecondaryAvailabilityZone"]) == (True, *ZONES[:2])
    interfaces = api.ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert {interface["AvailabilityZone"] for interface in interfaces} == set(ZONES[:2])
    assert len({str(interface["Groups"]) for interface in interfaces}) == 1
    look_at_replication(api)

    with Writer(api) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        first = api.primary()
        killed = time.monotonic()
        api.region.podman.run("kill", "--signal=KILL", first.name)
        until(lambda: api.primary() is not first)
        assert first.name not in api.region.podman.containers()
        assert api.address() == api.primary().address != first.address
        settled(api, writer)
        record_property("seconds without a write after the primary was killed", writer.pause_after(killed))
        described = api.describe()
        assert (described["AvailabilityZone"], described["SecondaryAvailabilityZone"]) == (ZONES[1], ZONES[0])

        asked = time.monotonic()
        api.rds.reboot_db_instance(DBInstanceIdentifier="test", ForceFailover=True)
        api.wait("available")
        assert api.primary().zone == ZONES[0]
        settled(api, writer)
        record_property("seconds without a write in a reboot with failover", writer.pause_after(asked))
    assert writer.lost() == set()

    told = api.events(EventCategories=["failover"])
    assert told == ["Multi-AZ instance failover started.", "Multi-AZ instance failover completed"] * 2
    details = [detail for kind, detail in api.told if kind == "RDS DB Instance Event" and detail["EventID"] == "RDS-EVENT-0049"]
    assert details[0]["EventCategories"] == ["failover"]
    assert details[0]["SourceType"] == "DB_INSTANCE"
    assert details[0]["SourceIdentifier"] == "test"
    assert details[0]["SourceArn"] == api.describe()["DBInstanceArn"]

    api.delete()
    assert api.region.podman.containers() == []
    assert api.ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    assert not list((api.region.settings.state / "volumes").iterdir())


def look_at_replication(api: Api) -> None:
    """It is over TLS, on a link of its own, and nobody else gets in as its user."""
    statement = """
        SELECT ssl, host(client_addr), sync_state FROM pg_stat_replication JOIN pg_stat_ssl USING (pid)
        WHERE usename = 'rdsrepladmin'
    """
    assert run(api.loop.nodes.pid(api.primary()), 5432, statement) == [(True, "169.254.172.2", "sync")]
    password = api.record().replication_password
    for database in ("postgres", "replication"):
        options = {"replication": "true"} if database == "replication" else {}
        with pytest.raises(psycopg2.OperationalError, match=r"rejects|no pg_hba"):
            api.connect(user="rdsrepladmin", password=password, dbname=database, **options)
    everything = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    logs = [
        subprocess.run(api.region.podman.command("logs", node.name), capture_output=True, text=True, env=environment(api))
        for node in (api.primary(), api.standby())
    ]
    for text in (everything, *(log.stdout + log.stderr for log in logs)):
        assert password not in text
        assert PASSWORD not in text


def environment(api: Api) -> dict[str, str]:
    return {**os.environ, **api.region.podman.environment}


@pytest.mark.rule("failover", "When only the standby fails the primary goes on, and a new standby is built.", FAILOVER)
@pytest.mark.rule("failover", "The rebuilding of a standby is told by RDS-EVENT-0361 and RDS-EVENT-0362.", EVENTS)
@pytest.mark.rule("failover", "A failed primary whose standby is not in sync is restarted where it is.", FAILOVER)
def test_a_primary_without_a_standby_in_sync_stays_the_primary(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(api)
    with Writer(api) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        primary, standby = api.primary(), api.standby()

        # The new standby does not catch up: only then may the primary's writes be missing elsewhere.
        def never(*_: object) -> None:
            raise PodmanError("kept from catching up")

        with monkeypatch.context() as hindered:
            hindered.setattr(api.loop.multi_az, "synchronise", never)
            api.region.podman.run("kill", standby.name)
            until(lambda: api.record().standby is not standby)
            moment = time.monotonic()
            until(lambda: writer.wrote_since(moment))
            assert not in_sync(api)
            api.region.podman.run("kill", primary.name)
            until(lambda: "Recovery of the DB instance is complete." in api.events())
            moment = time.monotonic()
            until(lambda: writer.wrote_since(moment))
            assert api.primary() is primary
        settled(api, writer)
        assert api.standby().zone == standby.zone
    assert writer.lost() == set()
    told = api.events(EventCategories=["recovery"])
    assert told[-1] == "Recovery of standby DB instance has completed."
    assert "Recovery of standby DB instance has started." in told
    assert api.events(EventCategories=["failover"]) == []


@pytest.mark.rule("failover", "A primary that is unresponsive is replaced by its standby.", FAILOVER)
@pytest.mark.rule("failover", "A write is acknowledged only when the standby has it, too.", MULTI_AZ)
def test_a_silent_standby_is_waited_for_and_then_replaced(api: Api) -> None:
    make_pair(api)
    standby = api.standby()
    with Writer(api) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        stopped = time.monotonic()
        freeze(api, standby)
        until(lambda: api.record().standby is not standby)
        settled(api, writer)
        assert writer.pause_after(stopped) > postgres_config.LOST_SECONDS
        assert api.events(EventCategories=["failover"]) == []

        # A primary that hangs is as good as dead.
        primary, stopped = api.primary(), time.monotonic()
        freeze(api, primary)
        until(lambda: api.primary() is not primary)
        settled(api, writer)
        assert writer.pause_after(stopped) > multi_az.UNRESPONSIVE_SECONDS
    assert writer.lost() == set()


def freeze(api: Api, node: rds_records.Node) -> None:
    """Stop every process of a server, without ending one."""
    pid = api.loop.nodes.pid(node)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (pid, *map(int, children)):
        os.kill(process, signal.SIGSTOP)


@pytest.mark.rule("failover", "A Multi-AZ instance whose primary's zone fails is served from the other zone.", FAILOVER)
@pytest.mark.rule("failover", "A Single-AZ instance becomes Multi-AZ without losing a write.", MODIFY)
@pytest.mark.rule("failover", "A Multi-AZ instance becomes Single-AZ, and its primary goes on.", MODIFY)
@pytest.mark.rule("database", "A managed master password that was rotated holds after a failover.", MULTI_AZ)
def test_a_zone_without_power(api: Api) -> None:
    api.create()
    api.wait("available")
    first = api.password()
    ask(
        api.connect(password=first),
        "CREATE TABLE kept (note text); INSERT INTO kept VALUES ('before'); ALTER ROLE accounts PASSWORD 'a-good-password'",
    )
    assert "SecondaryAvailabilityZone" not in api.describe()

    with Writer(api) as writer:
        api.rds.modify_db_instance(DBInstanceIdentifier="test", MultiAZ=True, ApplyImmediately=True)
        assert api.describe()["DBInstanceStatus"] == "modifying"
        api.wait("available")
        assert in_sync(api)
        assert api.describe()["SecondaryAvailabilityZone"] == ZONES[1]

        api.region.faults.dark.update(ZONES[0:1])
        dark = time.monotonic()
        api.region.wake("Databases")
        until(lambda: api.primary().zone == ZONES[1])
        settled(api, writer)
        writer.pause_after(dark)
        # Not in the zone without power, though the standby's place would be there.
        assert api.standby().zone == ZONES[2]
        api.region.faults.dark.clear()
    assert writer.lost() == set()

    api.secrets.rotate_secret(SecretId=api.describe()["MasterUserSecret"]["SecretArn"])
    until(lambda: api.password() != first)
    second = api.password()
    assert api.answers(second)
    assert not api.answers(PASSWORD)
    api.rds.reboot_db_instance(DBInstanceIdentifier="test", ForceFailover=True)
    api.wait("available")
    assert api.primary().zone == ZONES[2]
    assert ask(api.connect(password=second), "SELECT note FROM kept") == [("before",)]
    assert not api.answers(first)

    primary = api.primary()
    api.rds.modify_db_instance(DBInstanceIdentifier="test", MultiAZ=False, ApplyImmediately=True)
    api.wait("available")
    until(lambda: api.region.podman.containers() == [primary.name])
    assert ask(api.connect(password=second), "INSERT INTO kept VALUES ('after') RETURNING note") == [("after",)]
    assert "SecondaryAvailabilityZone" not in api.describe()
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        api.rds.reboot_db_instance(DBInstanceIdentifier="test", ForceFailover=True)
    converted = [message for message in api.events(EventCategories=["configuration change"]) if message.startswith("Finished")]
    assert converted == [
        "Finished applying modification to convert to a Multi-AZ DB instance.",
        "Finished applying modification to convert to a standard (Single-AZ) DB instance.",
    ]
    # Without power and without a standby it waits, and comes back with the power.
    api.region.faults.dark.add(primary.zone)
    api.region.wake("Databases")
    until(lambda: not api.loop.nodes.alive(primary))
    assert not api.answers(second)
    api.region.faults.dark.clear()
    until(lambda: api.answers(second))
    assert api.primary() is primary


@pytest.mark.rule("failover", "A Multi-AZ instance needs a DB subnet group with subnets in two zones.", CREATE)
@pytest.mark.rule("failover", "A Multi-AZ instance can't be created in a zone of one's choice.", CREATE)
def test_multi_az_needs_two_zones(api: Api) -> None:
    api.rds.create_db_subnet_group(DBSubnetGroupName="narrow", DBSubnetGroupDescription="one zone", SubnetIds=api.subnets[:1])
    with pytest.raises(ClientError) as refused:
        api.create(MultiAZ=True, DBSubnetGroupName="narrow")
    assert refused.value.response["Error"]["Code"] == "DBSubnetGroupDoesNotCoverEnoughAZs"
    with pytest.raises(ClientError, match="not valid for Multi-AZ"):
        api.create(MultiAZ=True, AvailabilityZone=ZONES[0])
    api.region.faults.no_capacity.update(ZONES)
    with pytest.raises(ClientError) as refused:
        api.create()
    assert refused.value.response["Error"]["Code"] == "InsufficientDBInstanceCapacity"
    assert api.rds.describe_db_instances()["DBInstances"] == []


def test_a_pair_at_rest_is_looked_after_once_a_period(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a connection to the primary, which takes its processor from those whose database it is."""
    make_pair(api)
    until(lambda: in_sync(api))
    looks: list[float] = []

    def look(*where: Any) -> bool:
        looks.append(time.monotonic())
        return streaming(*where)

    streaming = replication.streaming
    monkeypatch.setattr(replication, "streaming", look)
    until(lambda: len(looks) > 4)
    assert looks[4] - looks[1] > 2.5 * api.loop.period  # the first two may still belong to what went before


def test_a_new_loop_finds_its_pair_again(api: Api) -> None:
    """As after kill -9 of the process and with its records restored: one server went on, the other died meanwhile."""
    make_pair(api)
    with Writer(api) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        old = api.loop
        old.end()
        old.join(timeout=30)
        old.nodes._deaths._watched.clear()
        primary, standby = api.primary(), api.standby()
        started = api.region.podman.run("inspect", "--format={{.State.StartedAt}}", standby.name)
        api.region.names.remove(api.record().address)
        api.region.podman.run("kill", primary.name)
        new = Databases(api.region)
        api.region.loops[new.name] = new
        new.adopt()
        assert new.nodes.alive(standby)
        assert not new.nodes.alive(primary)
        new.start()
        until(lambda: api.primary() is standby)
        settled(api, writer)
        assert api.region.podman.run("inspect", "--format={{.State.StartedAt}}", standby.name) == started

        # The death of an adopted server is noticed, too.
        api.region.podman.run("kill", standby.name)
        until(lambda: api.primary() is not standby)
        settled(api, writer)
    assert writer.lost() == set()


def test_a_failover_that_was_cut_off_is_finished(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between the end of the old primary and the promotion: nothing may start the old one again."""
    make_pair(api)
    with Writer(api) as writer:
        until(lambda: len(writer.acknowledged) > 50)
        primary, standby = api.primary(), api.standby()

        def cut(*_: object) -> None:
            raise PodmanError("cut off")

        with monkeypatch.context() as hindered:
            hindered.setattr(replication, "promote", cut)
            api.region.podman.run("kill", primary.name)
            until(lambda: api.loop.multi_az.must_fail_over(api.record()))
            # Now the standby ends, too: the old primary's volume is whole, but only the standby may come back.
            api.region.podman.run("kill", standby.name)
            with pytest.raises(PodmanError, match="not started again"):
                api.loop.nodes.start(primary, api.loop.nodes.wanted(api.record(), primary))
        until(lambda: api.primary() is standby)
        settled(api, writer)
    assert writer.lost() == set()
