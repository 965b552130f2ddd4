"""Health checks: what EC2, the load balancer or a user says of an instance decides whether it is replaced.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
"""

from __future__ import annotations

from typing import Any

from twin.control.group_round import RETRY_SECONDS, Round

GONE = frozenset({"stopping", "stopped", "shutting-down", "terminated"})
BY_LOAD_BALANCER = "an ELB system health check failure"
BY_USER = "a user health-check"
ENDED = "an EC2 health check indicating it has been terminated or stopped"
FAILED = "an EC2 instance status check failure"
LAUNCHED_FOR_UNHEALTHY = "an instance was launched in response to an unhealthy instance needing to be replaced."


def judge(current: Round) -> None:
    """Mark what has failed, and have it replaced. Instances in standby are not checked."""
    checks = not current.suspended("HealthCheck")  # what users say counts in any case
    for member in current.active():
        if member.lifecycle_state != "InService":
            continue
        if checks and member.instance.state in GONE:
            member.health_status, member.unhealthy_because = "Unhealthy", why_gone(member.instance)
        elif (
            checks
            and member.health_status == "Healthy"
            and current.checks_load_balancer
            and current.graced(member)
            and current.unhealthy_at_load_balancer(member)
        ):
            member.health_status, member.unhealthy_because = "Unhealthy", BY_LOAD_BALANCER
        if member.health_status == "Unhealthy":
            if current.refresh and member.generation == current.refresh.generation:
                current.refresh.trouble(current.now, f"{member.instance_id} was found unhealthy.")
                if member.outgoing != "unhealthy":  # what fails at once would be launched again every second
                    current.group.launch_after = current.now + RETRY_SECONDS[1]
            if not current.suspended("ReplaceUnhealthy"):
                member.outgoing = "unhealthy"
        if member.outgoing == "unhealthy" and (member.health_status == "Healthy" or current.suspended("ReplaceUnhealthy")):
            member.outgoing = ""


def cause(member: Any) -> str:
    return f"an instance was taken out of service in response to {member.unhealthy_because or BY_USER}."


def why_gone(instance: Any) -> str:
    """A machine that failed by itself failed its status check; one that someone stopped has been stopped."""
    return FAILED if (getattr(instance.state_reason, "code", "") or "").startswith("Server.") else ENDED


def age(current: Round) -> None:
    """Have members replaced that have reached the maximum instance lifetime.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-max-instance-lifetime.html
    """
    lifetime = getattr(current.group, "max_instance_lifetime", None)
    if not lifetime or current.deleting:
        return
    for member in current.active():
        since = member.in_service_since
        if not member.outgoing and since is not None and current.now - since >= lifetime:
            member.outgoing = "lifetime"
