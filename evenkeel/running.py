"""`python -m evenkeel.running`: the launch template version that the fleet's group names, to compare around a deploy."""

from __future__ import annotations

from evenkeel.steps import Failure, stop
from evenkeel.target import Target


def version(target: Target) -> str:
    name = f"{target.project()}-fleet"
    found = target.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not found:
        raise Failure(f"there is no Auto Scaling group {name} in this region")
    return str(found[0]["LaunchTemplate"]["Version"])


if __name__ == "__main__":
    try:
        print(version(Target.from_environment()))
    except Failure as failure:
        stop(str(failure))
