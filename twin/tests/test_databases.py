"""RDS instances whose body is a real PostgreSQL: the API over HTTP, the database over TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from botocore.exceptions import ClientError
from common import until
from database_api import Api, ask, recorded, serving

from twin.bodies import postgres, postgres_image
from twin.bodies.podman import Podman
from twin.settings import Settings

SSL = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.SSL.html"
ROLES = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.rds_superuser.html"
STATES = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html"
PARAMETERS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_WorkingWithDBInstanceParamGroups.html"
SECRETS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html"
STOP = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html"
EVENTS = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeEvents.html"
CREATE = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html"


@pytest.fixture
def api(twin_settings: Settings, tmp_path: Path) -> Iterator[Api]:
    with serving(twin_settings, tmp_path) as api:
        yield api


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Api]:
    with recorded(tmp_path) as api:
        yield api


@pytest.mark.rule("database", "With rds.force_ssl a connection without TLS is refused.", SSL)
@pytest.mark.rule("database", "The master user is no superuser, and rdsadmin is RDS's own.", ROLES)
@pytest.mark.rule("database", "A dynamic parameter is applied without a restart.", PARAMETERS)
@pytest.mark.rule("database", "A stopped instance keeps its data and can be started again.", STOP)
@pytest.mark.rule("database", "A rotated managed password replaces the old one, in the secret and in the database.", SECRETS)
def test_an_instance_lives_from_creating_to_gone(api: Api) -> None:
    created = api.create()
    assert created["DBInstanceStatus"] == "creating"
    described = api.wait("available")
    assert described["AvailabilityZone"] == "us-east-1b"
    assert described["EngineVersion"].startswith("17.")
    assert described["MasterUserSecret"]["SecretArn"].split(":secret:")[1].startswith("rds!db-")
    for change in ({"DBPortNumber": 5433}, {"PubliclyAccessible": True}, {"MonitoringInterval": 60, "MonitoringRoleArn": "x"}):
        with pytest.raises(ClientError, match="not supported by the twin"):
            api.rds.modify_db_instance(DBInstanceIdentifier="test", **change)
    assert api.describe() == described
    host = described["Endpoint"]["Address"]
    assert api.region.names._addresses[host] == api.primary().address
    password = api.password()

    with pytest.raises(ClientError, match="InvalidDBInstanceState"):
        api.rds.start_db_instance(DBInstanceIdentifier="test")

    # Only over TLS, only with the secret's password, and never as RDS's own superuser.
    connection = api.connect(password=password)
    ask(connection, "CREATE TABLE kept (note text); INSERT INTO kept VALUES ('still here')")
    assert ask(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        api.connect(password=password, sslmode="disable")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        api.connect(password="wrong")
    with pytest.raises(psycopg2.OperationalError, match="rejects connection"):
        api.connect(password=password, user="rdsadmin")
    everything = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    assert password not in everything

    # A parameter that needs no restart is taken over; a killed server comes back with its data.
    parameter = {"ParameterName": "log_min_duration_statement", "ParameterValue": "750", "ApplyMethod": "immediate"}
    api.rds.modify_db_parameter_group(DBParameterGroupName="test", Parameters=[parameter])
    until(lambda: ask(api.connect(password=password), "SHOW log_min_duration_statement") == [("750ms",)])
    api.region.podman.run("kill", api.primary().name)
    until(lambda: "Recovery of the DB instance is complete." in api.events())
    until(lambda: api.answers(password))
    assert ask(api.connect(password=password), "SELECT note FROM kept") == [("still here",)]

    api.rds.stop_db_instance(DBInstanceIdentifier="test")
    api.wait("stopped")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        api.connect(password=password)
    api.rds.start_db_instance(DBInstanceIdentifier="test")
    api.wait("available")
    api.rds.modify_db_instance(DBInstanceIdentifier="test", RotateMasterUserPassword=True, ApplyImmediately=True)
    until(lambda: api.password() != password)
    until(lambda: api.answers(api.password()))
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        api.connect(password=password)

    rotated = api.password()
    api.secrets.rotate_secret(SecretId=described["MasterUserSecret"]["SecretArn"])
    until(lambda: api.password() != rotated)
    # It is in the secret only once the database takes it.
    assert api.answers(api.password())
    assert not api.answers(rotated)
    assert api.describe()["MasterUserSecret"]["SecretStatus"] == "active"
    told = [
        "DB instance created",
        "Recovery of the DB instance has started. Recovery time will vary with the amount of data to be recovered.",
        "DB instance restarted",
        "Recovery of the DB instance is complete.",
        "DB instance stopped",
        "DB instance started",
        *["Reset master credentials"] * 2,
    ]
    assert api.events() == told
    assert api.events(EventCategories=["notification"]) == told[4:6]
    assert api.events(EndTime=datetime.now(UTC) - timedelta(minutes=30), Duration=5) == []
    with pytest.raises(ClientError, match="source identifier without source type"):
        api.rds.describe_events(SourceIdentifier="test")

    api.rds.delete_db_instance(DBInstanceIdentifier="test", SkipFinalSnapshot=True)
    assert api.describe()["DBInstanceStatus"] == "deleting"
    until(lambda: not api.rds.describe_db_instances()["DBInstances"])
    assert api.region.podman.containers() == []
    assert host not in api.region.names._addresses
    assert not list((api.region.settings.state / "volumes").iterdir())
    assert api.ec2.describe_network_interfaces()["NetworkInterfaces"] == []


@pytest.mark.rule("database", "An instance whose server can't be started is failed, and can be deleted.", STATES)
def test_a_body_that_does_not_start_is_shown_as_failed(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    parameter = {
        "ParameterName": "shared_preload_libraries",
        "ParameterValue": "no_such_library",
        "ApplyMethod": "pending-reboot",
    }
    api.rds.modify_db_parameter_group(DBParameterGroupName="test", Parameters=[parameter])
    api.create(MasterUserPassword="a-good-password")
    api.wait("failed")
    assert "no_such_library" in caplog.text
    assert "a-good-password" not in caplog.text
    api.rds.delete_db_instance(DBInstanceIdentifier="test", SkipFinalSnapshot=True)
    until(lambda: not api.rds.describe_db_instances()["DBInstances"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"EngineVersion": "16.4"}, "Cannot find version 16.4"),
        ({"MasterUsername": "rdsadmin"}, "reserved word"),
        ({"MasterUserPassword": "short"}, "8 to 128 characters"),
        ({"MasterUserPassword": "with a space"}, "not a valid password"),
        ({"DBName": "no-dash"}, "DBName"),
        ({"AvailabilityZone": "us-east-1f"}, "no subnet in us-east-1f"),
        ({"DBSubnetGroupName": "nowhere"}, "nowhere"),
        ({"Engine": "mysql", "EngineVersion": "8.0"}, "mysql is not supported by the twin"),
        ({"Engine": "aurora-postgresql", "DBClusterIdentifier": "x"}, "not supported by the twin"),
        ({"PubliclyAccessible": True}, "PubliclyAccessible is not supported by the twin"),
        ({"EnableIAMDatabaseAuthentication": True}, "EnableIAMDatabaseAuthentication is not supported by the twin"),
        ({"EnableCloudwatchLogsExports": ["postgresql"]}, "EnableCloudwatchLogsExports is not supported by the twin"),
    ],
)
def test_what_can_not_become_a_database_is_refused(records: Api, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        records.create(**options)
    assert records.rds.describe_db_instances()["DBInstances"] == []


def test_what_has_no_body_is_refused(records: Api) -> None:
    """Never a record that nothing stands behind."""
    api = records
    calls = (
        (api.rds.create_db_cluster, {"DBClusterIdentifier": "x", "Engine": "aurora-postgresql", "MasterUsername": "x"}),
        (api.rds.create_db_instance_read_replica, {"DBInstanceIdentifier": "x", "SourceDBInstanceIdentifier": "test"}),
        (api.rds.start_activity_stream, {"ResourceArn": "x", "Mode": "sync", "KmsKeyId": "x"}),
        (api.rds.create_global_cluster, {"GlobalClusterIdentifier": "x"}),
        (
            api.rds.create_db_proxy,
            {"DBProxyName": "x", "EngineFamily": "POSTGRESQL", "RoleArn": "arn:aws:iam::123456789012:role/x", "VpcSubnetIds": []},
        ),
        (
            api.rds.start_export_task,
            dict.fromkeys(("ExportTaskIdentifier", "SourceArn", "S3BucketName", "IamRoleArn", "KmsKeyId"), "x"),
        ),
    )
    for call, options in calls:
        with pytest.raises(ClientError, match="not supported by the twin"):
            call(**options)
    assert api.rds.describe_db_clusters()["DBClusters"] == []


def test_the_records_keep_what_terraform_compares(records: Api) -> None:
    api = records
    api.create(EnablePerformanceInsights=True, PerformanceInsightsRetentionPeriod=31)
    described = api.describe()
    assert described["PerformanceInsightsEnabled"] is True
    assert described["PerformanceInsightsRetentionPeriod"] == 31
    assert described["DBParameterGroups"][0]["DBParameterGroupName"] == "test"
    groups = api.rds.describe_db_subnet_groups(DBSubnetGroupName="test")["DBSubnetGroups"]
    subnets = [subnet["SubnetIdentifier"] for subnet in groups[0]["Subnets"]]
    api.rds.modify_db_subnet_group(DBSubnetGroupName="test", SubnetIds=subnets)
    assert api.rds.describe_db_subnet_groups(DBSubnetGroupName="test")["DBSubnetGroups"]
    parameter = {"ParameterName": "work_mem", "ParameterValue": "8192", "ApplyMethod": "immediate"}
    api.rds.modify_db_parameter_group(DBParameterGroupName="test", Parameters=[parameter])
    [kept] = api.rds.describe_db_parameters(DBParameterGroupName="test")["Parameters"]
    assert kept == {**parameter, "Source": "user"}
    api.rds.reset_db_parameter_group(DBParameterGroupName="test", Parameters=[parameter])
    assert api.rds.describe_db_parameters(DBParameterGroupName="test")["Parameters"] == []


def test_a_server_runs_without_rds(twin_settings: Settings, tmp_path: Path) -> None:
    """As other packages' tests use it: on the host's network, on a port of its own."""
    podman = Podman(twin_settings)
    podman.configure()
    postgres_image.build(podman)
    port = 15000 + twin_settings.slot
    server = postgres.Server(
        f"{twin_settings.name}-postgres",
        tmp_path,
        "accounts",
        "it's a secret",
        database="accounts",
        port=port,
        listen="127.0.0.1",
    )
    try:
        postgres.start(podman, server)
        postgres.wait_ready(podman, server)
        options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "accounts", "dbname": "accounts"}
        assert ask(psycopg2.connect(password=server.password, **options), "SELECT 1") == [(1,)]
    finally:
        podman.remove(server.name)
