"""The README's commands: what they refuse, what they leave, and that they can be run again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from support import NAME, SLOT, Platform, evenkeel, scattered, wait_until

from evenkeel.host import ROOT
from evenkeel.local import Local


def test_a_wrong_target_is_named() -> None:
    done = evenkeel("plan", check=False, TARGET="nowhere")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "evenkeel: TARGET=nowhere: there is no terraform/env/nowhere.tfvars; known are production, staging, twin"
    ]


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    """Without apt on the PATH, set-up says what is missing and how to get it."""
    for tool in ("git", "terraform"):
        (tmp_path / tool).symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, "-c", "import evenkeel.host as host; host.missing = lambda: [host.TOOLS[0]]; host.install_packages()"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "podman (containers" in done.stderr
    assert "Debian's package podman" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stopped_twin_is_said_so() -> None:
    done = evenkeel("status", check=False, EVENKEEL_NAME="absent", EVENKEEL_SLOT="100")
    assert done.returncode == 1
    assert done.stderr.strip() == "evenkeel: the twin is not running: run `make up`"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    store = ROOT / ".state" / "store"
    with socket.create_server(("127.103.0.1", 4566)):
        done = subprocess.run(
            [sys.executable, "-m", "twin", "serve", "--name=taken", "--slot=103", f"--state={tmp_path}", f"--store={store}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert "127.103.0.1:4566" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_taken_port_of_the_load_balancer_is_named_before_anything_is_built() -> None:
    with socket.create_server(("127.104.1.1", 80)):
        done = evenkeel("up", check=False, EVENKEEL_NAME="taken", EVENKEEL_SLOT="104")
    evenkeel("down", EVENKEEL_NAME="taken", EVENKEEL_SLOT="104")
    assert done.returncode == 1
    assert "can't listen on 127.104.1.1:80: Address already in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_env_serves_other_tools(platform: Platform) -> None:
    python, code = sys.executable, "%{http_code}"
    script = f'eval "$({python} -m evenkeel env)"; {python} -c "{_SCRIPT}"; curl -so /dev/null -w "{code}" $SERVICE_URL/livez'
    own = {"PATH": os.environ["PATH"], "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT)}
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "200"]


_SCRIPT = (
    "import boto3; print(len(boto3.client('autoscaling').describe_auto_scaling_groups()['AutoScalingGroups'][0]['Instances']))"
)


def test_status_tells_zones_instances_image_and_health(platform: Platform) -> None:
    wait_until("a healthy fleet", lambda: "3 of 3 healthy, in 3 zones" in evenkeel("status").stdout)
    shown = evenkeel("status").stdout
    assert len(re.findall(r"\bi-[0-9a-f]{17}\b", shown)) == 3
    assert "evenkeel-0" in shown
    assert "database  evenkeel available" in shown


def test_a_second_up_changes_nothing(platform: Platform) -> None:
    again = evenkeel("up").stdout
    assert "0 added, 0 changed, 0 removed" in again
    assert "is there" in again  # the image, of the same inputs


def test_a_wrong_variable_is_explained(platform: Platform) -> None:
    done = evenkeel("plan", check=False, TF_CLI_ARGS_plan="-var=vpc_cidr=10.0.0.0/8")
    assert done.returncode != 0
    assert "Set vpc_cidr to a network address" in done.stdout + done.stderr


@pytest.mark.last
def test_a_killed_twin_goes_on_where_it_was(platform: Platform) -> None:
    """The service serves without the twin, and `up` finds every body and every record of it again."""
    wait_until("a healthy fleet", lambda: "3 of 3 healthy, in 3 zones" in evenkeel("status").stdout)
    # A machine that is busy may fail a health check meanwhile: no instance shall go for it.
    group = platform.target.client("autoscaling")
    fleet = {"AutoScalingGroupName": platform.outputs["autoscaling_group_name"]}
    group.suspend_processes(**fleet, ScalingProcesses=["ReplaceUnhealthy", "AZRebalance"])
    before = bodies(platform)
    assert len(before) >= 4  # three instances and a database
    pid = platform.local.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until("the end of the twin", lambda: platform.local.pid() is None)
    assert requests.get(f"{platform.url}/healthz", timeout=10).status_code == 200
    assert bodies(platform) == before

    began = time.monotonic()
    again = evenkeel("up").stdout
    assert "0 added, 0 changed, 0 removed" in again
    assert time.monotonic() - began < 120  # bringing it up anew takes longer
    assert bodies(platform) == before
    assert requests.get(f"{platform.url}/healthz", timeout=10).status_code == 200
    group.resume_processes(**fleet)
    wait_until("a healthy fleet", lambda: "3 of 3 healthy, in 3 zones" in evenkeel("status").stdout)


def bodies(platform: Platform) -> dict[str, str]:
    """The first processes of the instances and the databases, by container. Functions' environments come and go."""
    mark = f"label=twin={platform.local.name}"
    shown = platform.podman("ps", f"--filter={mark}", "--format={{.Names}} {{.Pid}}").splitlines()
    found = dict(line.split() for line in shown)
    return {name: pid for name, pid in found.items() if not re.fullmatch(rf"{platform.local.name}-.*-[0-9a-f]{{10}}", name)}


@pytest.mark.last
def test_a_restarted_host_and_a_killed_up_are_recovered_from(platform: Platform) -> None:
    """Every process of the region is killed at once, and another boot begins; then `up` and its Terraform halfway."""
    pids = processes(platform.local)
    assert len(pids) > 5
    for pid in pids:
        with suppress(ProcessLookupError):  # one may end with another
            os.kill(pid, signal.SIGKILL)
    wait_until("the end of its processes", lambda: not processes(platform.local))
    assert evenkeel("status", check=False).returncode == 1
    records = platform.local.state / "records" / "snapshot"
    header, _, content = records.read_bytes().partition(b"\n")
    records.write_bytes(json.dumps(json.loads(header) | {"boot": "another"}).encode() + b"\n" + content)

    own = {**os.environ, "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT)}
    log = platform.local.state / "terraform.log"
    log.unlink()
    halfway = subprocess.Popen([sys.executable, "-m", "evenkeel", "up"], cwd=ROOT, env=own, stdout=subprocess.DEVNULL)
    wait_until(
        "half an apply", lambda: (log.exists() and log.read_text().count('"apply_complete"') > 20) or halfway.poll() is not None
    )
    assert halfway.poll() is None
    mark = f"TF_DATA_DIR={platform.local.state / 'terraform'}".encode()
    terraform = [pid for pid in all_processes() if mark in environment_of(pid)]
    assert terraform
    for pid in (halfway.pid, *terraform):
        os.kill(pid, signal.SIGKILL)
    halfway.wait()

    again = evenkeel("up").stdout
    assert "is there" in again  # the image has survived
    assert requests.get(f"{platform.url}/healthz", timeout=10).status_code == 200


def all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.mark.last
def test_down_leaves_nothing(platform: Platform) -> None:
    local = platform.local
    evenkeel("down")
    assert processes(local) == []
    for command in (
        ["ip", "netns"],
        ["ip", "-brief", "link"],
        ["ip", "route"],
        ["nft", "list", "tables"],
        ["ip", "-brief", "address"],
    ):
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for trace in (f"{NAME}.", f"ek{SLOT}-", f"twin_{SLOT}", f"127.{SLOT}.", f"100.{SLOT}."):
            assert trace not in shown, f"{trace} in {' '.join(command)}:\n{shown}"
    with socket.socket() as probe:
        assert probe.connect_ex((f"127.{SLOT}.0.1", 4566)) != 0
    assert sorted(entry.name for entry in local.state.iterdir()) == ["images.json", "up.lock"]
    assert scattered() - platform.before == set()


def processes(local: Local) -> list[int]:
    """Processes that carry the region's state folder, or run in one of its containers' control groups."""
    needle = str(local.state).encode() + b"/"
    found = []
    for pid in all_processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
        except OSError:
            continue
        if needle in words or str(local.state).encode() in words.split(b"\0") or namespace in _namespaces(local):
            found.append(pid)
    return found


def _namespaces(local: Local) -> set[int]:
    """The region's network namespaces, without the host's own, to which one of its names leads."""
    folder = Path("/run/netns")
    found = {entry.stat().st_ino for entry in folder.glob(f"{local.name}.*")} if folder.exists() else set()
    return found - {os.stat("/proc/self/ns/net").st_ino}
