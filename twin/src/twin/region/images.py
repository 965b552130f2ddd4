"""Machine images that outlive the twin's process: what the API knows of them, beside their podman images."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from moto.ec2.models.amis import Ami

from twin.region.region import Region


def podman_image(ami_id: str) -> str:
    """Name of the podman image that is the AMI's body."""
    return f"localhost/ami:{ami_id}"


class ImageCatalog:
    """A JSON file of the region's AMIs, rewritten when one comes, goes or is tagged."""

    def __init__(self, region: Region, file: Path) -> None:
        self.region = region
        self.file = file
        self._written = ""

    def load(self) -> None:
        """Register every AMI of the file whose body still exists, unless the records have it."""
        if not self.file.exists():
            return
        ec2 = self.region.ec2
        for entry in json.loads(self.file.read_text()):
            if entry["ami_id"] in ec2.amis or not self.region.podman.image_exists(podman_image(entry["ami_id"])):
                continue
            entry["creation_date"] = datetime.fromisoformat(entry["creation_date"])
            ec2.amis[entry["ami_id"]] = Ami(ec2, **entry)

    def save(self) -> None:
        """Write the file if anything in it changed. Call with the region's lock held."""
        images = self.region.ec2.amis.values()
        text = json.dumps([_entry(image) for image in images if image.state == "available"], indent=2)
        if text != self._written:
            new = self.file.with_suffix(".new")
            new.write_text(text)
            new.replace(self.file)
            self._written = text


def _entry(image: Any) -> dict[str, Any]:
    names = "name description owner_id virtualization_type architecture root_device_type root_device_name hypervisor owner_alias"
    return {
        "ami_id": image.id,
        "public": image.is_public,
        "creation_date": image.creation_date.isoformat(),
        "tags": {tag["key"]: tag["value"] for tag in image.get_tags()},
        **{name: getattr(image, name) for name in names.split()},
    }
