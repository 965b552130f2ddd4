"""Faults by AWS Fault Injection Service, and what is seen while they last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError
from support import Platform, wait_until

ROLE = "experiments"
# What aws:network:disrupt-connectivity asks for: https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
NETWORK = [f"ec2:{verb}NetworkAcl" for verb in ("Create", "Delete")] + [
    *("ec2:CreateNetworkAclEntry", "ec2:CreateTags", "ec2:ReplaceNetworkAclAssociation"),
    *("ec2:DescribeNetworkAcls", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
]


@contextmanager
def experiment(platform: Platform, action: dict[str, Any], targets: dict[str, Any] | None = None) -> Iterator[float]:
    """Run an experiment of one action for as long as the block lasts; yields when it was asked for, in monotonic seconds."""
    fis = platform.target.client("fis")
    made = fis.create_experiment_template(
        description=str(action["actionId"]),
        roleArn=_role(platform.target.client("iam")),
        stopConditions=[{"source": "none"}],
        actions={"fault": action},
        targets=targets or {},
    )
    asked = time.monotonic()
    started = fis.start_experiment(experimentTemplateId=made["experimentTemplate"]["id"])["experiment"]["id"]

    def state() -> str:
        return str(fis.get_experiment(id=started)["experiment"]["state"]["status"])

    try:
        wait_until("the fault", lambda: state() != "initiating")
        assert state() == "running", fis.get_experiment(id=started)["experiment"]["state"]
        yield asked
    finally:
        if state() == "running":
            fis.stop_experiment(id=started)
        wait_until("the fault's end", lambda: state() in ("stopped", "completed", "failed"))


def _role(iam: Any) -> str:
    """The role that experiments work with, made if need be."""
    try:
        return str(iam.get_role(RoleName=ROLE)["Role"]["Arn"])
    except ClientError:
        trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": NETWORK, "Resource": "*"}]}
        iam.put_role_policy(RoleName=ROLE, PolicyName="network", PolicyDocument=json.dumps(allowed))
        return str(role)


@contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Look twice a second beside what the block does, and once at least; an error of a look is raised at the block's end."""
    ended = threading.Event()

    def watch() -> None:
        look()
        while not ended.wait(0.5):
            look()

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield
        finally:
            ended.set()
        watcher.result()
