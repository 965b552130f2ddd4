"""The image that databases run from: PostgreSQL from Debian's archive on the Debian 13 base image."""

from __future__ import annotations

import hashlib

from twin.bodies import debian
from twin.bodies.podman import LABEL, Podman

MAJOR = "17"
IMAGE = f"localhost/postgres:{MAJOR}"
RECIPE_LABEL = "twin.postgres.recipe"
VERSION_LABEL = "twin.postgres.version"
# A number of our own, so that the owner of the data does not depend on what else an installation creates.
UID = 5432
PROGRAMS = f"/usr/lib/postgresql/{MAJOR}/bin"
# Folders inside a container.
DATA = "/var/lib/postgresql/data"
TLS = "/var/lib/postgresql/tls"
SETTINGS = "/var/lib/postgresql/settings"
BACKUPS = "/var/lib/postgresql/backups"
SOCKETS = "/tmp"  # noqa: S108 (the container's own)
# The last line of its output is the version, as in 17.6.
RECIPE = f"""\
set -e
groupadd --gid {UID} postgres
useradd --uid {UID} --gid {UID} --home-dir /var/lib/postgresql --no-create-home --shell /bin/sh postgres
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends postgresql-{MAJOR} zstd
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/lib/postgresql/{MAJOR} /etc/postgresql/{MAJOR}
mkdir -p {DATA}
chown {UID}:{UID} {DATA}
{PROGRAMS}/postgres --version | cut -d' ' -f3
"""


def digest() -> str:
    return hashlib.sha256(f"{debian.digest()}\n{RECIPE}".encode()).hexdigest()


def present(podman: Podman) -> bool:
    """Whether the store has the image of this very recipe."""
    return bool(podman.images(f"{RECIPE_LABEL}={digest()}"))


def build(podman: Podman) -> None:
    """Make the image unless the store has it. Raises PodmanError with the reason."""
    if present(podman):
        return
    maker = f"{podman.settings.name}-postgres-image"
    podman.remove(maker)
    label = f"--label={LABEL}={podman.settings.name}"
    try:
        run = ("run", "--interactive", f"--name={maker}", label, "--network=host", debian.IMAGE, "sh")
        version = podman.run(*run, stdin=RECIPE, timeout=900).splitlines()[-1]
        labels = {RECIPE_LABEL: digest(), VERSION_LABEL: version}
        changes = [word for key, value in labels.items() for word in ("--change", f"LABEL {key}={value}")]
        podman.run("commit", "--quiet", *changes, "--change", f"USER {UID}:{UID}", maker, IMAGE)
    finally:
        podman.remove(maker)


def version(podman: Podman) -> str:
    """The server's version, as in 17.6."""
    return podman.run("image", "inspect", f'--format={{{{index .Labels "{VERSION_LABEL}"}}}}', IMAGE)
