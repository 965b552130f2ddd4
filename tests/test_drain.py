"""An instance leaves under load: drained, held by its hook, its service ended by SIGTERM, in that order, and nobody notices."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

from load import Load, Outcome, load
from support import Platform, wait_until

RATE = 50
# What the machine's shutdown and the twin's loop may take beyond what the configuration bounds.
SLACK = 30


class Exit:
    """One instance's way out: what its journal says until the machine ends, and what AWS's API shows of it."""

    def __init__(self, platform: Platform, instance: str) -> None:
        self.platform, self.instance = platform, instance
        self.entries: list[tuple[float, str, str]] = []
        self.seen: list[tuple[str, str]] = []
        self.times: dict[str, float] = {}
        # Only what is yet to come: --since would wait for no boot, but the machine takes its journal with it.
        follow = ["podman", "exec", instance, "journalctl", "--follow", "--lines=0", "--output=json"]
        self._journal = subprocess.Popen(follow, env=platform.target.environment(), stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._journal.stdout or ():
            entry = json.loads(line)
            message = entry.get("MESSAGE")
            if isinstance(message, str):
                unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT", ""))
                self.entries.append((int(entry["__REALTIME_TIMESTAMP"]) / 1e6, unit, message))

    def terminate(self) -> None:
        self.began, self.began_at = time.time(), time.monotonic()
        self.platform.target.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=self.instance, ShouldDecrementDesiredCapacity=False
        )

    def gone(self) -> bool:
        """Look once; whether the group has let the instance go."""
        auto, elb = self.platform.target.client("autoscaling"), self.platform.target.client("elbv2")
        found = auto.describe_auto_scaling_instances(InstanceIds=[self.instance])["AutoScalingInstances"]
        lifecycle = str(found[0]["LifecycleState"]) if found else "gone"
        health = elb.describe_target_health(TargetGroupArn=self.platform.outputs["target_group_arn"])["TargetHealthDescriptions"]
        states = [entry["TargetHealth"]["State"] for entry in health if entry["Target"]["Id"] == self.instance]
        now = (lifecycle, str(states[0]) if states else "none")
        if not self.seen or self.seen[-1] != now:
            self.seen.append(now)
            self.times.setdefault(lifecycle, time.time() - self.began)
        return lifecycle == "gone"

    def let_go(self) -> float:
        """Seconds from the request until the hook was seen to wait no more."""
        return self.times.get("Terminating:Proceed", self.times["gone"])

    def at(self, unit: str, words: str) -> float:
        """Seconds from the request to an entry of the journal."""
        said = [(moment, message) for moment, owner, message in self.entries if owner == unit]
        moments = [moment for moment, message in said if words in message]
        assert moments, f"{unit} never said {words!r}: {[message for _, message in said][-20:]}"
        return moments[0] - self.began


def told(failed: list[Outcome], leaving: Exit) -> list[tuple[float, float, int, str]]:
    """Failures by seconds from the request to terminate, how long they took, what they were answered."""
    return [(round(one.at - leaving.began_at, 1), round(one.seconds, 1), one.status, one.words) for one in failed]


def nobody_noticed(running: Load, leaving: Exit) -> None:
    """No request was lost. A service that has more to hash than cores to do it says so: that is no trace of an exit."""
    failed = running.failed()
    assert not told([one for one in failed if "Too many sign-ups" not in one.words], leaving)
    assert len(failed) <= 0.01 * len(running.sent()), told(failed, leaving)


def whole(platform: Platform, without: str) -> bool:
    rows = platform.fleet()
    ready = all(row["target"] == "healthy" and row["lifecycle"] == "InService" for row in rows)
    return len(rows) == 3 and ready and without not in {row["instance"] for row in rows}


def hook(platform: Platform) -> dict[str, Any]:
    group = platform.outputs["autoscaling_group_name"]
    hooks = platform.target.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"]
    (found,) = (entry for entry in hooks if entry["LifecycleHookName"] == platform.outputs["drain_hook_name"])
    return dict(found)


def drain_seconds(platform: Platform) -> int:
    attributes = platform.target.client("elbv2").describe_target_group_attributes(
        TargetGroupArn=platform.outputs["target_group_arn"]
    )["Attributes"]
    return int(next(entry["Value"] for entry in attributes if entry["Key"] == "deregistration_delay.timeout_seconds"))


def test_every_timeout_follows_from_one_variable(platform: Platform) -> None:
    drain = drain_seconds(platform)
    assert hook(platform)["HeartbeatTimeout"] == max(30, drain + 15)
    assert hook(platform)["DefaultResult"] == "CONTINUE"
    instance = platform.fleet()[0]["instance"]
    assert f"SIGNUP_DRAIN_SECONDS={drain}" in platform.podman("exec", instance, "cat", "/etc/signup/signup.env").splitlines()
    for unit in ("signup.service", "signup-outbox.service"):
        shown = platform.podman("exec", instance, "systemctl", "show", unit, "--property=TimeoutStopUSec", "--value")
        assert shown == "1min 15s"
    for unit in ("signup-drain.service", "signup-leave.service"):
        secure = platform.podman("exec", instance, "systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        assert float(secure.split(":")[1].split()[0]) <= 1.3, secure


def test_an_instance_leaves_under_load_and_nobody_notices(platform: Platform) -> None:
    victim = platform.fleet()[0]["instance"]
    drain = drain_seconds(platform)
    leaving = Exit(platform, victim)
    with load(platform.url, RATE) as running:
        wait_until("some requests before", lambda: len(running.outcomes) > 3 * RATE)
        leaving.terminate()
        wait_until("its end", leaving.gone)
        wait_until("three healthy instances", lambda: whole(platform, victim))
    noticed = leaving.at("signup-drain.service", '"state": "Terminated"')
    waits = leaving.at("signup-drain.service", "lifecycle hook waits")
    terms = [leaving.at("signup.service", "Handling signal: term"), leaving.at("signup-outbox.service", "Stopping")]
    ended = [leaving.at("signup.service", "Deactivated successfully"), leaving.at("signup-outbox.service", "publisher stopped")]
    completes = leaving.at("signup-leave.service", "completing the lifecycle action")
    failed = running.failed()
    print(
        f"\n{len(running.sent())} requests, {len(failed)} failed; noticed after {noticed:.1f} s, drained and waiting after "
        f"{waits:.1f} s, SIGTERM after {min(terms):.1f} s, ended after {max(ended):.1f} s, completing after {completes:.1f} s, "
        f"let go after {leaving.let_go():.1f} s, out of the group after {leaving.times['gone']:.1f} s; {leaving.seen}; "
        f"{told(failed, leaving)}"
    )
    # The load balancer drained it before the hook waited, as AWS does, and the service heard of it after that.
    lifecycle = [state for state, _ in leaving.seen]
    assert ("Terminating", "draining") in leaving.seen
    assert lifecycle.index("Terminating") < lifecycle.index("Terminating:Wait") < lifecycle.index("gone")
    assert all(target != "draining" for state, target in leaving.seen if state == "Terminating:Wait")
    assert noticed < waits < min(terms) < max(ended) < completes < leaving.let_go()
    assert waits >= drain - 1
    # Nothing was killed, and nothing waited for a timeout.
    assert not [message for _, _, message in leaving.entries if "SIGKILL" in message or "timed out" in message.lower()]
    assert leaving.let_go() < platform.outputs["longest_exit_seconds"]
    nobody_noticed(running, leaving)
    activities = platform.target.client("autoscaling").describe_scaling_activities(
        AutoScalingGroupName=platform.outputs["autoscaling_group_name"]
    )["Activities"]
    ends = [entry for entry in activities if entry["Description"] == f"Terminating EC2 instance: {victim}"]
    assert [entry["StatusCode"] for entry in ends] == ["Successful"]


def test_a_dead_agent_delays_an_exit_by_the_hooks_timeout_and_no_more(platform: Platform) -> None:
    victim = platform.fleet()[1]["instance"]
    platform.podman("exec", victim, "systemctl", "stop", "signup-drain.service", "signup-leave.path")
    leaving = Exit(platform, victim)
    with load(platform.url, RATE) as running:
        wait_until("some requests before", lambda: len(running.outcomes) > RATE)
        leaving.terminate()
        wait_until("its end", leaving.gone)
        wait_until("three healthy instances", lambda: whole(platform, victim))
    waited = leaving.let_go()
    print(f"\n{len(running.sent())} requests, {len(running.failed())} failed; let go after {waited:.1f} s; {leaving.seen}")
    # A plain shutdown then ended the service, by SIGTERM as well.
    assert leaving.at("signup.service", "Handling signal: term") >= drain_seconds(platform)
    assert waited <= platform.outputs["longest_exit_seconds"] + SLACK
    nobody_noticed(running, leaving)
