"""The bake: Packer makes an AMI of the service, unless one of the same inputs is there already."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from evenkeel import packages
from evenkeel.host import ROOT
from evenkeel.steps import Failure
from evenkeel.target import Target

DEBIAN_ACCOUNT = "136693071363"
DEBIAN_NAME = "debian-13-amd64-*"


def bake(target: Target, note: Callable[[str], None]) -> str:
    """Returns the id of the AMI for the present inputs, baked now or before. Raises Failure with Packer's own reason."""
    wheels, wheels_digest = packages.wheelhouse()
    ec2 = target.client("ec2")
    bases = ec2.describe_images(Owners=[DEBIAN_ACCOUNT], Filters=[{"Name": "name", "Values": [DEBIAN_NAME]}])["Images"]
    if not bases:
        raise Failure(f"there is no image named {DEBIAN_NAME} of Debian's account {DEBIAN_ACCOUNT} in this region")
    base = max(bases, key=lambda image: image["CreationDate"])["ImageId"]
    inputs = [ROOT / name for name in ("roles", "packer", "playbooks", "ansible.cfg")]
    digest = hashlib.sha256(f"{base} {wheels_digest} {packages.digest(*inputs)}".encode()).hexdigest()
    found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag:InputsDigest", "Values": [digest]}])["Images"]
    found = [image for image in found if image["State"] == "available"]
    if found:
        image_id = str(max(found, key=lambda image: image["CreationDate"])["ImageId"])
        note(f"{image_id} is there")
        return image_id
    manifest = target.state / "manifest.json"
    manifest.unlink(missing_ok=True)
    variables = {
        "commit": _commit(),
        "inputs_digest": digest,
        "manifest_path": str(manifest),
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


def _run(command: list[str], target: Target, log: Path, note: Callable[[str], None]) -> None:
    environment = {
        **target.environment(),
        "PACKER_LOG": "0",
        "CHECKPOINT_DISABLE": "1",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    # Packer finds Ansible on the PATH: it must be the locked one.
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:/usr/bin:{environment['PATH']}"
    reason = ""
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for line in process.stdout or ():
                output.write(line)
                if task := re.search(r"TASK \[(.+?)\]", line):
                    note(task[1])
                elif stage := re.search(r"==> [\w.-]+: (.+)", line):
                    note(stage[1][:70])
                if re.search(r"fatal:|FAILED|Error|error:|errors", line) and not reason:
                    reason = line.strip()[:400]
            status = process.wait()
        except BaseException:
            process.terminate()  # Packer removes its instance, key and security group
            process.wait()
            raise
    if status:
        raise Failure(f"the bake failed: {reason or 'no reason given'} (whole log: {log})")


def _commit() -> str:
    """The commit baked, with `-dirty` when the working tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"
