"""The last gate of a bake, run by Packer: an instance of the new image must serve, or the image goes.

An image that passes gets its scores and the digests of its papers as tags: one without them is none to start from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

from evenkeel.host import ROOT, VENV
from evenkeel.steps import Failure, stop, wait_for

PASSED = {"Gates": "passed"}
LAUNCH_SECONDS = 300
# What a fleet's launch template gives, but for a database of the instance's own and names of nothing.
SETTINGS = {
    "SIGNUP_DATABASE_URL": "postgresql://signup:fresh@127.0.0.1/signup",
    "SIGNUP_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:fresh",
    "SIGNUP_TOKEN_TABLE": "fresh",
    "SIGNUP_PUBLIC_URL": "https://fresh.example.com",
    "AWS_REGION": "us-east-1",
}
# From its boot on, which goes on meanwhile.
DATABASE = ["systemd-run", "--no-block", "--expand-environment=no", "--unit=fresh-database"]
DATABASE += ["--property=RuntimeDirectory=fresh-database", "--property=Type=notify", "--property=NotifyAccess=all"]
DATABASE += [f"--property=TimeoutStartSec={LAUNCH_SECONDS}", "sh", "-c"]


def main() -> None:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("manifest", type=Path, help="Packer's, whose last build is the image")
    read.add_argument("papers", type=Path, help="folder that playbooks/image_audit.yml wrote to")
    read.add_argument("--type", default="t3.small", help="type of the instance")
    read.add_argument("--subnet", default="", help="public subnet; the default one of the account if there is none")
    read.add_argument("--from", dest="sources", nargs="+", required=True, help="addresses of this machine")
    given = read.parse_args()
    manifest = json.loads(given.manifest.read_text())
    (build,) = [each for each in manifest["builds"] if each["packer_run_uuid"] == manifest["last_run_uuid"]]
    region, image_id = build["artifact_id"].split(":")
    ec2: Any = boto3.client("ec2", region_name=region)
    image = ec2.describe_images(ImageIds=[image_id])["Images"][0]
    project = next(tag["Value"] for tag in image["Tags"] if tag["Key"] == "Project")
    try:
        began = time.monotonic()
        with instance(ec2, image, project, given) as (address, key):
            _playbook(address, key, {tag["Key"]: tag["Value"] for tag in image["Tags"]}["ServiceVersion"])
        papers = write_manifest(image, given.papers, round(time.monotonic() - began))
        ec2.create_tags(Resources=[image_id], Tags=[{"Key": key, "Value": value} for key, value in papers.items()])
    except BaseException as error:
        remove(ec2, image)
        if isinstance(error, Failure):
            stop(f"Error: {image_id} is no image to start from, and is removed: {error}")
        raise


@contextmanager
def instance(ec2: Any, image: dict[str, Any], project: str, given: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yields the address of an instance of the image, and the key that opens it; removes it with all that is its own."""
    tags = [{"Key": "Project", "Value": project}, {"Key": "Name", "Value": f"{image['Name']}-fresh"}]
    network: dict[str, Any] = {"DeviceIndex": 0, "AssociatePublicIpAddress": True}
    where = [{"Name": "default-for-az", "Values": ["true"]}]
    if given.subnet:
        where = [{"Name": "subnet-id", "Values": [given.subnet]}]
    subnet = ec2.describe_subnets(Filters=where)["Subnets"][0]
    network["SubnetId"] = subnet["SubnetId"]
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        environment = "".join(f"{name}={value}\n" for name, value in SETTINGS.items())
        file = {"path": "/etc/signup/signup.env", "owner": "root:signup", "permissions": "0640", "content": environment}
        user_data = {
            "ssh_authorized_keys": [key.with_suffix(".pub").read_text().strip()],
            "bootcmd": [[*DATABASE, (ROOT / "evenkeel" / "fresh_database.sh").read_text()]],
            "write_files": [file],
        }
        group = ec2.create_security_group(
            GroupName=f"{image['Name']}-fresh", Description="The last gate of a bake", VpcId=subnet["VpcId"]
        )["GroupId"]
        launched = ""
        try:
            network["Groups"] = [group]
            ranges = [{"CidrIp": source} for source in given.sources]
            ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": ranges}
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
            launched = ec2.run_instances(
                ImageId=image["ImageId"],
                InstanceType=given.type,
                MinCount=1,
                MaxCount=1,
                UserData="#cloud-config\n" + yaml.safe_dump(user_data),
                NetworkInterfaces=[network],
                MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
            )["Instances"][0]["InstanceId"]

            def address() -> str:
                found = ec2.describe_instances(InstanceIds=[launched])["Reservations"][0]["Instances"][0]
                return str(found.get("PublicIpAddress", "")) if found["State"]["Name"] == "running" else ""

            wait_for("an instance of the image", lambda: address() != "", LAUNCH_SECONDS, period=0.2)
            yield address(), key
        finally:
            if launched:
                ec2.terminate_instances(InstanceIds=[launched])
                wait_for("its end", lambda: _state(ec2, launched) == "terminated", LAUNCH_SECONDS, period=0.2)
            ec2.delete_security_group(GroupId=group)


def _state(ec2: Any, instance_id: str) -> str:
    return str(ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]["State"]["Name"])


def _playbook(address: str, key: Path, version: str) -> None:
    command = [str(VENV / "bin" / "ansible-playbook"), f"--inventory={address},", "--user=admin", f"--private-key={key}"]
    command += [f"--extra-vars=signup_version={version}", "playbooks/image_fresh.yml"]
    # As Packer's own: nobody knows this host's key, and it is not worth remembering.
    environment = {
        **os.environ,
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_STRATEGY": "mitogen_linear",
    }
    environment |= {"ANSIBLE_SSH_COMMON_ARGS": "-o UserKnownHostsFile=/dev/null", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    if subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        raise Failure("an instance of it does not become healthy")


def write_manifest(image: dict[str, Any], papers: Path, seconds: int) -> dict[str, str]:
    """Write manifest.json beside the other papers; returns the tags that say the same in short."""
    audit = json.loads((papers / "audit.json").read_text())
    digest = hashlib.sha256((papers / "sbom.cdx.json").read_bytes()).hexdigest()
    own = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    tags = {
        "Kernel": audit["kernel"],
        "PackagesDigest": audit["packages_sha256"],
        "SbomDigest": digest,
        "Lynis": f"{audit['lynis_index']} of 100 by {audit['lynis_tests']} tests of {audit['lynis_version']}",
        "Exposure": " ".join(f"{unit}={score}" for unit, score in audit["exposure"].items()),
        **PASSED,
    }
    manifest = {"image": image["ImageId"], "tags": own | tags, "audit": audit, "fresh_instance_seconds": seconds}
    (papers / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return tags


def remove(ec2: Any, image: dict[str, Any]) -> None:
    """The image and its snapshots."""
    ec2.deregister_image(ImageId=image["ImageId"])
    for mapping in image["BlockDeviceMappings"]:
        if "Ebs" in mapping:
            ec2.delete_snapshot(SnapshotId=mapping["Ebs"]["SnapshotId"])


if __name__ == "__main__":
    main()
