"""Health of a group's instances: what is replaced, when, and how many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asg_world import UNHEALTHY, World, living
from botocore.exceptions import ClientError

GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide"
API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
HEALTH = f"{GUIDE}/ec2-auto-scaling-health-checks.html"
POLICY = f"{GUIDE}/instance-maintenance-policy-overview-and-considerations.html"
REPLACEMENT = "health and replacement"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


@pytest.mark.rule(REPLACEMENT, "An instance that has been stopped or terminated is taken for unhealthy and replaced.", HEALTH)
@pytest.mark.parametrize("end", ["stop_instances", "terminate_instances"])
def test_an_instance_ended_by_someone_is_replaced(world: World, end: str) -> None:
    world.group(desired=2)
    victim = world.ids()[0]
    getattr(world.ec2, end)(InstanceIds=[victim])
    world.run(6)
    assert victim not in world.ids()
    assert len(world.ids("InService")) == 2
    left = next(entry for entry in world.activities() if entry["Description"] == f"Terminating EC2 instance: {victim}")
    assert "in response to an EC2 health check indicating it has been terminated or stopped." in left["Cause"]
    came = world.activities()[0] if world.activities()[0]["Description"].startswith("Launching") else world.activities()[1]
    assert "an instance was launched in response to an unhealthy instance needing to be replaced." in came["Cause"]


@pytest.mark.rule(REPLACEMENT, "With ELB health checks, an instance whose target is unhealthy is replaced.", HEALTH)
def test_an_unhealthy_target_is_replaced(world: World) -> None:
    world.group(desired=2)
    world.behind_a_load_balancer()
    victim = world.ids()[0]
    world.balancers.states[victim] = UNHEALTHY
    world.run(5)
    assert victim not in world.ids()
    assert any("an ELB system health check failure" in entry["Cause"] for entry in world.activities())


@pytest.mark.rule(REPLACEMENT, "Without ELB health checks, an unhealthy target does not matter.", HEALTH)
def test_an_unhealthy_target_does_not_matter_to_ec2_checks(world: World) -> None:
    world.group(desired=1)
    world.behind_a_load_balancer()
    world.update(HealthCheckType="EC2")
    (only,) = world.ids()
    world.balancers.states[only] = UNHEALTHY
    world.run(20)
    assert world.ids() == [only]


@pytest.mark.rule(
    REPLACEMENT,
    "A failed ELB check counts once the grace period since entering service is over.",
    f"{GUIDE}/health-check-grace-period.html",
)
@pytest.mark.rule(
    REPLACEMENT, "The grace period protects no instance that does not run.", f"{GUIDE}/health-check-grace-period.html"
)
def test_the_grace_period(world: World) -> None:
    world.group(desired=2, HealthCheckGracePeriod=100)
    world.behind_a_load_balancer()
    slow, dead = world.ids()
    world.balancers.states[slow] = UNHEALTHY
    world.kill(dead)
    world.run(20)
    assert slow in world.ids()
    assert dead not in world.ids()
    world.run(100)
    assert slow not in world.ids()


@pytest.mark.rule(REPLACEMENT, "The health check grace period is 0 unless given.", f"{API}/API_CreateAutoScalingGroup.html")
def test_the_grace_period_is_none_by_default(world: World) -> None:
    world.group(desired=0)
    assert world.describe()["HealthCheckGracePeriod"] == 0


@pytest.mark.rule(
    REPLACEMENT,
    "An instance set to Unhealthy is replaced; within the grace period only if it is not respected.",
    f"{API}/API_SetInstanceHealth.html",
)
def test_setting_health(world: World) -> None:
    world.group(desired=1, HealthCheckGracePeriod=100)
    (only,) = world.ids()
    world.auto.set_instance_health(InstanceId=only, HealthStatus="Unhealthy")
    world.run(5)
    assert world.ids() == [only]
    world.auto.set_instance_health(InstanceId=only, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
    world.run(5)
    assert only not in world.ids()
    assert any("in response to a user health-check." in entry["Cause"] for entry in world.activities())
    with pytest.raises(ClientError, match="Valid instance health states"):
        world.auto.set_instance_health(InstanceId=world.ids()[0], HealthStatus="Ill")


@pytest.mark.rule(REPLACEMENT, "Without a maintenance policy, an unhealthy instance is terminated and replaced at once.", POLICY)
def test_without_a_policy_the_unhealthy_go_at_once(world: World) -> None:
    world.group(desired=2)
    victim = world.ids()[0]
    world.auto.set_instance_health(InstanceId=victim, HealthStatus="Unhealthy")
    world.run()
    assert victim not in world.ids()
    assert len(world.ids("Pending")) == 1


@pytest.mark.rule(
    REPLACEMENT, "A launch-first maintenance policy keeps an unhealthy instance until its replacement is ready.", POLICY
)
def test_a_policy_launches_the_replacement_first(world: World) -> None:
    policy = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200}
    world.group(desired=2, InstanceMaintenancePolicy=policy, DefaultInstanceWarmup=30)
    world.run(40)
    victim = world.ids()[0]
    world.auto.set_instance_health(InstanceId=victim, HealthStatus="Unhealthy")
    world.run(20)
    assert len(world.members()) == 3
    assert victim in world.ids("InService")
    world.run(20)
    assert victim not in world.ids()
    assert len(world.ids("InService")) == 2


@pytest.mark.rule(REPLACEMENT, "A maintenance policy bounds how many unhealthy instances are replaced at the same time.", POLICY)
def test_a_policy_bounds_how_many_are_replaced(world: World) -> None:
    world.group(desired=4, InstanceMaintenancePolicy={"MinHealthyPercentage": 75, "MaxHealthyPercentage": 100})
    before = set(world.ids())
    for victim in list(before)[:3]:
        world.auto.set_instance_health(InstanceId=victim, HealthStatus="Unhealthy")
    world.run()
    assert len(before & set(world.ids())) == 3
    world.settle(4)
    world.run(10)
    assert len(before & set(world.ids())) == 1


@pytest.mark.rule(
    REPLACEMENT, "Instances older than the maximum instance lifetime are replaced.", f"{GUIDE}/asg-max-instance-lifetime.html"
)
def test_the_maximum_lifetime(world: World) -> None:
    world.group(desired=2, MaxInstanceLifetime=86400)
    before = set(world.ids())
    world.now += 86300
    world.run(5)
    assert set(world.ids()) == before
    world.now += 100
    world.run(20)
    assert not before & set(world.ids())
    assert len(world.ids("InService")) == 2
    with pytest.raises(ClientError, match="Max instance lifetime"):
        world.update(MaxInstanceLifetime=3600)


@pytest.mark.rule(
    REPLACEMENT,
    "A launch whose machine does not come up is a failed activity with the instance's state reason.",
    f"{GUIDE}/ts-as-instancelaunchfailure.html",
)
def test_a_body_that_fails(world: World) -> None:
    world.group(desired=0)
    world.boots = lambda instance: False
    world.grow(1)
    world.run(3)
    failed = next(entry for entry in world.activities() if entry["StatusCode"] == "Failed")
    assert "Termination Reason: Server.InternalError: Internal error on launch: no disk" in failed["StatusMessage"]
    assert world.told("EC2 Instance Launch Unsuccessful")
    world.boots = lambda instance: True
    world.settle(1)
