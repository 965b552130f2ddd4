"""The alarms that end a rollout: silent while all is well, and heard soon after clients get server errors."""

from __future__ import annotations

import copy
import json
import time

import requests
from support import Platform, wait_until

ERRORS = 40


def test_server_errors_are_heard(platform: Platform) -> None:
    wait_until(
        "silent alarms", lambda: platform.alarms() == {"balancer-errors": "OK", "service-errors": "OK", "slow": "OK"}, seconds=600
    )
    instance = platform.fleet()[0]["instance"]
    iam = platform.target.client("iam")
    role = platform.podman("exec", instance, "sh", "-c", ROLE)
    policy = iam.get_role_policy(RoleName=role, PolicyName="service")["PolicyDocument"]
    without = copy.deepcopy(policy)
    without["Statement"] = [entry for entry in policy["Statement"] if entry["Sid"] != "Tokens"]
    try:
        iam.put_role_policy(RoleName=role, PolicyName="service", PolicyDocument=json.dumps(without))
        answers = [requests.get(f"{platform.url}/v1/user/verify?token={'t' * 43}", timeout=10).status_code for _ in range(ERRORS)]
        began = time.monotonic()
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="service", PolicyDocument=json.dumps(policy))
    assert answers.count(503) == ERRORS
    wait_until("the alarm", lambda: platform.alarms()["service-errors"] == "ALARM")
    print(f"\nheard {time.monotonic() - began:.0f} s after {ERRORS} errors")
    # The load balancer passed them on: it has none of its own.
    assert platform.alarms()["balancer-errors"] == "OK"


ROLE = (
    "t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token); "
    'curl -s -H "X-aws-ec2-metadata-token: $t" http://169.254.169.254/latest/meta-data/iam/security-credentials/'
)
