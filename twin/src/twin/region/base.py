"""Debian's own images, as they stand in every region: https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie"""

from __future__ import annotations

from datetime import UTC, datetime

from moto.ec2.models.amis import Ami

from twin.bodies import debian
from twin.region.images import podman_image
from twin.region.region import Region

DEBIAN_ACCOUNT = "136693071363"


def register(region: Region) -> None:
    """Register the base image, whose id follows from its recipe, so that it is the same in every run."""
    digest = debian.digest()
    ami_id = f"ami-{digest[:17]}"
    made = datetime.fromtimestamp(debian.created(region.podman), UTC)
    region.podman.run("tag", debian.IMAGE, podman_image(ami_id))
    region.ec2.amis[ami_id] = Ami(
        region.ec2,
        ami_id,
        name=f"debian-13-amd64-{made:%Y%m%d}-{digest[:4]}",
        description="Debian 13 (trixie)",
        owner_id=DEBIAN_ACCOUNT,
        public=True,
        virtualization_type="hvm",
        architecture="x86_64",
        root_device_type="ebs",
        root_device_name="/dev/xvda",
        hypervisor="xen",
        creation_date=made.replace(tzinfo=None),
    )
