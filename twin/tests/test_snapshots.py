"""Snapshots and automated backups: real copies of a real database, made into new ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import until
from database_api import ZONES, Api, ask, serving

from twin.settings import Settings

SNAPSHOT = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_CreateSnapshot.html"
RESTORE = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RestoreFromSnapshot.html"
POINT = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIT.html"
BACKUPS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_WorkingWithAutomatedBackups.html"
DELETE = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_DeleteInstance.html"
EVENTS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.html"
PASSWORD = "a-good-password"


@pytest.fixture
def api(twin_settings: Settings, tmp_path: Path) -> Iterator[Api]:
    with serving(twin_settings, tmp_path) as api:
        yield api


def notes(api: Api, name: str, **options: Any) -> list[str]:
    rows = ask(api.connect(name, password=PASSWORD, **options), "SELECT note FROM kept ORDER BY note")
    return [note for (note,) in rows]


def write(api: Api, note: str) -> None:
    ask(api.connect(password=PASSWORD), f"INSERT INTO kept VALUES ('{note}')")  # noqa: S608 (the test's own words)


def wait_snapshot(api: Api, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        found: dict[str, Any] = api.rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"][0]
        return found

    until(lambda: look()["Status"] in ("available", "failed"))
    assert look()["Status"] == "available"
    return look()


def refused(call: Any, code: str, **options: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**options)
    assert error.value.response["Error"]["Code"] == code
    return str(error.value)


@pytest.mark.rule(
    "database", "A snapshot holds the data of the moment it was taken, and a new instance made of it has that data.", RESTORE
)
@pytest.mark.rule("database", "A restored instance has the master user's password of the snapshot.", RESTORE)
@pytest.mark.rule("database", "While a snapshot is taken the instance is backing-up.", SNAPSHOT)
@pytest.mark.rule("database", "An instance is deleted with a final snapshot unless SkipFinalSnapshot is said.", DELETE)
@pytest.mark.rule("database", "An instance with deletion protection is not deleted.", DELETE)
@pytest.mark.rule("database", "An event subscription sends an instance's events of its categories to its SNS topic.", EVENTS)
def test_a_snapshot_outlives_its_instance(api: Api) -> None:
    topic = api.sns.create_topic(Name="databases")["TopicArn"]
    queue = api.sqs.create_queue(QueueName="databases")["QueueUrl"]
    queue_arn = api.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    api.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
    refused(api.rds.create_event_subscription, "SNSTopicArnNotFound", SubscriptionName="x", SnsTopicArn=f"{topic}x")
    api.rds.create_event_subscription(
        SubscriptionName="deaths", SnsTopicArn=topic, SourceType="db-instance", EventCategories=["deletion", "restoration"]
    )
    api.create(MasterUserPassword=PASSWORD)
    refused(api.rds.create_db_snapshot, "InvalidDBInstanceState", DBInstanceIdentifier="test", DBSnapshotIdentifier="early")
    api.wait("available")
    ask(api.connect(password=PASSWORD), "CREATE TABLE kept (note text)")
    write(api, "first")
    taken = api.rds.create_db_snapshot(DBInstanceIdentifier="test", DBSnapshotIdentifier="manual")["DBSnapshot"]
    assert taken["Status"] == "creating"
    assert api.describe()["DBInstanceStatus"] == "backing-up"
    snapshot = wait_snapshot(api, "manual")
    assert (snapshot["SnapshotType"], snapshot["PercentProgress"], snapshot["AvailabilityZone"]) == ("manual", 100, ZONES[0])
    api.wait("available")
    write(api, "second")

    api.rds.copy_db_snapshot(SourceDBSnapshotIdentifier="manual", TargetDBSnapshotIdentifier="copied")
    wait_snapshot(api, "copied")
    api.rds.delete_db_snapshot(DBSnapshotIdentifier="manual")
    refused(api.rds.describe_db_snapshots, "DBSnapshotNotFound", DBSnapshotIdentifier="manual")

    api.rds.modify_db_instance(DBInstanceIdentifier="test", DeletionProtection=True)
    delete = api.rds.delete_db_instance
    refused(delete, "InvalidParameterCombination", DBInstanceIdentifier="test", SkipFinalSnapshot=True)
    api.rds.modify_db_instance(DBInstanceIdentifier="test", DeletionProtection=False)
    assert "required unless SkipFinalSnapshot" in refused(delete, "InvalidParameterCombination", DBInstanceIdentifier="test")
    api.delete(SkipFinalSnapshot=False, FinalDBSnapshotIdentifier="final")
    assert api.region.podman.containers() == []

    restore = api.rds.restore_db_instance_from_db_snapshot
    managed = {"DBInstanceIdentifier": "again", "DBSnapshotIdentifier": "final", "ManageMasterUserPassword": True}
    refused(restore, "InvalidParameterCombination", **managed)
    refused(restore, "DBSnapshotNotFound", DBInstanceIdentifier="again", DBSnapshotIdentifier="nowhere")
    restore(DBInstanceIdentifier="again", DBSnapshotIdentifier="final", MultiAZ=True)
    restore(DBInstanceIdentifier="early", DBSnapshotIdentifier="copied")
    again = api.wait("available", "again")
    api.wait("available", "early")
    assert notes(api, "again") == ["first", "second"]
    assert notes(api, "early") == ["first"]
    assert again["MultiAZ"] is True
    api.rds.modify_db_instance(DBInstanceIdentifier="early", MasterUserPassword="another-password", ApplyImmediately=True)
    until(lambda: api.answers("another-password", "early"))
    api.delete("early")
    # The pair that was made of a copy is a real one.
    primary = api.primary("again")
    api.region.podman.run("kill", primary.name)
    until(lambda: api.primary("again") is not primary)
    until(lambda: api.answers(PASSWORD, "again"))
    assert notes(api, "again") == ["first", "second"]
    api.delete("again")
    for name in ("copied", "final"):
        api.rds.delete_db_snapshot(DBSnapshotIdentifier=name)
    until(lambda: not list((api.region.settings.state / "volumes").iterdir()))

    messages = []
    while received := api.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in received:
            messages.append(json.loads(json.loads(message["Body"])["Message"]))
            api.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    told = {(message["Source ID"], message["Event Message"]) for message in messages}
    assert ("test", "DB instance deleted") in told
    assert ("again", "Restored from snapshot final") in told
    assert all("created" not in message["Event Message"] for message in messages)
    assert messages[0]["Event ID"].endswith("#RDS-EVENT-0003")


@pytest.mark.rule("database", "An instance with a retention period is backed up when it is created.", BACKUPS)
@pytest.mark.rule("database", "A point in time can be restored to a new instance, up to the latest restorable time.", POINT)
@pytest.mark.rule("database", "A time outside the retention period or after the latest restorable time is refused.", POINT)
@pytest.mark.rule("database", "A retention period of 0 disables automated backups and removes the automated snapshots.", BACKUPS)
def test_a_moment_can_be_restored(api: Api) -> None:
    api.loop.backups.archive_seconds = 1.0
    api.create(MasterUserPassword=PASSWORD, BackupRetentionPeriod=1, MultiAZ=True)
    api.wait("available")
    [automated] = api.rds.describe_db_snapshots(DBInstanceIdentifier="test", SnapshotType="automated")["DBSnapshots"]
    assert automated["DBSnapshotIdentifier"].startswith("rds:test-")
    refused(api.rds.delete_db_snapshot, "InvalidDBSnapshotState", DBSnapshotIdentifier=automated["DBSnapshotIdentifier"])
    created = api.describe()["LatestRestorableTime"]
    ask(api.connect(password=PASSWORD), "CREATE TABLE kept (note text)")
    write(api, "first")
    moment = datetime.now(UTC)
    until(lambda: api.describe()["LatestRestorableTime"] > moment)
    # A failover goes on with the same backups, on another timeline.
    api.rds.reboot_db_instance(DBInstanceIdentifier="test", ForceFailover=True)
    api.wait("available")
    write(api, "second")
    written = datetime.now(UTC)
    until(lambda: api.describe()["LatestRestorableTime"] > written)

    restore = api.rds.restore_db_instance_to_point_in_time
    names = {"SourceDBInstanceIdentifier": "test", "TargetDBInstanceIdentifier": "then"}
    refused(restore, "InvalidParameterCombination", **names)
    for outside in (created - timedelta(days=1), datetime.now(UTC) + timedelta(hours=1)):
        assert "cannot be restored to a time later than" in refused(
            restore, "InvalidParameterValue", **names, RestoreTime=outside
        )
    restore(**names, RestoreTime=moment)
    restore(**{**names, "TargetDBInstanceIdentifier": "latest"}, UseLatestRestorableTime=True)
    api.wait("available", "then")
    api.wait("available", "latest")
    assert notes(api, "then") == ["first"]
    assert notes(api, "latest") == ["first", "second"]
    assert "Restored from DB instance test to then" in api.events(SourceIdentifier="then")
    [window] = api.rds.describe_db_instance_automated_backups(DBInstanceIdentifier="test")["DBInstanceAutomatedBackups"]
    assert window["RestoreWindow"]["EarliestTime"] <= created <= window["RestoreWindow"]["LatestTime"]

    api.rds.modify_db_instance(DBInstanceIdentifier="test", BackupRetentionPeriod=0, ApplyImmediately=True)
    until(lambda: "LatestRestorableTime" not in api.describe())
    assert not api.rds.describe_db_snapshots(DBInstanceIdentifier="test", SnapshotType="automated")["DBSnapshots"]
    refused(restore, "PointInTimeRestoreNotEnabled", **names, UseLatestRestorableTime=True)
    told = api.events(EventCategories=["backup", "configuration change"])
    assert told[:2] == ["Backing up DB instance", "Finished DB instance backup"]
    assert told[-1] == "Disabled automated backups"
    for name in ("then", "latest", "test"):
        api.delete(name)
    assert api.region.podman.containers() == []
