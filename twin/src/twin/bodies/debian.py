"""The Debian 13 machine that stands in for Debian's own AMI: made by mmdebstrap, kept as a podman image.

Like the AMI it has systemd, sshd, sudo, python3 and cloud-init with the Ec2 datasource and the user `admin`.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

from twin.bodies.podman import Podman, PodmanError

SUITE = "trixie"
IMAGE = "localhost/debian:13"
RECIPE_LABEL = "twin.recipe"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "sudo",
    "openssh-server",
    "iproute2",
    "ca-certificates",
    "cloud-init",
    "procps",
    "curl",
    "netbase",
    "tzdata",
    "less",
)
# What a container can't find out by itself: that this is EC2 (its firmware says so on AWS), and that its interface,
# given from outside, needs no DHCP.
CLOUD_CFG = """\
datasource_list: [Ec2]
datasource:
  Ec2:
    strict_id: false
    metadata_urls: ["http://169.254.169.254"]
    max_wait: 60
    timeout: 5
network:
  config: disabled
system_info:
  default_user:
    name: admin
    gecos: Debian
    groups: [adm, sudo]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
"""

# cloud-init asks for IMDSv2 tokens only where the firmware says EC2, and a container has none.
IMDS_PATCH = (
    "file=$1/usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py; "
    r"sed -i 's/^\(IDMSV2_SUPPORTED_CLOUD_PLATFORMS = .CloudNames.AWS\)]/\1, CloudNames.UNKNOWN]/' $file && "
    "grep -q '^IDMSV2_SUPPORTED_CLOUD_PLATFORMS.*UNKNOWN' $file"
)


def digest() -> str:
    return hashlib.sha256("\n".join([SUITE, *PACKAGES, CLOUD_CFG, IMDS_PATCH]).encode()).hexdigest()


def present(podman: Podman) -> bool:
    """Whether the store has the image of this very recipe."""
    return bool(podman.images(f"{RECIPE_LABEL}={digest()}"))


def created(podman: Podman) -> float:
    """When the image was made, in seconds since the epoch."""
    images = podman.run("image", "inspect", "--format={{.Created.Unix}}", IMAGE)
    return float(images.splitlines()[0])


def build(podman: Podman, log: Path) -> None:
    """Make the image unless the store has it. mmdebstrap's output goes to `log`; raises PodmanError naming it."""
    podman.configure()
    if present(podman):
        return
    with tempfile.TemporaryDirectory(dir=podman.settings.store) as folder:
        config = Path(folder) / "90_ec2.cfg"
        config.write_text(CLOUD_CFG)
        rootfs = Path(folder) / "rootfs.tar"
        command = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            f"--customize-hook=copy-in {config} /etc/cloud/cloud.cfg.d",
            f"--customize-hook={IMDS_PATCH}",
            # One sshd host key per machine, and one machine-id: cloud-init and systemd make them at first boot.
            "--customize-hook=rm -f $1/etc/ssh/ssh_host_*",
            "--customize-hook=echo uninitialized > $1/etc/machine-id",
            SUITE,
            str(rootfs),
        ]
        with log.open("w") as output:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise PodmanError(f"mmdebstrap failed (exit {done.returncode}): the reason is at the end of {log}")
        podman.run("import", "--change", 'CMD ["/sbin/init"]', "--change", f"LABEL {RECIPE_LABEL}={digest()}", str(rootfs), IMAGE)
