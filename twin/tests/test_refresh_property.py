"""Instance refresh under all sorts of circumstances: its bounds hold at all times, and it ends as AWS allows.

Bodies are stubs and time is simulated. The rules are worked out here anew, from AWS's pages, not taken from the code under test:
- https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html
- https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html
- https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from world import World, living

AREA = "instance refresh"
GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
PREFERENCES = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html"
# The same examples in every run, unless a search for others is asked for.
EXAMPLES = int(os.environ.get("EVENKEEL_EXAMPLES", "15"))
SEARCH = "EVENKEEL_EXAMPLES" in os.environ
TICK = 5.0
PATIENCE = 3600.0
ENDED = frozenset({"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"})
# https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html
NEXT = {
    "Pending": {"InProgress"},
    "InProgress": {"Baking", "Successful", "Failed", "Cancelling", "RollbackInProgress"},
    "Baking": {"Successful", "Failed", "Cancelling", "RollbackInProgress"},
    "Cancelling": {"Cancelled"},
    # A rollback can be cancelled as a refresh can:
    # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CancelInstanceRefresh.html
    "RollbackInProgress": {"RollbackSuccessful", "RollbackFailed", "Cancelling"},
}


def _after(status: str) -> set[str]:
    """All statuses that may come after one."""
    following = NEXT.get(status, set())
    return following | {later for each in following for later in _after(each)}


@dataclass(frozen=True)
class Event:
    """At `at` seconds after the start: "die" (one healthy instance), "alarm", "cancel", "rollback", "empty" (a zone has no
    capacity from now on), "refill" (it has again), "broken" (the new image does not boot), "mended"."""

    at: float
    kind: str


@dataclass(frozen=True)
class Scenario:
    desired: int = 3
    zones: str = "abc"
    least: int | None = None
    most: int | None = None
    warmup: int = 10
    checkpoints: tuple[int, ...] = ()
    delay: int = 30
    bake: int = 0
    auto_rollback: bool = False
    skip_matching: bool = False
    boot: tuple[int, ...] = (5,)
    drain: int = 0
    events: tuple[Event, ...] = field(default=())
    seed: int = 0

    @property
    def floor(self) -> int:
        """How many must stay in service, healthy and ready: a percentage of the desired capacity, rounded up, 90 by default.
        Where that is all of them and no upper bound was given, they are replaced one at a time."""
        percentage = 90 if self.least is None else self.least
        floor = ceil(percentage * self.desired / 100)
        return min(floor, self.desired - 1) if self.most is None else floor

    @property
    def ceiling(self) -> int:
        """How many may be in service and healthy, or pending. Without an upper bound, as many as are desired. Where the bounds
        leave no room, one more: with 100 and 100, AWS launches before it terminates."""
        if self.most is None:
            return self.desired
        return max(ceil(self.most * self.desired / 100), self.desired + 1 if self.floor >= self.desired else 0)

    @property
    def preferences(self) -> dict[str, Any]:
        given: dict[str, Any] = {
            "MinHealthyPercentage": self.least,
            "MaxHealthyPercentage": self.most,
            "InstanceWarmup": self.warmup,
            "SkipMatching": self.skip_matching,
            "AutoRollback": self.auto_rollback,
            "BakeTime": self.bake or None,
            "CheckpointPercentages": list(self.checkpoints) or None,
            "CheckpointDelay": self.delay if self.checkpoints else None,
            "AlarmSpecification": {"Alarms": ["errors"]},
        }
        return {name: value for name, value in given.items() if value is not None}


@st.composite
def scenarios(draw: Any) -> Scenario:
    least = draw(st.one_of(st.none(), st.sampled_from([0, 33, 50, 67, 75, 90, 99, 100]), st.integers(0, 100)))
    # An upper bound needs a lower one, and lies at most 100 above it.
    most = None
    if least is not None:
        most = draw(st.one_of(st.none(), st.sampled_from([100, least + 100]), st.integers(100, least + 100)))
    kinds = st.sampled_from(["die", "die", "die", "alarm", "cancel", "rollback", "empty", "refill", "broken", "mended"])
    events = draw(st.lists(st.builds(Event, st.integers(0, 60).map(lambda n: n * TICK), kinds), max_size=5))
    points = draw(st.one_of(st.just(()), st.sets(st.integers(1, 100), min_size=1, max_size=3).map(lambda p: (*sorted(p),))))
    return Scenario(
        desired=draw(st.integers(1, 12)),
        zones=draw(st.sampled_from(["a", "ab", "abc"])),
        least=least,
        most=most,
        warmup=draw(st.sampled_from([0, 5, 10, 30])),
        checkpoints=points,
        delay=draw(st.sampled_from([0, 5, 60])),
        bake=draw(st.sampled_from([0, 0, 30])),
        auto_rollback=draw(st.booleans()),
        skip_matching=draw(st.booleans()),
        boot=tuple(draw(st.lists(st.sampled_from([0, 5, 10, 40]), min_size=1, max_size=3))),
        drain=draw(st.sampled_from([0, 0, 10])),
        events=tuple(sorted(events, key=lambda event: event.at)),
        seed=draw(st.integers(0, 3)),
    )


class Observer:
    """Runs one scenario, and after every round of the loops looks at what must hold."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.random = random.Random(scenario.seed)  # noqa: S311
        self.asked: set[str] = set()
        self.stopped_rollback = False
        self.rang: list[str] = []  # status of the refresh when the alarm rang
        self.new_image = ""
        self.broken = False
        self.empty: set[str] = set()

        world.reset(scenario.seed)
        world.instances.boot_seconds = lambda instance: float(self.random.choice(scenario.boot))
        world.balancers.delay = scenario.drain
        world.machines.refuse = lambda machine: "podman run: broken" if self.broken and self._is_new(machine.image) else None
        world.client("cloudwatch").put_metric_alarm(
            AlarmName="errors", MetricName="Errors", Namespace="Test", Period=60, EvaluationPeriods=1, Threshold=1,
            ComparisonOperator="GreaterThanThreshold", Statistic="Sum",
        )  # fmt: skip
        self.ring(False)
        self.template = world.template()
        subnets = world.subnets(scenario.zones)
        target = world.client("elbv2").create_target_group(
            Name="fleet", Protocol="HTTP", Port=80, VpcId=world.region.subnet(subnets[0]).vpc_id
        )["TargetGroups"][0]["TargetGroupArn"]
        self.group = world.group(
            desired=scenario.desired, template=self.template, VPCZoneIdentifier=",".join(subnets), TargetGroupARNs=[target],
            DefaultInstanceWarmup=scenario.warmup,
        )  # fmt: skip
        world.until("capacity", lambda: len(self.ready()) == scenario.desired, tick=TICK)
        self.old, self.new = "1", world.version(self.template)
        self.new_image = world.region.ec2.get_launch_template(self.template).get_version(int(self.new)).image_id
        self.spared: set[str] = set()
        if scenario.skip_matching:
            self._make_part_new()

    def _is_new(self, image: str) -> bool:
        return bool(self.new_image) and image.endswith(self.new_image)

    def _make_part_new(self) -> None:
        """A refresh that ends at its only checkpoint leaves some instances as they were, for the next to find."""
        self.start(MinHealthyPercentage=50, CheckpointPercentages=[40], InstanceWarmup=0)
        self.world.until("the first refresh", lambda: self.status in ENDED, tick=TICK)
        self.world.until("capacity", lambda: len(self.ready()) == self.scenario.desired, tick=TICK)
        assert self.status == "Successful"
        self.spared = {member.instance_id for member in self.members() if self.version(member) == self.new}
        self.old = self.new

    # Looking

    def members(self) -> list[Any]:
        """Those in service or pending; not those that leave."""
        return [
            member
            for member in self.group.instance_states
            if member.lifecycle_state in ("Pending", "InService") and member.termination_cause is None
        ]

    @staticmethod
    def version(member: Any) -> str:
        return str(member.launch_template["Version"])

    def healthy(self) -> dict[str, Any]:
        return {
            member.instance_id: member
            for member in self.members()
            if member.lifecycle_state == "InService" and member.health_status == "Healthy" and member.instance.state == "running"
        }

    def ready(self) -> dict[str, Any]:
        """In service, healthy, and past the warmup."""
        now = self.world.now
        return {name: member for name, member in self.healthy().items() if now - member.in_service_since >= self.scenario.warmup}

    @property
    def refresh(self) -> dict[str, Any]:
        found = self.world.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName="fleet")["InstanceRefreshes"]
        latest: dict[str, Any] = found[0]
        return latest

    @property
    def status(self) -> str:
        return str(self.group.instance_refreshes[0].status)

    # Acting

    def start(self, **preferences: Any) -> None:
        self.world.client("autoscaling").start_instance_refresh(
            AutoScalingGroupName="fleet",
            DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": self.template, "Version": self.new}},
            Preferences=preferences,
        )

    def ring(self, on: bool) -> None:
        self.world.region.backend("cloudwatch").set_alarm_state("errors", "", "{}", "ALARM" if on else "OK")

    def happen(self, event: Event) -> None:
        note(f"{self.world.now}: {event.kind} while {self.status}")
        client = self.world.client("autoscaling")
        zones = [f"us-east-1{zone}" for zone in self.scenario.zones]
        match event.kind:
            case "die":
                alive = sorted(self.healthy())
                if alive:
                    victim = self.random.choice(alive)
                    self.spared.discard(victim)
                    self.world.machines.end(victim)
                    self.world.instances.tick()  # it is seen at once, as a death is
            case "alarm":
                if self.status not in ENDED:
                    self.rang.append(self.status)
                self.ring(True)
            case "cancel" | "rollback" as kind:
                call = client.cancel_instance_refresh if kind == "cancel" else client.rollback_instance_refresh
                before = self.status
                try:
                    call(AutoScalingGroupName="fleet")
                    self.asked.add(kind)
                    self.stopped_rollback |= kind == "cancel" and before == "RollbackInProgress"
                    assert before not in ENDED
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    expected = "ActiveInstanceRefreshNotFound" if before in ENDED else "IrreversibleInstanceRefresh"
                    assert code == expected or (kind == "cancel" and before == "Cancelling"), (before, code)
            case "empty":
                self.empty = {self.random.choice(zones)}
                self.world.region.faults.no_capacity = set(self.empty)
            case "refill":
                self.world.region.faults.no_capacity = set()
            case "broken":
                self.broken = True
            case "mended":
                self.broken = False

    # The course

    def run(self) -> None:
        scenario, world = self.scenario, self.world
        self.start(**scenario.preferences)
        began = world.now
        events = list(scenario.events)
        self.seen = "Pending"
        self.before = self.ready()
        self.launched = {member.instance_id for member in self.members()}
        world.watch.append(self.look)
        # Each failure may be followed by an hour of patience, forwards and back.
        while self.status not in ENDED or events:
            assert world.now - began < 4 * PATIENCE, f"no end: {self.refresh}"
            while events and events[0].at <= world.now - began:
                self.happen(events.pop(0))
            world.step(TICK, TICK)
        self.judge()
        self.settle()

    def look(self) -> None:
        """What must hold after every round."""
        scenario = self.scenario
        status = self.status
        active = self.seen not in ENDED
        ready = self.ready()
        # A status follows another only as documented; several steps may fall into one round.
        assert status == self.seen or status in _after(self.seen), (self.seen, status)
        # Lower bound: whoever was ready, still runs and was let go must have left enough others that are.
        let_go = [name for name, member in self.before.items() if name not in ready and not self._failed(member)]
        if active and let_go:
            assert len(ready) >= scenario.floor, f"{let_go} left, {len(ready)} are ready, {scenario.floor} must be; {status}"
        # Upper bound: in service and healthy, or pending.
        pending = [member for member in self.members() if member.lifecycle_state == "Pending"]
        alive = len(self.healthy()) + len(pending)
        assert alive <= scenario.ceiling, f"{alive} are in service or pending, {scenario.ceiling} may be; {status}"
        # What is launched while the refresh goes forward is new; what is launched otherwise is what the group says.
        for member in pending:
            if member.instance_id not in self.launched:
                self.launched.add(member.instance_id)
                forward = self.seen in ("Pending", "InProgress", "Baking", "Cancelling")
                assert self.version(member) in ({self.new, self.old} if forward else {self.group_version()}), (self.seen, status)
        if status != "Successful":
            assert self.group_version() == self.old
        self.seen, self.before = status, ready

    def group_version(self) -> str:
        return str(self.group.launch_template_version)

    @staticmethod
    def _failed(member: Any) -> bool:
        return (
            bool(member.instance.state != "running" and member.health_status == "Unhealthy")
            or member.health_status == "Unhealthy"
        )

    def judge(self) -> None:
        """Whether the refresh may end like this."""
        scenario, refresh, status = self.scenario, self.refresh, self.status
        kinds = {event.kind for event in scenario.events}
        allowed = {"Successful"}
        if self.rang:
            allowed |= {"RollbackSuccessful", "RollbackFailed"} if scenario.auto_rollback else {"Failed"}
        if kinds & {"broken", "empty"}:
            allowed |= {"RollbackSuccessful", "RollbackFailed"} if scenario.auto_rollback else {"Failed"}
        if "cancel" in self.asked:
            allowed.add("Cancelled")
        if "rollback" in self.asked:
            allowed |= {"RollbackSuccessful", "RollbackFailed"}
        assert status in allowed, refresh
        if status == "RollbackFailed":
            assert kinds & {"empty"}
        forced = [rang for rang in self.rang if rang in ("Pending", "InProgress", "Baking")]
        if forced and not self.asked:
            assert status != "Successful", refresh
        assert 0 <= refresh["PercentageComplete"] <= 100
        assert ("RollbackDetails" in refresh) == (status.startswith("Rollback") or self.stopped_rollback)
        assert "EndTime" in refresh
        if status == "Successful":
            assert self.group_version() == self.new
            share = scenario.checkpoints[-1] if scenario.checkpoints else 100
            new = [member for member in self.healthy().values() if self.version(member) == self.new]
            lost = sum(1 for event in scenario.events if event.kind == "die")
            assert len(new) >= ceil(share * scenario.desired / 100) - lost or scenario.skip_matching
            if share == 100:
                assert refresh["PercentageComplete"] == 100
                assert refresh["InstancesToUpdate"] == 0
        if scenario.skip_matching:
            # Those that matched stayed, and so did their instances.
            assert self.spared <= {member.instance_id for member in self.members()}

    def settle(self) -> None:
        """Afterwards the group has what is desired, from the right version."""
        self.ring(False)
        self.broken = False
        self.world.region.faults.no_capacity = set()
        self.world.watch.clear()
        self.world.until("capacity", lambda: len(self.ready()) == self.scenario.desired == len(self.members()), tick=TICK)
        versions = {self.version(member) for member in self.members()}
        whole = not self.scenario.checkpoints or self.scenario.checkpoints[-1] == 100
        if self.status == "Successful" and whole:
            assert versions == {self.new}
        elif self.status == "RollbackSuccessful" and not self.scenario.skip_matching:
            assert versions == {self.old}
        assert versions <= {self.old, self.new, "1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.mark.rule(AREA, "At no time does a refresh leave fewer ready instances than the minimum healthy percentage.", PREFERENCES)
@pytest.mark.rule(AREA, "At no time are more instances in service or pending than the maximum healthy percentage.", PREFERENCES)
@pytest.mark.rule(
    AREA,
    "Whatever happens meanwhile, a refresh ends in the state that its circumstances lead to.",
    f"{GUIDE}/instance-refresh-overview.html",
)
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=not SEARCH, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip
@given(scenario=scenarios())
@example(scenario=Scenario(desired=1))
@example(scenario=Scenario(desired=5, least=100, most=100))
@example(scenario=Scenario(desired=12, least=0, most=100))
@example(scenario=Scenario(desired=6, least=100, most=200, checkpoints=(34, 100), bake=30, skip_matching=True))
@example(scenario=Scenario(desired=3, events=(Event(0, "broken"),), auto_rollback=True))
@example(scenario=Scenario(desired=3, zones="a", events=(Event(10, "empty"),)))
@example(scenario=Scenario(desired=1, events=(Event(0, "die"), Event(0, "rollback"))))
@example(scenario=Scenario(desired=8, least=50, events=(Event(20, "rollback"), Event(25, "die"))))
def test_a_refresh_keeps_its_bounds_and_ends_as_documented(world: World, scenario: Scenario) -> None:
    Observer(world, scenario).run()
