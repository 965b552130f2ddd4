"""Instance refresh: bounds, warmup, checkpoints, bake time, alarms, failures, rollback, cancelling, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asg_world import GROUP, UNHEALTHY, World, living
from botocore.exceptions import ClientError
from common import client

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
PREFERENCES = f"{API}/API_RefreshPreferences.html"
OVERVIEW = f"{GUIDE}/instance-refresh-overview.html"
CHECKPOINTS = f"{GUIDE}/asg-adding-checkpoints-instance-refresh.html"
ROLLBACK = f"{GUIDE}/instance-refresh-rollback.html"
SKIP = f"{GUIDE}/asg-instance-refresh-skip-matching.html"
AREA = "instance refresh"
LAUNCH_FIRST = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "InstanceWarmup": 5}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


class Extremes:
    """The least healthy capacity in service and the most capacity there was after any second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.least, self.most = world.serving(), len(world.members())
        world.watch.append(self.look)

    def look(self) -> None:
        self.least = min(self.least, self.world.serving())
        self.most = max(self.most, len(self.world.members()))


@pytest.mark.rule(
    AREA, "Without a lower bound, 90 % of the desired capacity stay in service, rounded up to a whole instance.", PREFERENCES
)
def test_the_default_lower_bound_is_ninety_percent_rounded_up(world: World) -> None:
    world.group(desired=15)
    seen = Extremes(world)
    world.refresh(InstanceWarmup=2)
    world.ended("Successful")
    assert (seen.least, seen.most) == (14, 15)  # 13.5, rounded up
    assert world.described_refresh()["Preferences"]["MinHealthyPercentage"] == 90
    assert world.versions() == Counter({"2": 15})


@pytest.mark.rule(
    AREA,
    "With the upper bound left out and no room below, an instance is terminated and its replacement launched together.",
    PREFERENCES,
)
def test_without_an_upper_bound_the_old_one_goes_first(world: World) -> None:
    world.group(desired=3)
    seen = Extremes(world)
    world.refresh(MinHealthyPercentage=100, InstanceWarmup=2)
    world.ended("Successful")
    assert (seen.least, seen.most) == (2, 3)
    assert "MaxHealthyPercentage" not in world.described_refresh()["Preferences"]


@pytest.mark.rule(
    AREA,
    "With an upper bound of 100 that leaves no room, a new instance comes before an old one goes, above the desired capacity.",
    PREFERENCES,
)
def test_an_upper_bound_of_a_hundred_is_not_the_same_as_none(world: World) -> None:
    world.group(desired=3)
    seen = Extremes(world)
    world.refresh(MinHealthyPercentage=100, MaxHealthyPercentage=100, InstanceWarmup=2)
    world.ended("Successful")
    assert (seen.least, seen.most) == (3, 4)


@pytest.mark.rule(AREA, "With bounds of 100 and 200 every replacement is launched before anything is terminated.", OVERVIEW)
def test_the_whole_group_can_be_launched_first(world: World) -> None:
    world.group(desired=4)
    seen = Extremes(world)
    world.refresh(**LAUNCH_FIRST)
    world.run(2)
    assert world.versions() == Counter({"1": 4, "2": 4})
    world.ended("Successful")
    assert (seen.least, seen.most) == (4, 8)


@pytest.mark.rule(AREA, "A lower bound of 0 replaces all instances at the same time.", OVERVIEW)
def test_a_lower_bound_of_zero_replaces_all_at_once(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=0, InstanceWarmup=2)
    world.run()
    assert len(world.members("Pending")) == 4
    assert not world.members("InService")
    world.ended("Successful")


@pytest.mark.rule(AREA, "A wider range between the bounds replaces more instances at the same time.", PREFERENCES)
@pytest.mark.parametrize(
    ("least", "most", "together"), [(90, 100, 1), (90, 110, 2), (80, 120, 4), (50, 150, 10)], ids=lambda value: str(value)
)
def test_the_range_decides_how_many_at_a_time(world: World, least: int, most: int, together: int) -> None:
    world.group(desired=10)
    seen = Extremes(world)
    world.refresh(MinHealthyPercentage=least, MaxHealthyPercentage=most, InstanceWarmup=20)
    world.run(2)
    assert world.versions()["2"] == together
    world.ended("Successful")
    assert (seen.least, seen.most) == (least // 10, most // 10)


@pytest.mark.rule(AREA, "Without bounds of its own a refresh keeps those of the instance maintenance policy.", PREFERENCES)
def test_the_maintenance_policy_gives_the_bounds(world: World) -> None:
    world.group(desired=3, InstanceMaintenancePolicy={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200})
    seen = Extremes(world)
    world.refresh(InstanceWarmup=2)
    world.ended("Successful")
    assert (seen.least, seen.most) == (3, 6)


@pytest.mark.rule(AREA, "A replacement counts as updated once it is healthy and its warmup time has passed.", PREFERENCES)
def test_a_replacement_counts_when_it_is_warm(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=30)
    world.run(20)
    waiting = world.described_refresh()
    assert (waiting["PercentageComplete"], waiting["InstancesToUpdate"]) == (0, 2)
    assert "warm up before continuing" in waiting["StatusReason"]
    world.run(15)
    assert (world.described_refresh()["PercentageComplete"], world.described_refresh()["InstancesToUpdate"]) == (50, 1)
    assert world.ended("Successful")["PercentageComplete"] == 100


@pytest.mark.rule(
    AREA, "The warmup is the group's default instance warmup, or without one its health check grace period.", PREFERENCES
)
@pytest.mark.parametrize("options", [{"DefaultInstanceWarmup": 40}, {"HealthCheckGracePeriod": 40}], ids=["warmup", "grace"])
def test_the_warmup_comes_from_the_group(world: World, options: dict[str, int]) -> None:
    world.group(desired=1, **options)
    world.run(60)
    world.refresh(MinHealthyPercentage=0)
    world.run(38)
    assert world.status() == "InProgress"
    world.run(8)
    assert world.status() == "Successful"
    assert world.described_refresh()["Preferences"]["InstanceWarmup"] == 40


@pytest.mark.rule(
    AREA, "With a launch hook, the warmup starts when its action is complete and the instance is in service.", OVERVIEW
)
def test_the_warmup_starts_after_the_hook(world: World) -> None:
    world.group(desired=1)
    world.auto.put_lifecycle_hook(
        AutoScalingGroupName=GROUP, LifecycleHookName="set-up", LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING"
    )
    world.refresh(MinHealthyPercentage=0, InstanceWarmup=10)
    world.run(60)
    (new,) = world.ids("Pending:Wait")
    world.auto.complete_lifecycle_action(
        AutoScalingGroupName=GROUP, LifecycleHookName="set-up", InstanceId=new, LifecycleActionResult="CONTINUE"
    )
    world.run(8)
    assert world.described_refresh()["PercentageComplete"] == 0
    world.run(6)
    assert world.status() == "Successful"


@pytest.mark.rule(AREA, "Skip matching leaves instances alone that have the desired configuration already.", SKIP)
def test_matching_instances_are_skipped(world: World) -> None:
    world.group(desired=3)
    world.auto.update_auto_scaling_group(
        AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateId": world.template, "Version": world.version()}
    )
    world.auto.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=4)
    world.settle(4)
    (matching,) = [member.instance_id for member in world.members() if member.launch_template["Version"] == "2"]
    world.refresh("2", SkipMatching=True, MinHealthyPercentage=50, InstanceWarmup=0)
    world.run()
    assert world.described_refresh()["InstancesToUpdate"] == 3
    world.ended("Successful")
    assert matching in world.ids()
    assert world.versions() == Counter({"2": 4})


@pytest.mark.rule(AREA, "A refresh with skip matching that finds nothing to change succeeds at once and replaces nothing.", SKIP)
def test_nothing_to_change_succeeds_at_once(world: World) -> None:
    world.group(desired=3)
    before = world.ids()
    world.refresh("1", SkipMatching=True)
    world.run(2)
    assert world.status() == "Successful"
    assert world.ids() == before


@pytest.mark.rule(AREA, "Without skip matching every instance is replaced, whether its configuration changes or not.", SKIP)
def test_without_skip_matching_all_are_replaced(world: World) -> None:
    world.group(desired=2)
    before = set(world.ids())
    world.refresh(None, MinHealthyPercentage=50, InstanceWarmup=0)
    world.ended("Successful")
    assert not before & set(world.ids())
    assert world.versions() == Counter({"1": 2})


@pytest.mark.rule(AREA, "The group's own launch template changes when the refresh has succeeded, not before.", OVERVIEW)
def test_the_group_changes_with_success(world: World) -> None:
    world.group(desired=1)
    world.refresh(MinHealthyPercentage=0, InstanceWarmup=5, BakeTime=20)
    world.until("baking", lambda: world.status() == "Baking")
    assert world.describe()["LaunchTemplate"]["Version"] == "1"
    world.ended("Successful")
    assert world.describe()["LaunchTemplate"]["Version"] == "2"


@pytest.mark.rule(AREA, "What is launched to scale out during a refresh has the desired configuration.", OVERVIEW)
def test_scaling_out_meanwhile_uses_the_desired_configuration(world: World) -> None:
    world.group(desired=3)
    world.refresh(MinHealthyPercentage=60, InstanceWarmup=60)
    world.run(3)
    world.auto.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=6)
    world.run(2)
    assert world.versions() == Counter({"1": 2, "2": 4})
    world.ended("Successful")
    assert world.versions() == Counter({"2": 6})


@pytest.mark.rule(
    AREA, "A dead instance is replaced during a refresh as at any other time.", f"{GUIDE}/ec2-auto-scaling-health-checks.html"
)
def test_health_replacement_goes_on_meanwhile(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=75, InstanceWarmup=30)
    world.run(3)
    victim = next(member for member in world.members("InService") if member.launch_template["Version"] == "1").instance_id
    world.kill(victim)
    world.run(4)
    assert victim not in world.ids()
    assert len(world.members()) == 4
    world.ended("Successful")
    assert world.versions() == Counter({"2": 4})


@pytest.mark.rule(AREA, "After a checkpoint the refresh waits for the checkpoint delay before it goes on.", CHECKPOINTS)
@pytest.mark.rule(
    AREA,
    "Each checkpoint is told to EventBridge with its percentage and delay.",
    f"{GUIDE}/ec2-auto-scaling-event-reference.html",
)
def test_checkpoints_pause(world: World) -> None:
    world.group(desired=10)
    world.refresh(MinHealthyPercentage=80, InstanceWarmup=10, CheckpointPercentages=[20, 50, 100], CheckpointDelay=100)
    world.until("the first checkpoint", lambda: world.told("EC2 Auto Scaling Instance Refresh Checkpoint Reached"))
    reached = world.now
    assert world.described_refresh()["PercentageComplete"] == 20
    world.run(99)
    assert world.versions()["2"] == 2
    world.run(2)
    assert world.versions()["2"] == 4
    world.until("the last of the half", lambda: world.versions()["2"] == 5)
    world.run(5)
    assert world.versions()["2"] == 5, "no more than the checkpoint asks for"
    world.ended("Successful")
    assert world.now - reached > 200
    told = world.told("EC2 Auto Scaling Instance Refresh Checkpoint Reached")
    assert [entry["CheckpointPercentage"] for entry in told] == ["20", "50", "100"]
    assert told[0]["CheckpointDelay"] == "100"


@pytest.mark.rule(AREA, "The checkpoint delay is an hour unless given.", PREFERENCES)
def test_the_checkpoint_delay_is_an_hour(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0, CheckpointPercentages=[50, 100])
    world.until("the checkpoint", lambda: world.told("EC2 Auto Scaling Instance Refresh Checkpoint Reached"))
    world.run(3598)
    assert world.versions() == Counter({"1": 1, "2": 1})
    world.run(4)
    assert world.versions() == Counter({"2": 2})


@pytest.mark.rule(AREA, "A checkpoint that is passed together with a later one is skipped.", CHECKPOINTS)
def test_a_small_group_skips_a_checkpoint(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0, CheckpointPercentages=[10, 40, 100], CheckpointDelay=10)
    world.ended("Successful")
    told = world.told("EC2 Auto Scaling Instance Refresh Checkpoint Reached")
    assert [entry["CheckpointPercentage"] for entry in told] == ["40", "100"]


@pytest.mark.rule(AREA, "A last checkpoint below 100 % ends the refresh there.", CHECKPOINTS)
def test_a_partial_refresh_ends_at_its_last_checkpoint(world: World) -> None:
    world.group(desired=10)
    world.refresh(MinHealthyPercentage=80, InstanceWarmup=5, CheckpointPercentages=[10, 20], CheckpointDelay=10)
    assert world.ended("Successful")["PercentageComplete"] == 20
    assert world.versions() == Counter({"1": 8, "2": 2})


@pytest.mark.rule(AREA, "A group that grows past a checkpoint reaches it again, tells of it and waits again.", CHECKPOINTS)
def test_a_growing_group_reaches_a_checkpoint_again(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=50, CheckpointPercentages=[50, 100], CheckpointDelay=30)
    kind = "EC2 Auto Scaling Instance Refresh Checkpoint Reached"
    world.until("the checkpoint", lambda: world.told(kind))
    world.auto.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=10)
    world.until("the checkpoint once more", lambda: len(world.told(kind)) > 1)
    assert [entry["CheckpointPercentage"] for entry in world.told(kind)] == ["50", "50"]


@pytest.mark.rule(AREA, "With a bake time the refresh is Baking, all instances updated, until that has passed.", PREFERENCES)
def test_baking(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=1, BakeTime=300)
    world.until("baking", lambda: world.status() == "Baking")
    assert world.versions() == Counter({"2": 2})
    assert world.described_refresh()["PercentageComplete"] == 100
    world.run(298)
    assert world.status() == "Baking"
    world.run(4)
    assert world.status() == "Successful"


def _alarm(state: str) -> None:
    client("cloudwatch").put_metric_alarm(
        AlarmName="errors", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1, MetricName="5XX", Namespace="web",
        Period=60, Statistic="Sum", Threshold=1.0,
    )  # fmt: skip
    client("cloudwatch").set_alarm_state(AlarmName="errors", StateValue=state, StateReason="a test")


@pytest.mark.rule(AREA, "An alarm that goes into the ALARM state fails the refresh.", PREFERENCES)
def test_an_alarm_fails_it(world: World) -> None:
    world.group(desired=3)
    _alarm("OK")
    world.refresh(**LAUNCH_FIRST | {"MaxHealthyPercentage": 134}, AlarmSpecification={"Alarms": ["errors"]})
    world.run(12)
    _alarm("ALARM")
    seen = Extremes(world)
    failed = world.ended("Failed")
    assert "errors is in ALARM state" in failed["StatusReason"]
    world.run(30)
    assert seen.least == 3
    assert len(world.members()) == 3
    assert world.versions()["1"], "what was not replaced yet stays"
    assert world.describe()["LaunchTemplate"]["Version"] == "1"
    assert world.told("EC2 Auto Scaling Instance Refresh Failed")


@pytest.mark.rule(AREA, "An alarm in the bake time fails the refresh, and with auto rollback all is rolled back.", ROLLBACK)
def test_an_alarm_while_baking_rolls_back(world: World) -> None:
    world.group(desired=3)
    _alarm("OK")
    world.refresh(**LAUNCH_FIRST, AlarmSpecification={"Alarms": ["errors"]}, AutoRollback=True, BakeTime=600)
    world.until("baking", lambda: world.status() == "Baking")
    seen = Extremes(world)
    _alarm("ALARM")
    world.run(2)
    assert world.status() == "RollbackInProgress"
    ended = world.ended("RollbackSuccessful")
    assert world.versions() == Counter({"1": 3})
    assert seen.least == 3
    assert "errors is in ALARM state" in ended["RollbackDetails"]["RollbackReason"]
    assert ended["RollbackDetails"]["PercentageCompleteOnRollback"] == 100
    assert world.describe()["LaunchTemplate"]["Version"] == "1"


@pytest.mark.rule(AREA, "A rollback replaces only the instances that the refresh had replaced.", ROLLBACK)
@pytest.mark.rule(AREA, "During a rollback the percentage that is complete goes back to zero.", f"{API}/API_InstanceRefresh.html")
def test_a_manual_rollback_replaces_what_was_replaced(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=75, InstanceWarmup=5, CheckpointPercentages=[50, 100])
    world.until("the checkpoint", lambda: world.told("EC2 Auto Scaling Instance Refresh Checkpoint Reached"))
    untouched = {member.instance_id for member in world.members() if member.launch_template["Version"] == "1"}
    assert world.auto.rollback_instance_refresh(AutoScalingGroupName=GROUP)["InstanceRefreshId"]
    world.run()
    assert world.described_refresh()["Status"] == "RollbackInProgress"
    ended = world.ended("RollbackSuccessful")
    assert untouched <= set(world.ids())
    assert world.versions() == Counter({"1": 4})
    assert ended["PercentageComplete"] == 0
    assert ended["RollbackDetails"]["InstancesToUpdateOnRollback"] == 2


@pytest.mark.rule(AREA, "Instances that fail to launch are retried for an hour; then the refresh fails.", OVERVIEW)
def test_failing_launches_fail_it_after_an_hour(world: World) -> None:
    world.group(desired=4)
    old = world.ids()
    world.boots = lambda instance: instance.id in old
    seen = Extremes(world)
    world.refresh(MinHealthyPercentage=75, InstanceWarmup=5)
    world.run(3500)
    assert world.status() == "InProgress"
    assert "Termination Reason: Server.InternalError" in world.ended("Failed", 300)["StatusReason"]
    assert seen.least == 3, "no healthy instance is given up for replacements that don't come"


@pytest.mark.rule(
    AREA, "A refresh that fails with auto rollback replaces the failing instances by the group's configuration.", ROLLBACK
)
def test_failing_instances_roll_back_automatically(world: World) -> None:
    world.group(desired=3)
    bad = world.version()
    image = world.region.ec2.get_launch_template(world.template).get_version(bad).image_id
    world.boots = lambda instance: instance.image_id != image
    seen = Extremes(world)
    world.refresh(bad, **LAUNCH_FIRST, AutoRollback=True)
    world.ended("RollbackSuccessful")
    assert (seen.least, world.versions()) == (3, Counter({"1": 3}))


@pytest.mark.rule(
    AREA, "A replacement that does not pass its health checks is replaced, and costs no healthy instance.", OVERVIEW
)
def test_an_unhealthy_replacement_costs_no_healthy_instance(world: World) -> None:
    world.group(desired=4)
    arn = world.target_group()
    world.auto.attach_load_balancer_target_groups(AutoScalingGroupName=GROUP, TargetGroupARNs=[arn])
    world.auto.update_auto_scaling_group(AutoScalingGroupName=GROUP, HealthCheckType="ELB")
    world.run()
    old = set(world.ids())

    def spoil() -> None:
        world.balancers.states = {member.instance_id: UNHEALTHY for member in world.members() if member.instance_id not in old}

    world.watch.append(spoil)
    world.refresh(MinHealthyPercentage=75, MaxHealthyPercentage=125, InstanceWarmup=5)
    for _ in range(600):
        world.run()
        assert len(old & set(world.ids("InService"))) >= 3
        assert len(world.members()) <= 5
    assert world.status() == "InProgress"
    world.ended("Failed")
    assert len(old & set(world.ids("InService"))) >= 3


@pytest.mark.rule(
    AREA,
    "Cancelling lets replacements under way finish, begins no other, and changes nothing back.",
    f"{GUIDE}/cancel-instance-refresh.html",
)
def test_cancelling(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=100, MaxHealthyPercentage=125, InstanceWarmup=30)
    world.run(3)
    world.auto.cancel_instance_refresh(AutoScalingGroupName=GROUP)
    world.run(2)
    assert world.described_refresh()["Status"] == "Cancelling"
    assert "Cancelled due to user request" in world.ended("Cancelled")["StatusReason"]
    world.run(60)
    assert world.versions() == Counter({"1": 3, "2": 1})
    assert world.describe()["LaunchTemplate"]["Version"] == "1"
    assert world.told("EC2 Auto Scaling Instance Refresh Cancelled")


def test_cancelling_without_waiting(world: World) -> None:
    world.group(desired=4)
    world.refresh(MinHealthyPercentage=100, MaxHealthyPercentage=125, InstanceWarmup=30)
    world.run(3)
    world.auto.cancel_instance_refresh(AutoScalingGroupName=GROUP, WaitForTransitioningInstances=False)
    world.run()
    assert world.status() == "Cancelled"
    seen = Extremes(world)
    world.settle(4)
    assert seen.least >= 4


@pytest.mark.rule(AREA, "Instances protected from scale in are waited for, for an hour; then the refresh fails.", PREFERENCES)
def test_protected_instances_are_waited_for(world: World) -> None:
    world.group(desired=2)
    keep = world.ids()[0]
    world.auto.set_instance_protection(AutoScalingGroupName=GROUP, InstanceIds=[keep], ProtectedFromScaleIn=True)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0)
    world.run(60)
    assert "protected from scale in" in world.described_refresh()["StatusReason"]
    assert world.versions() == Counter({"1": 1, "2": 1})
    world.run(3500)
    assert world.status() == "InProgress"
    assert "protected from scale in" in world.ended("Failed", 200)["StatusReason"]


@pytest.mark.rule(AREA, "Protected instances are passed over with Ignore and replaced with Refresh.", PREFERENCES)
@pytest.mark.parametrize(("behaviour", "stays"), [("Ignore", True), ("Refresh", False)])
def test_protected_instances_as_asked(world: World, behaviour: str, stays: bool) -> None:
    world.group(desired=2)
    keep = world.ids()[0]
    world.auto.set_instance_protection(AutoScalingGroupName=GROUP, InstanceIds=[keep], ProtectedFromScaleIn=True)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0, ScaleInProtectedInstances=behaviour)
    world.ended("Successful")
    assert (keep in world.ids()) is stays


@pytest.mark.rule(
    AREA, "Instances in standby are passed over with Ignore, terminated with Terminate, else waited for.", PREFERENCES
)
@pytest.mark.parametrize(("behaviour", "state"), [("Ignore", "Standby"), ("Terminate", None), ("Wait", "Standby")])
def test_standby_instances_as_asked(world: World, behaviour: str, state: str | None) -> None:
    world.group(desired=3)
    away = world.ids()[0]
    world.auto.enter_standby(AutoScalingGroupName=GROUP, InstanceIds=[away], ShouldDecrementDesiredCapacity=True)
    world.run(2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0, StandbyInstances=behaviour)
    if behaviour == "Wait":
        world.run(60)
        assert "is in Standby state" in world.described_refresh()["StatusReason"]
        world.auto.exit_standby(AutoScalingGroupName=GROUP, InstanceIds=[away])
        world.ended("Successful")
        assert world.versions() == Counter({"2": 3})
        return
    world.ended("Successful")
    states: dict[str, Any] = {member.instance_id: member.lifecycle_state for member in world.record.instance_states}
    assert states.get(away) == state
    assert world.versions() == Counter({"2": 2})


@pytest.mark.rule(
    AREA, "A refresh pauses while the InstanceRefresh process is suspended.", f"{GUIDE}/as-suspend-resume-processes.html"
)
def test_a_suspended_refresh_pauses(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50, InstanceWarmup=0)
    world.run(1)
    world.auto.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["InstanceRefresh"])
    world.run(100)
    assert world.versions() == Counter({"1": 1, "2": 1})
    world.auto.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["InstanceRefresh"])
    world.ended("Successful")


@pytest.mark.rule(
    AREA,
    "A refresh passes from Pending to InProgress to Successful, and tells EventBridge of both ends.",
    f"{GUIDE}/check-status-instance-refresh.html",
)
def test_states_and_events(world: World) -> None:
    world.group(desired=1)
    started = world.refresh(MinHealthyPercentage=0, InstanceWarmup=0)
    assert world.described_refresh()["Status"] == "Pending"
    assert "StartTime" not in world.described_refresh()
    world.run()
    assert world.described_refresh()["Status"] == "InProgress"
    ended = world.ended("Successful")
    assert (ended["InstanceRefreshId"], ended["InstancesToUpdate"]) == (started, 0)
    assert ended["EndTime"] >= ended["StartTime"]
    detail = [{"InstanceRefreshId": started, "AutoScalingGroupName": GROUP}]
    assert world.told("EC2 Auto Scaling Instance Refresh Started") == detail
    assert world.told("EC2 Auto Scaling Instance Refresh Succeeded") == detail


def test_earlier_refreshes_are_listed_in_pages(world: World) -> None:
    world.group(desired=1)
    made = []
    for _ in range(3):
        made.append(world.refresh("1", SkipMatching=True))
        world.run(2)
    ask = world.auto.describe_instance_refreshes
    first = ask(AutoScalingGroupName=GROUP, MaxRecords=2)
    rest = ask(AutoScalingGroupName=GROUP, NextToken=first["NextToken"])
    listed = [entry["InstanceRefreshId"] for entry in first["InstanceRefreshes"] + rest["InstanceRefreshes"]]
    assert listed == made[::-1]
    one = ask(AutoScalingGroupName=GROUP, InstanceRefreshIds=[made[1]])["InstanceRefreshes"]
    assert [entry["InstanceRefreshId"] for entry in one] == [made[1]]
    with pytest.raises(ClientError, match="InvalidNextToken"):
        ask(AutoScalingGroupName=GROUP, NextToken="nonsense")


@pytest.mark.rule(
    AREA,
    "A group has one refresh at a time; another is refused with InstanceRefreshInProgress.",
    f"{API}/API_StartInstanceRefresh.html",
)
def test_one_at_a_time(world: World) -> None:
    world.group(desired=2)
    world.refresh(MinHealthyPercentage=50)
    with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
        world.refresh()


@pytest.mark.rule(
    AREA,
    "Cancelling or rolling back without a refresh under way is ActiveInstanceRefreshNotFound.",
    f"{API}/API_CancelInstanceRefresh.html",
)
def test_nothing_to_cancel(world: World) -> None:
    world.group(desired=1)
    for call in (world.auto.cancel_instance_refresh, world.auto.rollback_instance_refresh):
        with pytest.raises(ClientError, match="ActiveInstanceRefreshNotFound"):
            call(AutoScalingGroupName=GROUP)


@pytest.mark.rule(
    AREA,
    "Without a desired configuration there is no rollback: IrreversibleInstanceRefresh.",
    f"{API}/API_RollbackInstanceRefresh.html",
)
@pytest.mark.rule(AREA, "A group on $Latest, $Default or an AMI alias can't roll back.", ROLLBACK)
@pytest.mark.parametrize("version", ["$Latest", "$Default", "alias", None])
def test_what_can_not_be_rolled_back(world: World, version: str | None) -> None:
    world.group(desired=2)
    if version == "alias":
        version = world.version(ImageId="resolve:ssm:/images/latest")
    if version:
        template = {"LaunchTemplateId": world.template, "Version": version}
        world.auto.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate=template)
    with pytest.raises(ClientError, match=r"ValidationError.*rollback is not possible"):
        world.refresh(None if version is None else "1", AutoRollback=True)
    world.refresh(None if version is None else "1", MinHealthyPercentage=50)
    world.run()
    with pytest.raises(ClientError, match="IrreversibleInstanceRefresh"):
        world.auto.rollback_instance_refresh(AutoScalingGroupName=GROUP)


@pytest.mark.rule(AREA, "Preferences outside AWS's ranges, or without what they need, are a ValidationError.", PREFERENCES)
@pytest.mark.parametrize(
    ("preferences", "words"),
    [
        ({"MinHealthyPercentage": 101}, "less than or equal to 100"),
        ({"MinHealthyPercentage": 100, "MaxHealthyPercentage": 201}, "less than or equal to 200"),
        ({"MaxHealthyPercentage": 150}, "must specify MinHealthyPercentage"),
        ({"MinHealthyPercentage": 50, "MaxHealthyPercentage": 151}, "greater than 100"),
        ({"CheckpointPercentages": [50, 20]}, "ascending"),
        ({"CheckpointPercentages": [50, 50, 100]}, "unique"),
        ({"CheckpointPercentages": [50, 101]}, "between 1 and 100"),
        ({"CheckpointDelay": 60}, "must specify CheckpointPercentages"),
        ({"BakeTime": 172801}, "less than or equal to 172800"),
        ({"AlarmSpecification": {"Alarms": ["missing"]}}, "do not exist"),
        ({"AlarmSpecification": {"Alarms": [f"alarm{n}" for n in range(11)]}}, "up to 10"),
        ({"StandbyInstances": "Refresh"}, "must be one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_preferences_are_checked(world: World, preferences: dict[str, Any], words: str) -> None:
    world.group(desired=1)
    with pytest.raises(ClientError, match=rf"ValidationError.*{words}"):
        world.refresh(**preferences)
    assert not world.auto.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]


def test_what_the_twin_does_not_do_is_said(world: World) -> None:
    world.group(desired=1)
    start = world.auto.start_instance_refresh
    with pytest.raises(ClientError, match="not supported by the twin"):
        start(AutoScalingGroupName=GROUP, Strategy="ReplaceRootVolume")
    with pytest.raises(ClientError, match="not supported by the twin"):
        start(
            AutoScalingGroupName=GROUP,
            DesiredConfiguration={"MixedInstancesPolicy": {"InstancesDistribution": {"OnDemandBaseCapacity": 1}}},
        )
    with pytest.raises(ClientError, match="valid fully-formed launch template"):
        world.refresh("99")
    with pytest.raises(ClientError, match="name not found"):
        start(AutoScalingGroupName="another")
