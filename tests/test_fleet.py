"""The fleet as the platform leaves it: where it runs, from which image, how it is confined, and what replaces a dead instance."""

from __future__ import annotations

import threading
import time

import requests
from support import Platform, wait_until


def test_three_zones_and_one_baked_image(platform: Platform) -> None:
    rows = platform.fleet()
    assert len({row["zone"] for row in rows}) == len(rows) == 3
    assert {row["target"] for row in rows} == {"healthy"}
    (image_id,) = {row["image"] for row in rows}
    image = platform.target.client("ec2").describe_images(ImageIds=[image_id])["Images"][0]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert image["OwnerId"] == platform.target.client("sts").get_caller_identity()["Account"]
    assert len(tags["InputsDigest"]) == 64
    assert tags["SourceAMI"].startswith("ami-")


def test_instances_know_themselves_from_imdsv2(platform: Platform) -> None:
    row = platform.fleet()[0]
    url = "http://169.254.169.254/latest"
    without = platform.podman("exec", row["instance"], "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/meta-data/")
    assert without == "401"
    ask = (
        f"t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {url}/api/token); "
        f"for leaf in instance-id placement/availability-zone iam/security-credentials/; do "
        f'curl -s -H "X-aws-ec2-metadata-token: $t" {url}/meta-data/$leaf; echo; done; hostname'
    )
    instance_id, zone, role, host = platform.podman("exec", row["instance"], "sh", "-c", ask).split()
    assert (instance_id, zone) == (row["instance"], row["zone"])
    assert role.startswith("evenkeel")
    assert host == "ip-" + row["address"].replace(".", "-")


def test_the_service_is_confined(platform: Platform) -> None:
    instance = platform.fleet()[0]["instance"]
    for unit in ("signup.service", "signup-outbox.service"):
        shown = platform.podman("exec", instance, "systemctl", "show", unit, "--property=User,ActiveState,MainPID")
        properties = dict(line.split("=", 1) for line in shown.splitlines())
        assert properties["ActiveState"] == "active"
        assert properties["User"] == "signup"
        pid = properties["MainPID"]
        user = platform.podman("exec", instance, "stat", "-c", "%U", f"/proc/{pid}")
        assert user in ("signup", "nobody")
        # What the unit forbids is refused by the kernel, not just written in a file.
        refused = platform.podman(
            "exec",
            instance,
            "sh",
            "-c",
            f"nsenter -t {pid} -m -- touch /usr/forbidden 2>&1 || true; ls /usr/forbidden 2>&1 || true",
        )
        assert "Read-only file system" in refused, refused
        secure = platform.podman("exec", instance, "systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        exposure = float(secure.split(":")[1].split()[0])
        assert exposure <= 1.3, secure


def test_a_killed_instance_is_replaced_and_clients_hardly_notice(platform: Platform) -> None:
    rows = platform.fleet()
    victim = rows[0]
    outcomes: list[tuple[float, int]] = []
    done = threading.Event()

    def load() -> None:
        """About 20 requests a second, at most 6,000, each on a connection of its own."""
        for _ in range(6000):
            if done.is_set():
                return
            began = time.monotonic()
            try:
                code = requests.get(f"{platform.url}/livez", timeout=10).status_code
            except requests.RequestException:
                code = 0
            outcomes.append((began, code))
            time.sleep(0.05)

    client = threading.Thread(target=load)
    client.start()
    try:
        wait_until("some requests before the fault", lambda: len(outcomes) > 40)
        killed = time.monotonic()
        platform.podman("kill", victim["instance"])

        def restored() -> bool:
            now = platform.fleet()
            return (
                victim["instance"] not in {row["instance"] for row in now}
                and len(now) == 3
                and all(row["target"] == "healthy" and row["lifecycle"] == "InService" for row in now)
            )

        wait_until("three healthy instances", restored)
        restored_at = time.monotonic()
    finally:
        done.set()
        client.join()
    assert {row["zone"] for row in platform.fleet()} == {row["zone"] for row in rows}
    before = [code for at, code in outcomes if at < killed]
    assert set(before) == {200}
    # Detection takes two failed checks, five seconds apart, each with two seconds to answer; beyond that nobody may notice.
    window = 2 * 5 + 2 * 2
    late = [(round(at - killed, 1), code) for at, code in outcomes if at > killed + window and code != 200]
    assert not late, f"failures after the detection window: {late}"
    inside = [code for at, code in outcomes if killed <= at <= killed + window]
    assert inside.count(200) >= len(inside) / 2, f"in the detection window: {inside}"
    activities = platform.target.client("autoscaling").describe_scaling_activities(
        AutoScalingGroupName=platform.outputs["autoscaling_group_name"]
    )["Activities"]
    causes = [entry["Cause"] for entry in activities if entry["Description"] == f"Terminating EC2 instance: {victim['instance']}"]
    assert len(causes) == 1
    assert "EC2 instance status check failure" in causes[0] or "ELB system health check failure" in causes[0]
    print(f"replaced and healthy after {restored_at - killed:.1f} s; {len(inside) - inside.count(200)} failed requests")


def test_a_reboot_is_no_loss(platform: Platform) -> None:
    row = platform.fleet()[1]
    platform.podman("exec", row["instance"], "touch", "/run/before-reboot")
    platform.target.client("ec2").reboot_instances(InstanceIds=[row["instance"]])
    look = ("exec", row["instance"], "sh", "-c", "test -e /run/before-reboot || echo gone")
    wait_until("the reboot", lambda: platform.podman(*look, check=False) == "gone")
    # Until its service answers, requests that the load balancer sends there before it has noticed are refused.
    ask = ("exec", row["instance"], "curl", "-fsS", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/healthz")
    wait_until("its service", lambda: platform.podman(*ask, check=False) == "200")
    wait_until("the same instance healthy again", lambda: row in platform.fleet())
