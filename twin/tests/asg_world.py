"""A region in this process whose clock a test moves and whose instances are stubs: Auto Scaling's rules, without waiting.

moto's backends are the real ones, extended as the twin extends them, and asked through boto3. `World.run` lets a stub of the
instances and the control loop take turns, a second at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import client, undoing
from moto import mock_aws
from moto.ec2.models.amis import Ami

from twin.bodies.podman import Podman
from twin.control.autoscaling import AutoScaling
from twin.control.loop import Loop
from twin.region import autoscaling, ec2, launch_templates
from twin.region.ec2 import set_state
from twin.region.region import Region
from twin.region.target_health import DRAINING, HEALTHY, TargetHealth
from twin.settings import Settings

GROUP = "fleet"
UNHEALTHY = TargetHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")


class Balancers(Loop):
    """Stands for LoadBalancers: targets are healthy unless `states` names another state; the deregistered drain for `delay`."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self.states: dict[str, TargetHealth] = {}
        self.delay = 0.0
        self.seen: set[tuple[str, str, int]] = set()
        self.draining: dict[tuple[str, str, int], float] = {}

    def tick(self) -> None:
        for arn in self.region.backend("elbv2").target_groups:
            self.health(arn)

    def health(self, arn: str) -> dict[tuple[str, int], TargetHealth]:
        group = self.region.backend("elbv2").target_groups[arn]
        now = {(arn, target["Id"], int(target["Port"])) for target in group.targets.values()}
        for gone in {key for key in self.seen if key[0] == arn} - now:
            self.draining[gone] = self.region.clock() + self.delay
        self.seen = {key for key in self.seen if key[0] != arn} | now
        found = {key[1:]: self.states.get(key[1], HEALTHY) for key in now}
        late = {key[1:]: DRAINING for key, until in self.draining.items() if key[0] == arn and self.region.clock() < until}
        return found | late


class World:
    """`auto` and `ec2` are boto3 clients, `events` what EventBridge was told, `now` the simulated clock."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(state=folder, store=folder / "store", name="asg", slot=126)
        self.region = Region(settings, Podman(settings))
        self.now = 1000.0
        self.region.clock = lambda: self.now
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.region.on_event.append(lambda source, kind, resources, detail: self.events.append((kind, detail)))
        for extension in (ec2, launch_templates, autoscaling):
            extension.install(self.region)
        self.balancers = Balancers(self.region)
        self.loop = AutoScaling(self.region)
        self.region.loops = {"LoadBalancers": self.balancers, "AutoScaling": self.loop}
        self.auto, self.ec2 = client("autoscaling"), client("ec2")
        self.boots: Callable[[Any], bool] = lambda instance: True
        self.watch: list[Callable[[], None]] = []
        self.subnets: list[str] = []
        self.template = ""
        self._versions = 0

    # Time

    def run(self, seconds: int = 1) -> None:
        """Let seconds pass; instances take one to run or to end."""
        for _ in range(seconds):
            self.now += 1
            for instance in list(self.region.ec2.all_instances()):
                if instance.state == "pending":
                    if self.boots(instance):
                        set_state(instance, "running")
                    else:
                        instance.terminate()
                        set_state(instance, "terminated", "Server.InternalError", "Internal error on launch: no disk")
                elif instance.state == "shutting-down":
                    reason = instance.state_reason
                    set_state(instance, "terminated")
                    instance.state_reason = reason
            self.balancers.tick()
            self.loop.tick()
            for look in self.watch:
                look()

    def until(self, what: str, ready: Callable[[], Any], seconds: int = 4000) -> Any:
        for _ in range(seconds):
            found = ready()
            if found:
                return found
            self.run()
        raise AssertionError(f"{what} did not come within {seconds} simulated seconds")

    # Making

    def version(self, **data: Any) -> str:
        """Another version of the launch template, with an image of its own; returns its number."""
        self._versions += 1
        backend, image = self.region.ec2, f"ami-{self._versions:017x}"
        backend.amis[image] = Ami(backend, image, name=image, owner_id="123456789012", root_device_name="/dev/xvda")
        data = {"ImageId": image, "InstanceType": "t3.micro", **data}
        if not self.template:
            made = self.ec2.create_launch_template(LaunchTemplateName=GROUP, LaunchTemplateData=data)["LaunchTemplate"]
            self.template = made["LaunchTemplateId"]
            return "1"
        made = self.ec2.create_launch_template_version(LaunchTemplateId=self.template, LaunchTemplateData=data)
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def group(self, desired: int = 3, zones: str = "abc", settle: bool = True, **options: Any) -> Any:
        """The group, with `desired` instances in service; returns moto's record."""
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.vpc = vpc
        for number, zone in enumerate(zones):
            made = self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")
            self.subnets.append(made["Subnet"]["SubnetId"])
        template = {"LaunchTemplateId": "", "Version": self.version()}
        template["LaunchTemplateId"] = self.template
        settings = {
            "MinSize": 0,
            "MaxSize": 30,
            "DesiredCapacity": desired,
            "LaunchTemplate": template,
            "VPCZoneIdentifier": ",".join(self.subnets),
        }
        self.auto.create_auto_scaling_group(AutoScalingGroupName=GROUP, **{**settings, **options})
        if settle:
            self.settle(desired)
        return self.record

    def target_group(self) -> str:
        made = client("elbv2").create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=self.vpc)["TargetGroups"][0]
        return str(made["TargetGroupArn"])

    def grow(self, capacity: int) -> None:
        self.auto.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=capacity)

    def update(self, **options: Any) -> None:
        self.auto.update_auto_scaling_group(AutoScalingGroupName=GROUP, **options)

    def behind_a_load_balancer(self) -> str:
        """Attach a target group whose health checks count; returns its ARN."""
        arn = self.target_group()
        self.auto.attach_load_balancer_target_groups(AutoScalingGroupName=GROUP, TargetGroupARNs=[arn])
        self.update(HealthCheckType="ELB")
        self.run(2)
        return arn

    def refresh(self, version: str | None = "new", **preferences: Any) -> str:
        """Start a refresh to a version ("new" makes one, None takes the group's own); returns its id."""
        options: dict[str, Any] = {}
        if version is not None:
            number = self.version() if version == "new" else version
            options["DesiredConfiguration"] = {"LaunchTemplate": {"LaunchTemplateId": self.template, "Version": number}}
        started = self.auto.start_instance_refresh(AutoScalingGroupName=GROUP, Preferences=preferences, **options)
        return str(started["InstanceRefreshId"])

    # Looking

    @property
    def record(self) -> Any:
        return self.region.backend("autoscaling").autoscaling_groups[GROUP]

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.auto.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0]
        return found

    def members(self, *states: str) -> list[Any]:
        """Members by lifecycle state, or those that count as capacity."""
        found = self.record.instance_states
        return [m for m in found if (m.lifecycle_state in states if states else m.active)]

    def ids(self, *states: str) -> list[str]:
        return [member.instance_id for member in self.members(*states)]

    def serving(self) -> int:
        """Healthy capacity in service."""
        return sum(1 for m in self.members("InService") if m.health_status == "Healthy" and m.active)

    def zones(self) -> Counter[str]:
        return Counter(member.availability_zone for member in self.members())

    def versions(self) -> Counter[str]:
        return Counter(member.launch_template["Version"] for member in self.members())

    def settle(self, count: int) -> list[Any]:
        def ready() -> bool:
            everyone = self.record.instance_states
            return len(everyone) == count and all(m.lifecycle_state == "InService" and m.active for m in everyone)

        self.until(f"{count} instances in service", ready)
        return self.members()

    def activities(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.auto.describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"]
        return found

    def described_refresh(self) -> dict[str, Any]:
        found: dict[str, Any] = self.auto.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"][0]
        return found

    def status(self) -> str:
        return str(self.record.instance_refreshes[0].status)

    def ended(self, status: str, seconds: int = 8000) -> dict[str, Any]:
        """Let time pass until the refresh ends; it must end in `status`."""
        self.until("the end of the refresh", lambda: self.record.instance_refreshes[0].end, seconds)
        assert self.status() == status, self.record.instance_refreshes[0].reason
        return self.described_refresh()

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [detail for name, detail in self.events if name == kind]

    def kill(self, instance_id: str) -> None:
        set_state(self.region.ec2.get_instance(instance_id), "stopped", "Server.InternalError", "The machine failed")


@contextmanager
def living(folder: Path) -> Iterator[World]:
    with undoing(), mock_aws():
        yield World(folder)


def counted(members: Iterable[Any]) -> Counter[str]:
    return Counter(member.lifecycle_state for member in members)
