"""RDS instances whose body is a real PostgreSQL: the API over HTTP, the database over TLS."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from botocore.exceptions import ClientError
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from twin.bodies import netns, postgres, postgres_image
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.databases import Databases
from twin.region import patch, rds
from twin.region.region import Region
from twin.settings import Settings


@pytest.fixture
def region(twin_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    # The extensions change moto's classes; this takes the changes back afterwards.
    undoable: Any = monkeypatch.setattr
    monkeypatch.setattr(patch, "setattr", lambda *args: undoable(*args, raising=False), raising=False)
    settings = replace(twin_settings, name=f"{twin_settings.name}-databases", state=tmp_path)
    region = Region(settings, Podman(settings))
    region.podman.configure()
    region.network = Network(settings, lambda vpc, namespace: None, lambda vpc: None)
    clear(region)
    region.network.open()
    rds.install(region)
    loop = Databases(region)
    region.loops[loop.name] = loop
    loop.start()
    moto = DomainDispatcherApplication(create_backend_app)

    def api(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with region.lock:
            return list(moto(environ, start_response))

    server = make_server(settings.address, 4566, api, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield region
    server.shutdown()
    server.server_close()
    loop.end()
    loop.join(timeout=30)
    clear(region)
    moto_api_backend.reset()


def clear(region: Region) -> None:
    for name in region.podman.containers():
        region.podman.remove(name)
    region.network.close()


class Api:
    """An operator's clients, and a DB subnet group to use."""

    def __init__(self, region: Region) -> None:
        def client(service: str) -> Any:
            session = boto3.Session("test", "test", region_name=region.settings.region)
            make: Any = session.client
            return make(service, endpoint_url=region.settings.endpoint_url)

        self.region = region
        self.rds, self.ec2, self.secrets = client("rds"), client("ec2"), client("secretsmanager")
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in ((1, "b"), (2, "c"))
        ]
        self.vpc = vpc
        self.rds.create_db_subnet_group(DBSubnetGroupName="test", DBSubnetGroupDescription="test", SubnetIds=subnets)
        self.rds.create_db_parameter_group(DBParameterGroupName="test", DBParameterGroupFamily="postgres17", Description="test")

    def create(self, **options: Any) -> dict[str, Any]:
        defaults = {
            "DBInstanceIdentifier": "test",
            "DBInstanceClass": "db.t4g.micro",
            "Engine": "postgres",
            "AllocatedStorage": 20,
            "DBName": "accounts",
            "MasterUsername": "accounts",
            "DBSubnetGroupName": "test",
            "DBParameterGroupName": "test",
        }
        password = {} if "MasterUserPassword" in options else {"ManageMasterUserPassword": True}
        created: dict[str, Any] = self.rds.create_db_instance(**{**defaults, **password, **options})["DBInstance"]
        return created

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rds.describe_db_instances(DBInstanceIdentifier="test")["DBInstances"][0]
        return found

    def wait(self, status: str, seconds: float = 60) -> dict[str, Any]:
        wait_for(lambda: self.describe()["DBInstanceStatus"] == status, seconds)
        return self.describe()

    def password(self) -> str:
        arn = self.describe()["MasterUserSecret"]["SecretArn"]
        secret = json.loads(self.secrets.get_secret_value(SecretId=arn)["SecretString"])
        assert secret["username"] == "accounts"
        return str(secret["password"])

    def connect(self, **options: Any) -> Any:
        """Connect from inside the VPC, as an instance would."""
        database = self.region.backend("rds").databases["test"]
        address = database.interface.private_ip_address
        settings = {"host": address, "user": "accounts", "dbname": "accounts", "sslmode": "require", "connect_timeout": 5}
        return netns.inside(self.region.network.namespace(self.vpc), lambda: psycopg2.connect(**{**settings, **options}))


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


@pytest.fixture
def api(region: Region) -> Api:
    return Api(region)


def ask(connection: Any, query: str) -> Any:
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else None


def test_an_instance_lives_from_creating_to_gone(api: Api) -> None:
    created = api.create()
    assert created["DBInstanceStatus"] == "creating"
    described = api.wait("available")
    assert described["AvailabilityZone"] == "us-east-1b"
    assert described["EngineVersion"].startswith("17.")
    assert described["MasterUserSecret"]["SecretArn"].split(":secret:")[1].startswith("rds!db-")
    host = described["Endpoint"]["Address"]
    database = api.region.backend("rds").databases["test"]
    assert api.region.names._addresses[host] == database.interface.private_ip_address
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
    api.region.podman.run("kill", database.body_name)
    time.sleep(0.5)
    wait_for(lambda: postgres_answers(api, password))
    assert ask(api.connect(password=password), "SELECT note FROM kept") == [("still here",)]

    api.rds.stop_db_instance(DBInstanceIdentifier="test")
    api.wait("stopped")
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        api.connect(password=password)
    api.rds.start_db_instance(DBInstanceIdentifier="test")
    api.wait("available")
    api.rds.modify_db_instance(DBInstanceIdentifier="test", RotateMasterUserPassword=True, ApplyImmediately=True)
    assert api.password() != password
    wait_for(lambda: postgres_answers(api, api.password()))
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        api.connect(password=password)

    api.rds.delete_db_instance(DBInstanceIdentifier="test", SkipFinalSnapshot=True)
    assert api.describe()["DBInstanceStatus"] == "deleting"
    wait_for(lambda: not api.rds.describe_db_instances()["DBInstances"])
    assert api.region.podman.containers() == []
    assert host not in api.region.names._addresses
    assert not list((api.region.settings.state / "volumes").iterdir())
    assert api.ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def postgres_answers(api: Api, password: str) -> bool:
    try:
        return bool(ask(api.connect(password=password), "SELECT 1"))
    except psycopg2.OperationalError:
        return False


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
