"""The bake: Packer makes an AMI of the service, unless one of the same inputs is there already."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evenkeel import packages
from evenkeel.fresh import PASSED
from evenkeel.host import ROOT, VENV
from evenkeel.steps import Failure
from evenkeel.target import Target

DEBIAN_ACCOUNT = "136693071363"
DEBIAN_NAME = "debian-13-amd64-*"
# Where a bake was cut off before its last gate, its image has no such tag.
GATED = [{"Name": f"tag:{key}", "Values": [value]} for key, value in PASSED.items()]


def inputs_digest(ec2: Any) -> str:
    """What an image of the present sources is known by: its base, the wheels, the roles and what runs them."""
    _, wheels_digest = packages.wheelhouse()
    bases = ec2.describe_images(Owners=[DEBIAN_ACCOUNT], Filters=[{"Name": "name", "Values": [DEBIAN_NAME]}])["Images"]
    if not bases:
        raise Failure(f"there is no image named {DEBIAN_NAME} of Debian's account {DEBIAN_ACCOUNT} in this region")
    base = max(bases, key=lambda image: image["CreationDate"])["ImageId"]
    # Of the roles, what a machine gets, and of the playbooks, those that an image is made with.
    roles = sorted(path for path in (ROOT / "roles").glob("*/*/") if path.is_dir() and path.name != "molecule")
    inputs = [*roles, ROOT / "packer", *sorted((ROOT / "playbooks").rglob("image*.yml")), ROOT / "ansible.cfg"]
    return hashlib.sha256(f"{base} {wheels_digest} {packages.digest(*inputs)}".encode()).hexdigest()


def baked(ec2: Any, digest: str) -> str:
    """The newest AMI of these inputs; "" if there is none."""
    filters = [{"Name": "tag:InputsDigest", "Values": [digest]}, *GATED]
    found = ec2.describe_images(Owners=["self"], Filters=filters)["Images"]
    found = [image for image in found if image["State"] == "available"]
    return str(max(found, key=lambda image: image["CreationDate"])["ImageId"]) if found else ""


def bake(target: Target, note: Callable[[str], None], fresh: bool = False) -> str:
    """Returns the id of the AMI for the present inputs, baked now or before. Raises Failure with Packer's own reason.

    With FRESH=1, or `fresh`, in any case: Debian's packages are no input that can be compared, but an image ages by them.
    """
    wheels, _ = packages.wheelhouse()
    ec2 = target.client("ec2")
    digest = inputs_digest(ec2)
    image_id = baked(ec2, digest)
    if image_id and not fresh and os.environ.get("FRESH") != "1":
        note(f"{image_id} is there")
        return image_id
    schema = packages.schema()
    if target.local:
        _sweep(ec2)
    manifest = target.state / "manifest.json"
    manifest.unlink(missing_ok=True)
    papers = target.state / "papers"
    variables = {
        "commit": _commit(),
        "inputs_digest": digest,
        "manifest_path": str(manifest),
        "papers_path": str(papers),
        "schema_floor": schema["floor"],
        "schema_head": schema["head"],
        "service_version": packages.version("app"),
        "wheelhouse": str(wheels),
    }
    if target.local:
        variables |= {"ec2_endpoint": target.local.endpoint_url, "region": target.local.region}
    command = ["packer", "build", "-color=false", f"-var-file={target.pkrvars}"]
    command += [f"-var={name}={value}" for name, value in variables.items()] + ["packer"]
    log = target.state / "bake.log"
    _run(command, target, log, note)
    artifact = json.loads(manifest.read_text())["builds"][-1]["artifact_id"]
    image_id = str(artifact.split(":")[-1])
    note(image_id)
    return image_id


def newest(target: Target) -> str:
    """The id of the project's newest AMI, for commands that need one and bake none."""
    filters = [{"Name": "tag:Project", "Values": [target.image_project()]}, {"Name": "state", "Values": ["available"]}]
    found = target.client("ec2").describe_images(Owners=["self"], Filters=[*filters, *GATED])["Images"]
    if not found:
        raise Failure(f"there is no image of {target.image_project()} in this region: bake one (`make bake`)")
    return str(max(found, key=lambda image: image["CreationDate"])["ImageId"])


def _sweep(ec2: Any) -> None:
    """Remove what a killed bake left on the local region, which this command alone bakes on."""
    building = [
        {"Name": "tag:Name", "Values": ["*-build", "*-fresh"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]},
    ]
    left = [instance for entry in ec2.describe_instances(Filters=building)["Reservations"] for instance in entry["Instances"]]
    if left:
        ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in left])
    for pair in ec2.describe_key_pairs()["KeyPairs"]:
        if pair["KeyName"].startswith("packer_"):
            ec2.delete_key_pair(KeyName=pair["KeyName"])


def _run(command: list[str], target: Target, log: Path, note: Callable[[str], None]) -> None:
    environment = {**target.environment(), "CHECKPOINT_DISABLE": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    if target.local:
        # Instead of 15: states change fast here. A machine lets in after 1.5 s, and Packer tries again no sooner than 5 s later.
        environment["AWS_POLL_DELAY_SECONDS"] = "2"
    # Packer finds Ansible on the PATH: it must be the locked one.
    environment["PATH"] = f"{VENV / 'bin'}:/usr/bin:{environment['PATH']}"
    reason = Reason()
    # Whatever Packer and Ansible leave beside their results goes with this folder, whose path is short enough for sockets.
    with tempfile.TemporaryDirectory(prefix="evenkeel-") as scratch, log.open("w") as output:
        environment |= dict.fromkeys(("ANSIBLE_HOME", "PACKER_CACHE_DIR", "PACKER_CONFIG_DIR", "TMPDIR"), scratch)
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        began = time.monotonic()
        try:
            for line in process.stdout or ():
                output.write(f"{time.monotonic() - began:7.1f} {line}")  # what takes its time is seen
                reason.read(line)
                if reason.doing:
                    note(reason.doing)
            status = process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)  # Packer removes its instance, key and security group
            process.wait()
            raise
    if status:
        raise Failure(f"the bake failed: {reason} (whole log: {log.relative_to(ROOT)})")


class Reason:
    """Follows Packer's and Ansible's output: what is being done, and what went wrong first."""

    def __init__(self) -> None:
        self.doing = ""
        self._failed_task = ""
        self._words: list[str] = []
        self._going_on = False

    def read(self, line: str) -> None:
        text = re.sub(r"^(==>|\s*) *[\w.-]+(?: \([\w-]+\))?: ", "", line.rstrip())
        if task := re.search(r"TASK \[(.+?)\]", text):
            self.doing = task[1]
        elif line.startswith("==> "):
            self.doing = text[:70]
        if self._going_on and re.match(r" {5}", text):  # long words take several lines
            self._words.append(text.strip())
            return
        self._going_on = False
        if re.search(r"\b(fatal|failed): \[", text) and not self._failed_task:
            self._failed_task = self.doing
        # Of the result itself, not of an item that it is about.
        elif self._failed_task and not self._words and (found := re.match(r" {4}msg: (.+)", text)):
            self._words.append(re.sub(r"^[|>][-+]?$", "", found[1]))
            self._going_on = True
        elif not self._failed_task and not self._words and re.search(r"\b[Ee]rrors?\b", text):
            self._words.append(text.strip())

    def __str__(self) -> str:
        words = " ".join(self._words).replace("''", "'").strip(" '\"")[:400] or "no reason given"
        return f"{self._failed_task}: {words}" if self._failed_task else words


def _commit() -> str:
    """The commit baked, with `-dirty` when the working tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
