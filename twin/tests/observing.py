"""A region in the tests' own process whose time the test moves: metrics, alarms, events, scaling, and no bodies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.config import Config
from common import allowing, api_of, served_at, undoing
from moto.moto_api._internal.models import moto_api_backend

from twin.bodies.podman import Podman
from twin.control.alarms import Alarms
from twin.control.metrics import Metrics
from twin.control.schedules import Schedules
from twin.region import autoscaling, cloudwatch, embedded_metrics, events, scaling_policies, scheduled_actions, sns
from twin.region.metric_store import STANDARD, Aggregate, key, store_of
from twin.region.region import Region
from twin.settings import Settings

session = boto3.Session("test", "test", region_name="us-east-1")


class NoPodman:
    """There are no containers: podman finds none."""

    def run(self, *args: str, **options: Any) -> str:
        return ""


class Queued:
    """Stands in for Lambda's queue of events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def enqueue(self, name: str, qualifier: str | None, payload: bytes, request_id: str = "") -> str:
        if "missing" in name:
            raise LookupError(f"Function not found: {name}")
        self.events.append((name, json.loads(payload)))
        return request_id

    def wake(self) -> None:
        pass


@dataclass
class World:
    region: Region
    port: int
    wall: float  # seconds since 1970; stands until the test moves it
    functions: Queued
    clients: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.region, lambda: self.wall)
        self.schedules = Schedules(self.region, lambda: self.wall)
        self.metrics = Metrics(self.region, lambda: self.wall)
        self.region.clock = lambda: self.wall
        self.started = self.wall
        # Their threads don't run: `advance` ticks.
        self.region.loops["Functions"] = self.functions  # type: ignore[assignment]

    def client(self, service: str) -> Any:
        if service not in self.clients:
            make: Any = session.client
            url = f"http://{self.region.settings.address}:{self.port}"
            self.clients[service] = make(service, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
        return self.clients[service]

    def advance(self, seconds: float, step: float = 5.0) -> None:
        """Let time pass, and the loops tick."""
        end = self.wall + seconds
        while self.wall < end:
            self.wall = min(end, self.wall + step)
            self.tick()

    def tick(self) -> None:
        self.metrics.tick()
        self.schedules.tick()
        self.alarms.tick()

    def put(
        self, namespace: str, name: str, value: float, at: float | None = None, resolution: int = STANDARD, **dimensions: str
    ) -> None:
        sample = Aggregate()
        sample.add(value)
        store = store_of(self.region.backend("cloudwatch"))
        store.put(key(namespace, name, dimensions), self.wall if at is None else at, sample, resolution)

    def queue(self, name: str, *senders: str) -> tuple[str, str]:
        """URL and ARN of a queue that topics and rules may send to, or these services instead."""
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = allowing("sqs:SendMessage", arn, *(senders or ("sns.amazonaws.com", "events.amazonaws.com")))
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        return url, arn

    def function(self, name: str, *callers: str) -> str:
        """ARN of a function that these services may invoke; its events are in `functions`."""
        trust = allowing("sts:AssumeRole", None, "lambda.amazonaws.com")
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        options = {"Runtime": "python3.12", "Handler": "main.handle", "Code": {"ZipFile": b"nothing"}}
        made = self.client("lambda").create_function(FunctionName=name, Role=role, **options)
        for number, caller in enumerate(callers):
            self.client("lambda").add_permission(
                FunctionName=name, StatementId=str(number), Action="lambda:InvokeFunction", Principal=caller
            )
        return str(made["FunctionArn"])

    def received(self, url: str) -> list[dict[str, Any]]:
        got = self.client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
        )
        found: list[dict[str, Any]] = got.get("Messages", [])
        return found

    def topic_to_queue(self, name: str) -> tuple[str, str]:
        """ARN of a topic, and URL of the queue that gets what is published there."""
        url, arn = self.queue(name)
        topic = self.client("sns").create_topic(Name=name)["TopicArn"]
        policy = allowing("sns:Publish", topic, "events.amazonaws.com", "cloudwatch.amazonaws.com")
        self.client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return topic, url

    def group(self, name: str, desired: int, low: int = 0, high: int = 20, **options: Any) -> Any:
        """A group whose members are records in service, as many as desired; returns moto's record."""
        ec2 = self.client("ec2")
        template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "t3.micro"})
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=low,
            MaxSize=high,
            DesiredCapacity=desired,
            AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateId": template["LaunchTemplate"]["LaunchTemplateId"]},
            **options,
        )
        group = self.region.backend("autoscaling").autoscaling_groups[name]
        self.follow(group)
        return group

    def follow(self, group: Any, warm: bool = True) -> None:
        """Do what Auto Scaling's loop does: launch or terminate at once; `warm` members have been there for long."""
        while len(group.instance_states) < group.desired_capacity:
            since = 0.0 if warm else self.region.clock()
            instance = SimpleNamespace(id=f"i-{len(group.instance_states):017x}", state="running", instance_type="t3.micro")
            member = SimpleNamespace(lifecycle_state="InService", in_service_since=since, instance=instance)
            group.instance_states.append(member)
        del group.instance_states[group.desired_capacity :]


@contextmanager
def world_of(settings: Settings) -> Iterator[World]:
    moto_api_backend.reset()
    region = Region(settings, Podman(settings))
    region.podman = NoPodman()  # type: ignore[assignment]
    with undoing():
        for extension in (autoscaling, sns, cloudwatch, embedded_metrics, events, scaling_policies, scheduled_actions):
            extension.install(region)
        with served_at(settings.address, 0, api_of(region)) as port:
            # Full minutes make the tests' arithmetic plain.
            yield World(region, port, time.time() // 60 * 60, Queued())
    moto_api_backend.reset()
