"""`make gates IMAGE=ami-...`: what an image must be before it is rolled out, and the papers that go with it.

The image has tested itself in the bake. What is looked at here is what only AWS knows of it. The papers are a manifest and an
SBOM for each part of the service, in the folder build/release.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from evenkeel.fresh import PASSED
from evenkeel.host import ROOT, VENV
from evenkeel.image import DEBIAN_ACCOUNT
from evenkeel.packages import BUILD
from evenkeel.steps import Failure, stop
from evenkeel.target import Target

PAPERS = BUILD / "release"
# What the image and the Lambda's zip are made of. Their hashes are part of the SBOM.
LOCKS = ("service", "verifier")


def find(target: Target, image_id: str) -> dict[str, Any]:
    """EC2's record of the image. Raises Failure when there is none."""
    if not re.fullmatch(r"ami-[0-9a-z]{8,}", image_id):
        raise Failure(f"IMAGE={image_id} is no image id, such as ami-0123456789abcdef0")
    filters = [{"Name": "image-id", "Values": [image_id]}]
    found = target.client("ec2").describe_images(Owners=["self"], Filters=filters)["Images"]
    if not found:
        raise Failure(f"there is no image {image_id} of this account in this region")
    image: dict[str, Any] = found[0]
    return image


def faults(target: Target, image: dict[str, Any], commit: str) -> Iterator[str]:
    """Why the image may not be rolled out; nothing when it may."""
    tags = tags_of(image)
    if image["State"] != "available":
        yield f"it is {image['State']}, not available"
    if image.get("Public"):
        yield "everybody may launch it"
    for tag in (
        "Project",
        "Commit",
        "ServiceVersion",
        "InputsDigest",
        "SchemaHead",
        "SchemaFloor",
        "SourceAMI",
        "SbomDigest",
        *PASSED,
    ):
        if not tags.get(tag):
            yield f"its tag {tag} is missing"
    # An image of the same inputs may be older than the commit: then they have the same digest, and the commit differs.
    if commit and tags.get("Commit", "").endswith("-dirty"):
        yield f"it was baked from a changed working tree ({tags['Commit']})"
    ec2 = target.client("ec2")
    # By a filter, since Debian may have withdrawn it.
    source = ec2.describe_images(Filters=[{"Name": "image-id", "Values": [tags.get("SourceAMI", "")]}])["Images"]
    if source and source[0]["OwnerId"] != DEBIAN_ACCOUNT:
        yield f"its source {tags['SourceAMI']} belongs to {source[0]['OwnerId']}, not to Debian"
    volumes = [mapping["Ebs"] for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping]
    snapshots = ec2.describe_snapshots(SnapshotIds=[volume["SnapshotId"] for volume in volumes])["Snapshots"]
    if any(snapshot["State"] != "completed" for snapshot in snapshots):
        yield "its snapshot is not complete"
    # A local region keeps no bytes on disks that could be encrypted.
    if target.local is None and not all(snapshot["Encrypted"] for snapshot in snapshots):
        yield "its snapshot is not encrypted"


def tags_of(image: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}


def manifest(target: Target, image: dict[str, Any], commit: str) -> dict[str, Any]:
    tags = tags_of(image)
    return {
        "image": image["ImageId"],
        "name": image["Name"],
        "account": image["OwnerId"],
        "region": target.client("ec2").meta.region_name,
        "created": image["CreationDate"],
        "service_version": tags["ServiceVersion"],
        "released_from": commit or None,
        "baked_from": tags["Commit"],
        "inputs_digest": tags["InputsDigest"],
        "schema_head": tags["SchemaHead"],
        "schema_floor": tags["SchemaFloor"],
        "source_image": tags["SourceAMI"],
        "kernel": tags["Kernel"],
        "packages_digest": tags["PackagesDigest"],
        "sbom_digest": tags["SbomDigest"],
        "scores": {"lynis": tags["Lynis"], "exposure": tags["Exposure"]},
        "snapshots": [mapping["Ebs"]["SnapshotId"] for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping],
    }


def of_bake(target: Target, image: dict[str, Any]) -> dict[str, str]:
    """What the bake wrote of the machine itself: nothing where another machine baked it. Raises Failure when it was changed."""
    folder = target.state / "papers"
    baked = folder / "manifest.json"
    if not baked.exists() or json.loads(baked.read_text())["image"] != image["ImageId"]:
        return {}
    digest = hashlib.sha256((folder / "sbom.cdx.json").read_bytes()).hexdigest()
    if digest != tags_of(image)["SbomDigest"]:
        raise Failure(f"{folder.relative_to(ROOT)}/sbom.cdx.json is not the one that {image['ImageId']} was tagged with")
    names = {"bake.json": baked, **{f"image-{name}": folder / name for name in ("sbom.cdx.json", "sbom.spdx.json")}}
    return {name: path.read_text() for name, path in names.items()}


def sbom(lock: str) -> str:
    """CycloneDX of one lock: every package with the hashes it may have. The same lock gives the same bytes."""
    command = [str(VENV / "bin" / "cyclonedx-py"), "requirements", f"requirements/{lock}.txt"]
    command += ["--output-reproducible", "--spec-version=1.6", "--output-format=JSON"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"no SBOM of requirements/{lock}.txt: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout


def main() -> None:
    commit = os.environ.get("GITHUB_SHA", "")
    try:
        target = Target.from_environment()
        image = find(target, os.environ.get("IMAGE", ""))
        found = list(faults(target, image, commit))
        if found:
            raise Failure(f"{image['ImageId']} may not be rolled out: {'; '.join(found)}")
        PAPERS.mkdir(parents=True, exist_ok=True)
        papers = {f"sbom-{lock}.cdx.json": sbom(lock) for lock in LOCKS}
        papers |= of_bake(target, image)
        papers["manifest.json"] = json.dumps(manifest(target, image, commit), indent=2) + "\n"
        for name, text in papers.items():
            (PAPERS / name).write_text(text)
    except Failure as failure:
        stop(str(failure))
    print(f"{image['ImageId']} may be rolled out; its papers are in {PAPERS.relative_to(ROOT)}: {', '.join(sorted(papers))}")


if __name__ == "__main__":
    main()
