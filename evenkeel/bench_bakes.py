"""The part of `make bench` that bakes: how long it takes, how large the image is, how soon an instance of it is healthy."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from evenkeel import image, status
from evenkeel.scores import BoundMissed, row, table
from evenkeel.steps import wait_for
from evenkeel.target import Target

RUNS = 5
BAKE_BOUND, LAUNCH_BOUND = 90.0, 10.0


def bakes(target: Target, group: str, note: Callable[[str], None]) -> str:
    """Bake five images, and lose five instances of the fleet; returns Markdown."""
    ids, seconds, sizes = [], [], []
    for _ in range(RUNS):
        began = time.monotonic()
        ids.append(image.bake(target, note, fresh=True))
        seconds.append(time.monotonic() - began)
        sizes.append(size(target, ids[-1]) / 1e6)
    launches = []
    for _ in range(RUNS):
        launches.append(launch(target, group))
        note(f"healthy after {launches[-1]:.1f} s")
    papers = json.loads((target.state / "papers" / "audit.json").read_text())
    exposure = ", ".join(f"{unit} {score}" for unit, score in papers["exposure"].items())
    text = table(
        ("what", "runs", "median", "worst"),
        [
            row(f"a bake with all of its gates (at most {BAKE_BOUND:.0f} s)", seconds, "s"),
            row("size of the image", sizes, "MB"),
            row(f"launch of an instance to healthy at the load balancer (at most {LAUNCH_BOUND:.0f} s)", launches, "s"),
        ],
    ) + (
        f"\n\nLynis {papers['lynis_version']}: {papers['lynis_index']} of 100 by {papers['lynis_tests']} tests, "
        f"{len(papers['lynis_waived'])} waived (playbooks/vars/image_audit.yml). ssh-audit: nothing to say. Exposure: {exposure}."
    )
    middle = RUNS // 2
    found = {"a bake": (sorted(seconds)[middle], BAKE_BOUND), "a launch": (sorted(launches)[middle], LAUNCH_BOUND)}
    missed = [f"{what} takes {value:.0f} s, not {bound:.0f} s" for what, (value, bound) in found.items() if value > bound]
    if missed:
        raise BoundMissed(text, missed)
    return text


def size(target: Target, image_id: str) -> int:
    """Bytes of the image's files."""
    command = ["podman", "image", "inspect", "--format={{.Size}}", f"localhost/ami:{image_id}"]
    return int(subprocess.run(command, env=target.environment(), capture_output=True, text=True, check=True).stdout)


def launch(target: Target, group: str) -> float:
    """Seconds from a replacement's start to its first pass of the load balancer's check."""
    before = {each["instance"] for each in status.fleet(target, group)}
    victim = min(before)
    scaling = target.client("autoscaling")
    scaling.terminate_instance_in_auto_scaling_group(InstanceId=victim, ShouldDecrementDesiredCapacity=False)
    newcomers: list[dict[str, str]] = []

    def arrived() -> bool:
        newcomers[:] = [each for each in status.fleet(target, group) if each["instance"] not in before]
        return bool(newcomers)

    wait_for("the replacement", arrived, 300, period=0.1)
    began = time.monotonic()
    wait_for("its health", lambda: arrived() and newcomers[0]["target"] == "healthy", 300, period=0.1)
    took = time.monotonic() - began
    wait_for("the end of the lost one", lambda: victim not in {each["instance"] for each in status.fleet(target, group)}, 300)
    return took
