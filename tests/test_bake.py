"""The bake's gates: each fault ends the bake with a line that names it and leaves no image; two bakes give the same files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import NAME, SLOT

from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.target import Target

pytestmark = pytest.mark.long

# What may differ between two images of the same inputs. Everything else is the same, byte for byte.
MAY_DIFFER = (
    r"/etc/(passwd|group|g?shadow)-",  # the state before the last change, with its day
    r"/etc/sudoers\.d/90-cloud-init-users",  # cloud-init's, whose first line says when it was made
    r"/var/log/journal(/.*)?",  # of the builder: another machine's id, no entries
    r"/var/cache/ldconfig/aux-cache",  # inodes and times of libraries
    r"/var/lib/cloud/.*",
)


@pytest.fixture(scope="module")
def region() -> Iterator[Target]:
    """A region with nothing on it but Debian's image."""
    local = Local(NAME, SLOT)
    local.remove()
    local.prepare()
    local.start()
    yield Target("twin", local)
    local.remove()


@dataclass(frozen=True)
class Sources:
    """A copy of the working tree, to be changed, that bakes on the region."""

    folder: Path
    region: Target

    def replace(self, name: str, old: str, new: str) -> None:
        file = self.folder / name
        text = file.read_text()
        assert old in text, f"{name} has no {old!r} to be replaced"
        file.write_text(text.replace(old, new, 1))

    def bake(self) -> subprocess.CompletedProcess[str]:
        folders = [self.folder, *(self.folder / name / "src" for name in ("app", "verifier", "twin"))]
        own = {**os.environ, "EVENKEEL_NAME": NAME, "EVENKEEL_SLOT": str(SLOT), "TARGET": "twin", "FRESH": "1"}
        own["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        command = [sys.executable, "-m", "evenkeel", "bake"]
        return subprocess.run(command, cwd=self.folder, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.fixture
def sources(region: Target, tmp_path: Path) -> Sources:
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    for name in (".venv", ".state"):
        (tmp_path / name).symlink_to(ROOT / name)
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=As it is"]):
        own = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *own, *arguments], cwd=tmp_path, check=True)
    return Sources(tmp_path, region)


def planted(path: str, mode: str) -> str:
    """A task that makes a file."""
    return f"""
- name: Create the folder of a fault
  ansible.builtin.file:
    path: {Path(path).parent}
    state: directory
    mode: "0755"

- name: Plant a fault
  ansible.builtin.copy:
    content: planted
    dest: {path}
    mode: "{mode}"
"""


FAULTS: dict[str, tuple[Callable[[Sources], None], str]] = {
    "a world-writable file": (
        lambda tree: tree.replace("roles/signup/tasks/main.yml", "---\n", f"---{planted('/usr/local/bin/planted', '0666')}\n"),
        "/usr/local/bin/planted",
    ),
    "an authorized_keys": (
        lambda tree: tree.replace(
            "roles/signup/tasks/main.yml", "---\n", f"---{planted('/var/lib/planted/.ssh/authorized_keys', '0600')}\n"
        ),
        "/var/lib/planted/.ssh/authorized_keys",
    ),
    "a unit without sandbox": (
        lambda tree: tree.replace("roles/signup/templates/signup-outbox.service.j2", "{% include 'sandbox.conf.j2' %}", ""),
        "signup-outbox.service is not sandboxed",
    ),
    "a failing health check": (
        lambda tree: tree.replace(
            "app/src/signup/health/routes.py", 'return jsonify(status="healthy")', 'return problem(503, "planted")'
        ),
        "Wait until it says that it is healthy",
    ),
    "a wrong hash in the lock file": (
        lambda tree: tree.replace("requirements/service.txt", "--hash=sha256:", "--hash=sha256:" + 64 * "0" + "  # "),
        "which is not in the lock file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_bake_by_its_name_and_leaves_no_image(sources: Sources, fault: str) -> None:
    plant, words = FAULTS[fault]
    plant(sources)
    ec2 = sources.region.client("ec2")
    before = [each["ImageId"] for each in ec2.describe_images(Owners=["self"])["Images"]]
    done = sources.bake()
    assert done.returncode != 0
    assert words in done.stderr.strip().splitlines()[-1], done.stderr
    assert [each["ImageId"] for each in ec2.describe_images(Owners=["self"])["Images"]] == before
    instances = [each for found in ec2.describe_instances()["Reservations"] for each in found["Instances"]]
    assert {each["State"]["Name"] for each in instances} <= {"terminated", "shutting-down"}
    assert [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]


def test_two_bakes_of_the_same_sources_differ_in_nothing_but_what_is_named(sources: Sources) -> None:
    images = []
    for _ in range(2):
        done = sources.bake()
        assert done.returncode == 0, done.stderr
        images.append(done.stdout.strip().splitlines()[-1])
    records = sources.region.client("ec2").describe_images(ImageIds=images)["Images"]
    tags = [{tag["Key"]: tag["Value"] for tag in record["Tags"]} for record in records]
    for name in ("InputsDigest", "PackagesDigest", "SbomDigest", "Lynis", "Exposure"):
        assert tags[0][name] == tags[1][name] != ""
    sbom = (sources.region.state / "papers" / "sbom.cdx.json").read_bytes()
    assert hashlib.sha256(sbom).hexdigest() == tags[0]["SbomDigest"]
    one, other = (files(sources.region, image) for image in images)
    assert len(one) > 5000
    differing = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    wrong = sorted(name for name in differing if not any(re.fullmatch(each, name) for each in MAY_DIFFER))
    assert wrong == [], [(name, one.get(name), other.get(name)) for name in wrong[:20]]


def files(region: Target, image: str) -> dict[str, tuple[object, ...]]:
    """Each path of the image: its type and mode, its owners, its content."""

    def podman(*arguments: str) -> str:
        return subprocess.run(["podman", *arguments], env=region.environment(), capture_output=True, text=True, check=True).stdout

    name = f"localhost/ami:{image}"
    root = Path(podman("image", "mount", name).strip())
    try:
        found = {}
        for folder, folders, names in os.walk(root):
            for path in (Path(folder) / each for each in [*folders, *names]):
                about = path.lstat()
                content = os.readlink(path) if path.is_symlink() else ""
                if stat.S_ISREG(about.st_mode):
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                found[f"/{path.relative_to(root)}"] = (oct(about.st_mode), about.st_uid, about.st_gid, content)
        return found
    finally:
        podman("image", "unmount", name)
