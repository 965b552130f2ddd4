"""A stub twin with a fleet as Terraform lays it out, and real runs of ansible-playbook against it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from evenkeel.host import ROOT, VENV
from twin.settings import API_PORT, Settings

PORT = 8080
LISTENER_PORT = 8000
NAME = "evenkeel"
GROUP = f"{NAME}-fleet"
QUICK = {
    "deploy_checkpoint_delay_seconds": 1,
    "deploy_bake_seconds": 1,
    "deploy_poll_seconds": 1,
    "deploy_keep": 50,
    "deploy_patience_seconds": 5,
}


def until(what: str, ready: Callable[[], Any], seconds: float = 120, period: float = 0.1) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(period)
    return found


@dataclass
class Ended:
    """A run of ansible-playbook: exit status, and what it wrote."""

    status: int
    text: str

    @property
    def progress(self) -> list[str]:
        return [line for line in self.text.splitlines() if re.match(r" *\d+:\d\d  ", line)]


@dataclass
class Region:
    """The served stub twin."""

    settings: Settings
    process: subprocess.Popen[bytes]
    key: dict[str, str]
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            session: Any = boto3.Session(
                self.key["access_key_id"], self.key["secret_access_key"], region_name=self.settings.region
            )
            self.clients[service] = session.client(service, endpoint_url=self.settings.endpoint_url)
        return self.clients[service]

    def environment(self, key: dict[str, str] | None = None) -> dict[str, str]:
        key = key or self.key
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.settings.state / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.settings.state / "tmp"),
            "ANSIBLE_STDOUT_CALLBACK": "words",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(ROOT / ".state" / "pycache"),  # a module is a process that imports boto3 anew
            "AWS_ACCESS_KEY_ID": key["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
            "AWS_ENDPOINT_URL": self.settings.endpoint_url,
            "AWS_REGION": self.settings.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, playbook: str, *options: str, key: dict[str, str] | None = None, **variables: Any) -> subprocess.Popen[str]:
        given = json.dumps({**QUICK, **variables})
        return subprocess.Popen(
            [str(VENV / "bin" / "ansible-playbook"), f"playbooks/{playbook}.yml", "--extra-vars", given, *options],
            cwd=ROOT,
            env=self.environment(key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str, *options: str, key: dict[str, str] | None = None, **variables: Any) -> Ended:
        return self.end(self.start(playbook, *options, key=key, **variables))

    def run_all(self, playbook: str, asked: Iterable[dict[str, Any]]) -> list[Ended]:
        """Runs that change nothing, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda variables: self.run(playbook, **variables), asked))

    @staticmethod
    def end(process: subprocess.Popen[str]) -> Ended:
        text, _ = process.communicate(timeout=180)
        return Ended(process.returncode, text)


class Fleet:
    """The group, its template, load balancer and images; made anew for each test."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.ec2, self.auto = region.client("ec2"), region.client("autoscaling")
        self.elb, self.watch = region.client("elbv2"), region.client("cloudwatch")
        self.count = 0
        self.failed = ""

    # Making

    def image(self, head: str = "0001", floor: str = "0001", commit: str = "abc", **tags: str) -> str:
        """An AMI of ours, newer than those before."""
        self.count += 1
        made = self.ec2.register_image(Name=f"{NAME}-{time.time_ns()}", RootDeviceName="/dev/xvda")["ImageId"]
        every = {"Project": NAME, "Commit": commit, "ServiceVersion": f"1.{self.count}", **tags}
        every |= {"SchemaHead": head, "SchemaFloor": floor} if head else {}
        self.ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value} for key, value in every.items()])
        return str(made)

    def build(self) -> None:
        vpc = self.ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.8.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for number, zone in enumerate("abc")
        ]
        self.first = self.image()
        self.balancer = self.elb.create_load_balancer(Name="edge", Subnets=subnets)["LoadBalancers"][0]
        self.target_group = self.elb.create_target_group(
            Name=GROUP, Protocol="HTTP", Port=PORT, VpcId=vpc, HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2, UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
        self.elb.modify_target_group_attributes(
            TargetGroupArn=self.target_group, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "0"}]
        )
        self.elb.create_listener(
            LoadBalancerArn=self.balancer["LoadBalancerArn"], Protocol="HTTP", Port=LISTENER_PORT,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.target_group}],
        )  # fmt: skip
        self.template = self.ec2.create_launch_template(
            LaunchTemplateName=GROUP,
            VersionDescription="Signup fleet",
            LaunchTemplateData={"ImageId": self.first, "InstanceType": "t3.small", "UserData": "I2Nsb3VkLWNvbmZpZwo="},
        )["LaunchTemplate"]["LaunchTemplateId"]
        self.auto.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, MinSize=1, MaxSize=6, DesiredCapacity=3, VPCZoneIdentifier=",".join(subnets),
            LaunchTemplate={"LaunchTemplateId": self.template, "Version": "1"}, TargetGroupARNs=[self.target_group],
            HealthCheckType="ELB", HealthCheckGracePeriod=8, DefaultInstanceWarmup=1,
        )  # fmt: skip
        until("a healthy fleet", lambda: len(self.healthy()) == 3)

    def alarm(self, state: str, name: str = f"{NAME}-rollout-errors") -> str:
        self.watch.put_metric_alarm(
            AlarmName=name, ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, MetricName="Errors", Namespace="test",
            Period=60, Statistic="Sum", Threshold=1.0, TreatMissingData="ignore",
        )  # fmt: skip
        self.watch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
        return name

    # Looking

    def group(self) -> dict[str, Any]:
        found: dict[str, Any] = self.auto.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]
        return found

    def healthy(self) -> list[str]:
        states = self.elb.describe_target_health(TargetGroupArn=self.target_group)["TargetHealthDescriptions"]
        return [entry["Target"]["Id"] for entry in states if entry["TargetHealth"]["State"] == "healthy"]

    def refreshes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.auto.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]
        return found

    def status(self) -> str:
        found = self.refreshes()
        return str(found[0]["Status"]) if found else ""

    def versions(self) -> dict[int, str]:
        found = self.ec2.describe_launch_template_versions(LaunchTemplateId=self.template)["LaunchTemplateVersions"]
        return {entry["VersionNumber"]: entry["LaunchTemplateData"]["ImageId"] for entry in found}

    def images(self) -> set[str]:
        return {entry["ImageId"] for entry in self.ec2.describe_images(Owners=["self"])["Images"]}

    def snapshots(self, image: str) -> list[str]:
        found = self.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
        return [entry["Ebs"]["SnapshotId"] for entry in found]

    def newest_version(self) -> int:
        """The launch template's latest version."""
        template = self.ec2.describe_launch_templates(LaunchTemplateIds=[self.template])["LaunchTemplates"][0]
        return int(template["LatestVersionNumber"])

    def running(self) -> set[str]:
        """Images of the fleet's instances."""
        ids = [entry["InstanceId"] for entry in self.group()["Instances"]]
        reservations = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return {instance["ImageId"] for entry in reservations for instance in entry["Instances"]}

    def everything(self) -> tuple[Any, ...]:
        """What a run that changes nothing leaves as it was."""
        return sorted(self.versions().items()), len(self.refreshes()), self.group()["LaunchTemplate"], sorted(self.images())

    def wait_until_settled(self) -> None:
        until(
            "the end of a refresh",
            lambda: self.status() not in ("Pending", "InProgress", "Baking", "RollbackInProgress", "Cancelling"),
        )


def serve(settings: Settings) -> Region:
    script = str(Path(__file__).with_name("rollout_twin.py"))
    command = [sys.executable, script, settings.name, str(settings.slot), str(settings.state), str(settings.store)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    log = (settings.state / "log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def listening() -> bool:
        assert process.poll() is None, (settings.state / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex((settings.address, API_PORT)) == 0

    until("the twin", listening)
    return Region(settings, process, json.loads((settings.state / "operator.json").read_text()))


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, of the playbook and all it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
