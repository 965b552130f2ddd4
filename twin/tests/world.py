"""A region in this process whose bodies are stubs and whose time is simulated: for tests of the control loops alone.

API calls go to moto through boto3, as ever; `World.step` is all that makes time pass.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from common import client, undoing
from moto import mock_aws
from moto.ec2.models.amis import Ami
from moto.moto_api._internal import mock_random
from moto.moto_api._internal.models import moto_api_backend

from twin.bodies.machines import Machine
from twin.bodies.podman import Podman, PodmanError
from twin.control.autoscaling import AutoScaling
from twin.control.instances import Instances
from twin.control.loop import Loop
from twin.region import autoscaling, ec2, elbv2, launch_templates, security_groups
from twin.region.region import Region
from twin.region.target_health import DRAINING, HEALTHY, TargetHealth
from twin.settings import Settings

EXTENSIONS: tuple[ModuleType, ...] = (ec2, launch_templates, security_groups, autoscaling, elbv2)
KILLED = 137


class StubMachines:
    """Takes the place of `Machines`: machines that only are or aren't. `refuse(machine)` returns podman's words when a boot
    or a start is to fail."""

    def __init__(self, refuse: Callable[[Machine], str | None] = lambda _: None) -> None:
        self.refuse = refuse
        self.on_end: Callable[[str], None] = lambda _: None
        self.exists: dict[str, bool] = {}
        self.codes: dict[str, int] = {}
        self.images: set[str] = set()
        self.withdrawn: list[str] = []
        self.settled: list[str] = []

    def boot(self, machine: Machine) -> None:
        self._run(machine)

    def start(self, machine: Machine) -> None:
        if machine.id not in self.exists:
            raise PodmanError(f"podman start: no container with name or ID {machine.id!r} found")
        self._run(machine)

    def _run(self, machine: Machine) -> None:
        words = self.refuse(machine)
        if words:
            raise PodmanError(words)
        self.exists[machine.id] = True

    def booted(self, name: str) -> None:
        assert name in self.exists
        self.settled.append(name)

    def adopt(self, machine: Machine) -> None:
        assert self.exists[machine.id]

    def resume(self, name: str) -> None:
        self.exists[name] = True

    reboot = resume

    def stop(self, name: str) -> None:
        if name in self.exists:
            self.exists[name] = False

    def remove(self, name: str) -> None:
        self.exists.pop(name, None)

    def kill(self, names: Iterable[str]) -> None:
        for name in names:
            self.stop(name)

    def end(self, name: str, code: int = KILLED) -> None:
        """Let a machine end by itself with an exit status."""
        self.exists[name], self.codes[name] = False, code
        self.on_end(name)

    def withdraw(self, public: str) -> None:
        self.withdrawn.append(public)

    def commit(self, name: str, image: str) -> None:
        if name not in self.exists:
            raise PodmanError(f"podman commit: no container with name or ID {name!r} found")
        self.images.add(image)

    def exit_code(self, name: str) -> int | None:
        return self.codes.get(name, KILLED) if name in self.exists else None

    def found(self) -> dict[str, bool]:
        return dict(self.exists)


class SimulatedInstances(Instances):
    """The real loop, whose work on machines is done in the calling thread once its simulated seconds are over."""

    def __init__(self, region: Region, machines: StubMachines) -> None:
        catalog: Any = SimpleNamespace(save=lambda: None)
        super().__init__(region, catalog, machines)  # type: ignore[arg-type]  # a stub
        self.boot_seconds: Callable[[Any], float] = lambda _: 0.0
        self.end_seconds: Callable[[Any], float] = lambda _: 0.0
        self._when: dict[tuple[str, str], float] = {}

    def _submit(self, key: str, action: Callable[[Any], None], record: Any) -> None:
        work = (key, action.__name__)
        if work not in self._when:
            seconds = {"_boot": self.boot_seconds, "_stop": self.end_seconds, "_remove": self.end_seconds}.get(action.__name__)
            self._when[work] = self.region.clock() + (seconds(record) if seconds else 0.0)
        if self.region.clock() >= self._when[work]:
            del self._when[work]
            action(record)


class StubLoadBalancers(Loop):
    """Takes the place of `LoadBalancers`: every registered target is healthy unless `states` says otherwise, by instance id;
    one deregistered while it runs drains for `delay` simulated seconds."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.name = "LoadBalancers"
        self.region = region
        self.delay = 0.0
        self.states: dict[str, TargetHealth] = {}
        self._registered: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._draining: dict[tuple[str, str, int], float] = {}

    def health(self, target_group_arn: str) -> dict[tuple[str, int], TargetHealth]:
        self._follow(target_group_arn)
        found = {key: self.states.get(key[0], HEALTHY) for key in self._registered[target_group_arn]}
        now = self.region.clock()
        found |= {
            (target, port): DRAINING
            for (arn, target, port), until in self._draining.items()
            if arn == target_group_arn and now < until
        }
        return found

    def _follow(self, arn: str) -> None:
        group = self.region.backend("elbv2").target_groups[arn]
        now = {(target["Id"], int(target["Port"])) for target in group.targets.values()}
        for target, port in self._registered[arn] - now:
            self._draining[arn, target, port] = self.region.clock() + self.delay
        self._registered[arn] = now

    def tick(self) -> None:
        for arn in self.region.backend("elbv2").target_groups:
            self._follow(arn)


class World:
    """One region of stubs: `region`, the loops `instances`, `balancers`, `autoscaling`, and boto3 clients by `client`.

    `now` is the simulated clock; `watch` holds functions called after every tick, for what must hold at all times.
    """

    def __init__(self, folder: Path) -> None:
        self.region = Region(settings := Settings(state=folder, store=folder / "store", name="world", slot=127), Podman(settings))
        network: Any = SimpleNamespace(remove_vpc=lambda vpc: None, remove_subnet=lambda vpc, subnet: None)
        self.region.network = network
        self.now = 1_000_000.0
        self.region.clock = lambda: self.now
        self.watch: list[Callable[[], None]] = []
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Begin again with an empty region and fresh loops; `seed` decides moto's ids."""
        moto_api_backend.reset()
        mock_random.seed(seed)
        self.watch.clear()
        self.region.faults = type(self.region.faults)()
        self.machines = StubMachines()
        self.instances = SimulatedInstances(self.region, self.machines)
        self.balancers = StubLoadBalancers(self.region)
        self.autoscaling = AutoScaling(self.region)
        self.region.loops = {
            "Instances": self.instances,
            "LoadBalancers": self.balancers,
            "AutoScaling": self.autoscaling,
        }
        self._counter = itertools.count(1)

    def client(self, service: str) -> Any:
        return client(service)

    def step(self, seconds: float = 1.0, tick: float = 1.0) -> None:
        """Let time pass, with one round of every loop after each `tick` seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + tick, end)
            for loop in self.region.loops.values():
                loop.tick()
            for look in self.watch:
                look()

    def until(self, what: str, ready: Callable[[], Any], seconds: float = 3600, tick: float = 1.0) -> Any:
        """Let time pass until `ready()`, at most so many simulated seconds; returns what it returned."""
        end = self.now + seconds
        while not (found := ready()):
            assert self.now < end, f"{what} did not come within {seconds} simulated seconds"
            self.step(tick, tick)
        return found

    def image(self, name: str = "image") -> str:
        """Register an AMI; returns its id."""
        ami_id = f"ami-{next(self._counter):017x}"
        backend = self.region.ec2
        backend.amis[ami_id] = Ami(
            backend, ami_id, name=name, owner_id=self.region.settings.account_id, root_device_name="/dev/xvda"
        )
        return ami_id

    def subnets(self, zones: Iterable[str] = "abc") -> list[str]:
        """A VPC with one subnet in each of the zones; returns the subnets' ids."""
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        return [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for number, zone in enumerate(zones)
        ]

    def template(self, name: str = "fleet", **data: Any) -> str:
        """A launch template whose version 1 has an image of its own; returns its id."""
        data = {"ImageId": self.image(name), "InstanceType": "t3.micro", **data}
        made = self.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def version(self, template: str, **data: Any) -> str:
        """Another version of a launch template, with another image; returns its number."""
        data = {"ImageId": self.image(), "InstanceType": "t3.micro", **data}
        made = self.client("ec2").create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData=data)
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def group(
        self, name: str = "fleet", desired: int = 3, zones: Iterable[str] = "abc", template: str = "", **options: Any
    ) -> Any:
        """An Auto Scaling group; returns moto's record of it."""
        template = template or self.template(name)
        defaults = {
            "MinSize": 0,
            "MaxSize": 24,
            "DesiredCapacity": desired,
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            "VPCZoneIdentifier": ",".join(self.subnets(zones)),
        }
        self.client("autoscaling").create_auto_scaling_group(AutoScalingGroupName=name, **{**defaults, **options})
        return self.region.backend("autoscaling").autoscaling_groups[name]


@contextmanager
def living(folder: Path) -> Iterator[World]:
    """A world for as long as the context lasts."""
    with undoing(), mock_aws():
        made = World(folder)
        for extension in EXTENSIONS:
            extension.install(made.region)  # type: ignore[attr-defined]
        yield made
