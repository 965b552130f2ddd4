"""RDS instances whose body is a real PostgreSQL: the API over HTTP, the database over TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from botocore.exceptions import ClientError
from database_api import Api, ask, serving, wait_for

from twin.bodies import postgres, postgres_image
from twin.bodies.podman import Podman
from twin.settings import Settings


@pytest.fixture
def api(twin_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with serving(twin_settings, tmp_path, monkeypatch) as api:
        yield api


def test_an_instance_lives_from_creating_to_gone(api: Api) -> None:
    created = api.create()
    assert created["DBInstanceStatus"] == "creating"
    described = api.wait("available")
    assert described["AvailabilityZone"] == "us-east-1b"
    assert described["EngineVersion"].startswith("17.")
    assert described["MasterUserSecret"]["SecretArn"].split(":secret:")[1].startswith("rds!db-")
    host = described["Endpoint"]["Address"]
    assert api.region.names._addresses[host] == api.primary().address
    password = api.password()

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
    wait_for(lambda: ask(api.connect(password=password), "SHOW log_min_duration_statement") == [("750ms",)])
    api.region.podman.run("kill", api.primary().name)
    wait_for(lambda: "Recovery of the DB instance is complete." in api.events())
    wait_for(lambda: api.answers(password))
    assert ask(api.connect(password=password), "SELECT note FROM kept") == [("still here",)]

    api.rds.stop_db_instance(DBInstanceIdentifier="test")
    api.wait("stopped")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        api.connect(password=password)
    api.rds.start_db_instance(DBInstanceIdentifier="test")
    api.wait("available")
    api.rds.modify_db_instance(DBInstanceIdentifier="test", RotateMasterUserPassword=True, ApplyImmediately=True)
    wait_for(lambda: api.password() != password)
    wait_for(lambda: api.answers(api.password()))
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        api.connect(password=password)

    api.rds.delete_db_instance(DBInstanceIdentifier="test", SkipFinalSnapshot=True)
    assert api.describe()["DBInstanceStatus"] == "deleting"
    wait_for(lambda: not api.rds.describe_db_instances()["DBInstances"])
    assert api.region.podman.containers() == []
    assert host not in api.region.names._addresses
    assert not list((api.region.settings.state / "volumes").iterdir())
    assert api.ec2.describe_network_interfaces()["NetworkInterfaces"] == []


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
    wait_for(lambda: not api.rds.describe_db_instances()["DBInstances"])


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
    ],
)
def test_what_can_not_become_a_database_is_refused(api: Api, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        api.create(**options)
    assert api.rds.describe_db_instances()["DBInstances"] == []


def test_the_records_keep_what_terraform_compares(api: Api) -> None:
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
    server = postgres.Server(
        "test-postgres", tmp_path, "accounts", "it's a secret", database="accounts", port=15432, listen="127.0.0.1"
    )
    try:
        postgres.start(podman, server)
        postgres.wait_ready(podman, server)
        options: dict[str, Any] = {"host": "127.0.0.1", "port": 15432, "user": "accounts", "dbname": "accounts"}
        assert ask(psycopg2.connect(password=server.password, **options), "SELECT 1") == [(1,)]
    finally:
        podman.remove(server.name)
