"""What the tests of databases share: a region that has nothing but RDS, and an operator's clients."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import psycopg2
from common import api_of, clear, client, served_at, undoing, until
from moto import mock_aws
from moto.moto_api._internal.models import moto_api_backend

from twin.bodies import netns
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.databases import Databases
from twin.region import rds
from twin.region.rds_records import Node
from twin.region.region import Region
from twin.settings import API_PORT, Settings

ZONES = ("us-east-1b", "us-east-1c", "us-east-1d")


@contextmanager
def serving(twin_settings: Settings, folder: Path) -> Iterator[Api]:
    """A region with RDS behind HTTP; everything is gone afterwards."""
    settings = replace(twin_settings, name=f"{twin_settings.name}-databases", state=folder)
    region = Region(settings, Podman(settings))
    region.podman.configure()
    region.network = Network(settings, lambda vpc, namespace: None, lambda vpc: None)
    clear(region)
    region.network.open()
    with undoing():
        rds.install(region)
        loop = Databases(region)
        region.loops[loop.name] = loop
        loop.start()
        try:
            with served_at(settings.address, API_PORT, api_of(region)):
                session: Any = boto3.Session("test", "test", region_name=settings.region)
                yield Api(region, functools.partial(session.client, endpoint_url=settings.endpoint_url))
        finally:
            for running in region.loops.values():
                running.end()
                running.join(timeout=30)
            clear(region)
            moto_api_backend.reset()


@contextmanager
def recorded(folder: Path) -> Iterator[Api]:
    """The same without bodies, and without anything that gives them: for what only the records say."""
    settings = Settings(state=folder, store=folder / "store", name="databases", slot=64)
    with undoing(), mock_aws():
        region = Region(settings, Podman(settings))
        rds.install(region)
        yield Api(region, client)


class Api:
    """An operator's clients, a DB subnet group of three zones, and looks into databases from inside the VPC."""

    def __init__(self, region: Region, client: Callable[[str], Any]) -> None:
        self.region = region
        self.told: list[tuple[str, dict[str, Any]]] = []
        region.on_event.append(lambda source, kind, resources, detail: self.told.append((kind, detail)))
        self.rds, self.ec2, self.secrets, self.sns, self.sqs = map(client, ("rds", "ec2", "secretsmanager", "sns", "sqs"))
        self.vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for n, zone in enumerate(ZONES, 1)
        ]
        self.rds.create_db_subnet_group(DBSubnetGroupName="test", DBSubnetGroupDescription="test", SubnetIds=self.subnets)
        self.rds.create_db_parameter_group(DBParameterGroupName="test", DBParameterGroupFamily="postgres17", Description="test")

    @property
    def loop(self) -> Databases:
        found: Any = self.region.loops["Databases"]
        return found

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
            "BackupRetentionPeriod": 0,
        }
        password = {} if "MasterUserPassword" in options else {"ManageMasterUserPassword": True}
        created: dict[str, Any] = self.rds.create_db_instance(**{**defaults, **password, **options})["DBInstance"]
        return created

    def describe(self, name: str = "test") -> dict[str, Any]:
        found: dict[str, Any] = self.rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
        return found

    def wait(self, status: str, name: str = "test", seconds: float = 90) -> dict[str, Any]:
        until(lambda: self.describe(name)["DBInstanceStatus"] in (status, "failed"), seconds)
        found = self.describe(name)
        assert found["DBInstanceStatus"] == status
        return found

    def delete(self, name: str = "test", **options: Any) -> None:
        self.rds.delete_db_instance(**{"DBInstanceIdentifier": name, "SkipFinalSnapshot": True, **options})
        until(lambda: name not in [found["DBInstanceIdentifier"] for found in self.rds.describe_db_instances()["DBInstances"]])

    def record(self, name: str = "test") -> Any:
        return self.region.backend("rds").databases[name]

    def primary(self, name: str = "test") -> Node:
        node: Node = self.record(name).node
        return node

    def standby(self, name: str = "test") -> Node:
        node: Node = self.record(name).standby
        return node

    def password(self) -> str:
        arn = self.describe()["MasterUserSecret"]["SecretArn"]
        secret = json.loads(self.secrets.get_secret_value(SecretId=arn)["SecretString"])
        assert secret["username"] == "accounts"
        return str(secret["password"])

    def address(self, name: str = "test") -> str | None:
        """Where the endpoint's name leads to in the VPC's DNS."""
        return self.region.names._addresses.get(self.record(name).address)

    def connect(self, name: str = "test", **options: Any) -> Any:
        """Connect from inside the VPC by the endpoint's name, as an instance would."""
        settings = {
            "host": self.address(name),
            "user": "accounts",
            "dbname": "accounts",
            "sslmode": "require",
            "connect_timeout": 5,
        }
        return netns.inside(self.region.network.namespace(self.vpc), lambda: psycopg2.connect(**{**settings, **options}))

    def answers(self, password: str, name: str = "test") -> bool:
        try:
            return bool(ask(self.connect(name, password=password), "SELECT 1"))
        except psycopg2.OperationalError:
            return False

    def events(self, **filters: Any) -> list[str]:
        """Messages of the instance's events, oldest first."""
        wanted = {"SourceIdentifier": "test", "SourceType": "db-instance", **filters}
        return [event["Message"] for event in self.rds.describe_events(**wanted)["Events"]]


def ask(connection: Any, query: str) -> Any:
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else None
