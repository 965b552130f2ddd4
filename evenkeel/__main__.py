"""The Makefile's commands: `python -m evenkeel up|down|status|env|bake|plan|deploy|rollback|releases|redrive|mail`."""

from __future__ import annotations

import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from evenkeel import host, image, packages, playbook, status, webhook
from evenkeel.stack import Stack
from evenkeel.steps import Failure, Steps, stop, wait_for
from evenkeel.target import Target

TRY = """curl -i {url}/v1/user -H 'Content-Type: application/json' \\
  -d '{{"first_name":"Ada","last_name":"Lovelace","email":"ada@example.com","password":"correct horse battery"}}'"""

# An image that can't serve does not get better: the time of some replacements.
HEALTHY_SECONDS = 600


def up(target: Target) -> None:
    """Bring the whole platform up on the local region; what is there already stays as it is."""
    local = target.local
    if local is None:
        raise Failure(
            "`make up` runs the platform on this machine; for AWS use `make bake plan` and terraform apply (docs/operations.md)"
        )
    steps = Steps(6)
    with local.locked():
        local.check_port(target.http_port())
        with steps.step("Machine images: Debian 13, PostgreSQL 17, the Lambda runtime"):
            local.prepare()
        with steps.step("The twin, an AWS region on this machine") as note:
            note("started" if local.start() else "runs already")
        with steps.step("Packages: the service's wheels, the verifier's zip"):
            packages.wheelhouse()
            packages.verifier()
        with steps.step("Image: Packer and Ansible") as note:
            image_id = image.bake(target, note)
        stack = Stack(target, {"image_id": image_id})
        with steps.step("Infrastructure: Terraform") as note:
            _apply(stack, note)
            outputs = stack.outputs()
            webhook.point(local, outputs["service_url"])
        with steps.step("Service: every instance healthy at the load balancer") as note:
            _await_service(target, outputs, note)
    print(f"\nUp after {steps.elapsed:.0f} s.\n\n{status.show(target, outputs)}\n")
    running = {row["image"] for row in status.fleet(target, outputs["autoscaling_group_name"])}
    if running - {image_id}:
        print(f"The fleet runs {', '.join(sorted(running))}; {image_id} is newer. `make deploy` rolls it out.\n")
    print(f"Try it:\n{TRY.format(url=outputs['service_url'])}\nthen read the mail at {local.mail_url} and open its link.")
    print('For your own tools: eval "$(make -s env)"      To end: make down')


def _apply(stack: Stack, note: Callable[[str], None]) -> None:
    """Apply; where a killed Terraform left resources that its state does not know, start the region anew first."""
    stack.init()
    killed = stack.unlock()
    try:
        stack.apply(note)
    except Failure:
        local = stack.target.local
        if not killed or local is None:
            raise
        note("a killed Terraform left an incomplete state; starting anew")
        local.remove()
        local.start()
        stack.variables["image_id"] = image.bake(stack.target, lambda _: None)
        stack.init()
        stack.apply(note)


def _await_service(target: Target, outputs: dict[str, Any], note: Callable[[str], None]) -> None:
    """Wait until the desired number of instances is healthy and the service answers."""
    group = outputs["autoscaling_group_name"]
    client = target.client("autoscaling")
    rows: list[dict[str, str]] = []

    def ready() -> bool:
        nonlocal rows
        desired = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"][0]["DesiredCapacity"]
        rows = status.fleet(target, group)
        note(f"{status.healthy(rows)} of {desired} healthy")
        return status.healthy(rows) >= desired and len(rows) == desired and _answers(f"{outputs['service_url']}/healthz")

    try:
        wait_for("a healthy fleet", ready, HEALTHY_SECONDS)
    except Failure as failure:
        reasons = "\n".join([status.table(rows), *status.troubles(target, group)])
        raise Failure(f"{failure}; `make up` again goes on waiting. The fleet now:\n{reasons}") from None
    note(f"{len(rows)} instances in {len({row['zone'] for row in rows})} zones")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def down(target: Target) -> None:
    """Remove the local region and all it has on this machine; baked images are kept for the next time."""
    if target.local is None:
        raise Failure("`make down` is for the local region; on AWS: terraform destroy (docs/operations.md)")
    began = time.monotonic()
    with target.local.locked():
        target.local.remove()
    took = time.monotonic() - began
    print(f"Down after {took:.0f} s: no container, network, rule or process is left. Images are kept in .state/.")


def show_status(target: Target) -> None:
    outputs = Stack(target).outputs()
    if not outputs:
        raise Failure("nothing is applied here yet: run `make up`")
    print(status.show(target, outputs))


def env(target: Target) -> None:
    """Shell lines that let any tool work on the running region."""
    if target.local is None:
        raise Failure("on AWS your own environment is the right one")
    values = target.local.environment()
    outputs = Stack(target).outputs()
    values |= {"SERVICE_URL": outputs.get("service_url", ""), "MAIL_SINK_URL": target.local.mail_url}
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")


def bake(target: Target) -> None:
    steps = Steps(1)
    with steps.step("Image: Packer and Ansible") as note:
        image_id = image.bake(target, note)
    print(image_id)


def plan(target: Target) -> None:
    """What Terraform would change now. On AWS the newest image stands for the one to be baked: a plan makes nothing."""
    stack = Stack(target, {"image_id": image.bake(target, lambda _: None) if target.local else image.newest(target)})
    stack.init()
    stack.plan()


def deploy(target: Target) -> None:
    """Roll out IMAGE, or the image of the present sources, or else the newest that was baked from this commit."""
    image_id = os.environ.get("IMAGE", "")
    if not image_id:
        ec2 = target.client("ec2")
        image_id = image.baked(ec2, image.inputs_digest(ec2))
    playbook.run(target, "deploy", {"deploy_image_id": image_id})


def rollback(target: Target) -> None:
    playbook.run(target, "rollback")


def releases(target: Target) -> None:
    playbook.run(target, "releases")


def redrive(target: Target) -> None:
    """Publish again what the verification side channel gave up; QUEUE=refused: what was refused."""
    playbook.run(target, "redrive", {"redrive_queue": os.environ.get("QUEUE", "dead-letter")})


def mail(target: Target) -> None:
    """Tell what became of the verification mails to EMAIL."""
    if not os.environ.get("EMAIL"):
        raise Failure("say whose mails: make mail EMAIL=ada@example.com")
    playbook.run(target, "mail_status", {"email": os.environ["EMAIL"]})


COMMANDS = {
    "up": up,
    "down": down,
    "status": show_status,
    "env": env,
    "bake": bake,
    "plan": plan,
    "deploy": deploy,
    "rollback": rollback,
    "releases": releases,
    "redrive": redrive,
    "mail": mail,
}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        stop(f"usage: python -m evenkeel {'|'.join(COMMANDS)}")
    try:
        host.check_machine()
        target = Target.from_environment()
        COMMANDS[sys.argv[1]](target)
    except Failure as failure:
        stop(str(failure))
    except KeyboardInterrupt:
        stop("interrupted; run the same command again to go on from here")


if __name__ == "__main__":
    main()
