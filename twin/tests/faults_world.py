"""A region in this process with instances in three zones, for experiments in simulated time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import client, undoing
from moto import mock_aws

from twin.bodies.podman import Podman
from twin.control.experiments import Experiments
from twin.region import fis
from twin.region.ec2 import set_state
from twin.region.region import Region
from twin.settings import Settings

NONE = [{"source": "none"}]


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class World:
    def __init__(self, region: Region) -> None:
        self.region, self.now = region, 1000.0
        region.clock = lambda: self.now
        self.fis, self.ec2, self.cloudwatch, iam = map(client, ("fis", "ec2", "cloudwatch", "iam"))
        self.iam = iam
        trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self.role = iam.create_role(RoleName="experiment", AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        self.may("*")
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.image = self.ec2.register_image(Name="any")["ImageId"]
        self.subnets, self.instances = {}, {}
        for number, zone in enumerate("abc"):
            made = self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")
            self.subnets[zone] = made["Subnet"]["SubnetId"]
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "Tier", "Value": "app"}]}]
            run = {"ImageId": self.image, "MinCount": 2, "MaxCount": 2, "SubnetId": self.subnets[zone]}
            made = self.ec2.run_instances(**run, TagSpecifications=tags)["Instances"]
            self.instances[zone] = [entry["InstanceId"] for entry in made]
        self.cloudwatch.put_metric_alarm(
            AlarmName="errors",
            MetricName="Errors",
            Namespace="Test",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
        self.alarm = self.cloudwatch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"][0]["AlarmArn"]
        self.loop = Experiments(region)

    def may(self, *actions: str) -> None:
        """What the experiments' role is allowed, instead of what it was before."""
        document = policy({"Effect": "Allow", "Action": list(actions), "Resource": "*"})
        self.iam.put_role_policy(RoleName="experiment", PolicyName="faults", PolicyDocument=document)

    def template(self, actions: dict[str, Any], targets: dict[str, Any] | None = None, **options: Any) -> str:
        options = {"description": "test", "roleArn": self.role, "stopConditions": NONE, **options}
        made = self.fis.create_experiment_template(actions=actions, targets=targets or {}, **options)
        return str(made["experimentTemplate"]["id"])

    def start(self, actions: dict[str, Any], targets: dict[str, Any] | None = None, **options: Any) -> str:
        started = self.fis.start_experiment(experimentTemplateId=self.template(actions, targets, **options))
        assert started["experiment"]["state"]["status"] == "initiating"
        self.step()
        return str(started["experiment"]["id"])

    def step(self, seconds: float = 0.5) -> None:
        self.now += seconds
        self.loop.tick()

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.fis.get_experiment(id=experiment_id)["experiment"]
        return found

    def status(self, experiment_id: str) -> str:
        return str(self.experiment(experiment_id)["state"]["status"])

    def states(self, zone: str) -> list[str]:
        return [self.region.ec2.get_instance(instance_id).state for instance_id in self.instances[zone]]

    def settle(self) -> None:
        """Stand in for the bodies: what was asked to change has changed."""
        after = {"stopping": "stopped", "shutting-down": "terminated", "pending": "running"}
        for instance in self.region.ec2.all_instances():
            if instance.state in after:
                set_state(instance, after[instance.state])


def wait(seconds: str = "PT1M", **options: Any) -> dict[str, Any]:
    return {"actionId": "aws:fis:wait", "parameters": {"duration": seconds}, **options}


def in_zone(zone: str, mode: str = "ALL") -> dict[str, Any]:
    return {
        "resourceType": "aws:ec2:instance",
        "resourceTags": {"Tier": "app"},
        "filters": [{"path": "Placement.AvailabilityZone", "values": [f"us-east-1{zone}"]}],
        "selectionMode": mode,
    }


@contextmanager
def experimenting(folder: Path) -> Iterator[World]:
    """A world for as long as the context lasts."""
    settings = Settings(state=folder, store=folder / "store", name="test-fis", slot=64)
    with undoing(), mock_aws():
        region = Region(settings, Podman(settings))
        network: Any = SimpleNamespace(namespace=lambda resource_id: f"test-fis.{resource_id}")
        region.network = network
        fis.install(region)
        yield World(region)
