"""The release workflow itself, run by act on the region: its jobs, its commands, and the roles that it signs in with.

What GitHub and AWS would do is done by the stand-ins in actions/. The checks are left out: they are what runs this.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from images import GOOD, variant
from support import Platform

from evenkeel import status
from evenkeel.host import ROOT, VENV
from evenkeel.roles import ROLES
from evenkeel.test import SUITES

ACTIONS = ROOT / "tests" / "actions"
NO_CHECKS = """---
name: Checks
on: workflow_call
permissions: {}
jobs:
  none:
    name: None
    runs-on: ubuntu-latest
    steps:
      - run: "true"
"""


@dataclass(frozen=True)
class Pipeline:
    """A repository to release from, and what act needs to run its workflows on the platform."""

    platform: Platform
    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def commit(self) -> str:
        return git(self.repository, "rev-parse", "HEAD")

    def run(self, workflow: str, inputs: dict[str, str], variables: dict[str, str] | None = None) -> tuple[int, str]:
        """Dispatch a workflow; returns its status and its log, which stays in build/pipeline/ too."""
        roles = self.platform.outputs["delivery_role_arns"]
        known = {
            "AWS_REGION": self.platform.local.region,
            "BAKE_ROLE_ARN": roles["bake"],
            "DEPLOY_ROLE_ARN": roles["deploy"],
            **(variables or {}),
        }
        environment = {
            "EVENKEEL_NAME": self.platform.local.name,
            "EVENKEEL_SLOT": str(self.platform.local.slot),
            "PIPELINE_ARTIFACTS": str(self.artifacts),
            "PIPELINE_ROOT": str(ROOT),
            "PIPELINE_SOURCE": str(self.repository),
            # The machine is set up: `make setup` would make the virtual environment anew, for its place in the job's folder.
            "PYTHON": "true",
        }
        command = [str(VENV / "bin" / "act"), "workflow_dispatch", f"--workflows=.github/workflows/{workflow}"]
        command += ["--platform=ubuntu-latest=-self-hosted", "--no-skip-checkout", "--no-cache-server"]
        command += [f"--action-cache-path={self.folder / 'act'}", "--log-prefix-job-id"]
        for option, values in (("input", inputs), ("var", known), ("env", environment)):
            command += [f"--{option}={name}={value}" for name, value in values.items()]
        command += [f"--local-repository={reference}={folder}" for reference, folder in stand_ins().items()]
        # Nothing of the caller's: neither credentials nor settings of act.
        own = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "XDG_CONFIG_HOME": str(self.folder / "none")}
        own |= {
            name: value for name, value in os.environ.items() if name.startswith("TF_CLI_") or "CERT" in name or "CA_" in name
        }
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Job folders hold the credentials that were passed from step to step.
        shutil.rmtree(self.folder / "act", ignore_errors=True)
        log = ROOT / "build" / "pipeline" / f"{Path(workflow).stem}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout)
        return done.returncode, done.stdout


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *own, "-C", str(folder), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stand_ins() -> dict[str, Path]:
    """The folder that replaces each action which the workflows use."""
    used = set()
    for file in (ROOT / ".github").rglob("*.yml"):
        used |= set(re.findall(r"uses: ([\w-]+/[\w-]+@[0-9a-f]{40})\b", file.read_text()))
    return {
        one: ACTIONS / one.split("/")[1].split("@")[0] for one in used if (ACTIONS / one.split("/")[1].split("@")[0]).exists()
    }


@pytest.fixture(scope="module")
def pipeline(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A clone of the working tree, one change ahead, and roles that the operator may assume as GitHub's jobs may."""
    found = Pipeline(platform, tmp_path_factory.mktemp("pipeline"))
    git(ROOT, "clone", "--quiet", "--shared", str(ROOT), str(found.repository))
    git(found.repository, "checkout", "--quiet", "-B", "main")
    for name in git(ROOT, "ls-files", "-co", "--exclude-standard").splitlines():
        target = found.repository / name
        target.unlink(missing_ok=True)
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    (found.repository / ".github" / "workflows" / "checks.yml").write_text(NO_CHECKS)
    with (found.repository / "packer" / "README.md").open("a") as file:
        file.write("A change, so that there is something to release.\n")
    git(found.repository, "add", "--all")
    git(found.repository, "commit", "--quiet", "--message=A change to release")

    iam = platform.target.client("iam")
    names = [arn.rpartition("/")[2] for arn in platform.outputs["delivery_role_arns"].values()]
    trusts = {name: iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"] for name in names}
    operator = platform.target.client("sts").get_caller_identity()["Arn"]
    for name, trust in trusts.items():
        also = {"Effect": "Allow", "Principal": {"AWS": operator}, "Action": "sts:AssumeRole"}
        wider = {**trust, "Statement": [*trust["Statement"], also]}
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(wider))
    yield found
    for name, trust in trusts.items():
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))


def images(platform: Platform) -> set[str]:
    return {row["image"] for row in platform.fleet()}


def test_nobody_but_the_workflows_gets_their_roles(platform: Platform) -> None:
    sts = platform.target.client("sts")
    for arn in platform.outputs["delivery_role_arns"].values():
        with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
            sts.assume_role(RoleArn=arn, RoleSessionName="somebody")


def test_every_action_is_pinned_and_has_a_stand_in() -> None:
    found = [
        (file, line)
        for file in (ROOT / ".github").rglob("*.yml")
        for line in file.read_text().splitlines()
        if "uses:" in line and "uses: ./" not in line
    ]
    assert found
    for file, line in found:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), f"{file.name}: {line}"
    missing = {line.split("uses: ")[1].split("@")[0] for _, line in found} - {one.split("@")[0] for one in stand_ins()}
    assert missing <= {"actions/download-artifact"}  # of pull_request.yml alone


def test_every_suite_is_checked() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    assert workflow["jobs"]["suite"]["strategy"]["matrix"]["suite"] == list(SUITES)


def test_every_role_is_checked() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    folders = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
    assert workflow["jobs"]["molecule"]["strategy"]["matrix"]["role"] == folders == list(ROLES)


@pytest.mark.long
def test_a_release_reaches_staging_and_production(pipeline: Pipeline, platform: Platform) -> None:
    before = images(platform)
    code, log = pipeline.run("release.yml", {"staging_target": "twin", "production_target": "twin", "fresh": "true"})
    assert code == 0, log[-6000:]

    papers = pipeline.artifacts / "release" / "release"
    manifest = json.loads((papers / "manifest.json").read_text())
    assert manifest["released_from"] == pipeline.commit
    assert manifest["baked_from"] == pipeline.commit[:12]
    assert manifest["image"] not in before
    assert images(platform) == {manifest["image"]}
    rows = platform.fleet()
    assert (len(rows), status.healthy(rows), len({row["zone"] for row in rows})) == (3, 3, 3)

    attested = (pipeline.artifacts / "attested.txt").read_text()
    for name in ("manifest.json", "sbom-service.cdx.json", "sbom-verifier.cdx.json"):
        assert f"{hashlib.sha256((papers / name).read_bytes()).hexdigest()}  build/release/{name}" in attested
    sbom = json.loads((papers / "sbom-service.cdx.json").read_text())
    flask = next(part for part in sbom["components"] if part["name"] == "flask")
    assert sbom["bomFormat"] == "CycloneDX"
    assert flask["purl"].startswith("pkg:pypi/flask@")
    assert flask["externalReferences"][0]["hashes"][0]["alg"] == "SHA-256"

    roles = platform.outputs["delivery_role_arns"]
    assert log.count(f"signed in as {roles['bake']}") == 1
    assert log.count(f"signed in as {roles['deploy']}") == 2
    key = json.loads((platform.local.state / "operator.json").read_text())
    assert key["secret_access_key"] not in log


@pytest.mark.long
def test_a_failed_smoke_test_rolls_back(pipeline: Pipeline, platform: Platform) -> None:
    before = images(platform)
    image = variant(platform, GOOD)
    # Nobody answers there.
    unreachable = {"SERVICE_URL": f"http://127.{platform.local.slot}.1.1:9"}
    code, log = pipeline.run("deploy.yml", {"environment": "production", "target": "twin", "image": image}, unreachable)
    assert code != 0
    assert "does not answer" in log
    assert f"Rolling {image}" in log, log[-6000:]
    assert images(platform) == before, log[-6000:]


def sessions(platform: Platform, name: str) -> Callable[[str], Any]:
    """Makes clients with the credentials of one of the roles."""
    arn = platform.outputs["delivery_role_arns"][name]
    key = platform.target.client("sts").assume_role(RoleArn=arn, RoleSessionName="tried")["Credentials"]
    session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], region_name=platform.local.region)
    make: Any = session.client
    return lambda service: make(service, endpoint_url=platform.local.endpoint_url)


def test_the_roles_reach_nothing_else(pipeline: Pipeline, platform: Platform) -> None:
    row = platform.fleet()[0]
    instance, image = row["instance"], row["image"]
    bake, deploy, plan = (sessions(platform, name) for name in ("bake", "deploy", "plan"))
    group = platform.outputs["autoscaling_group_name"]
    launch = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    secret = "evenkeel/sendgrid-api-key"
    subnet = platform.target.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    subnet_id = subnet["AutoScalingGroups"][0]["VPCZoneIdentifier"].split(",")[0]
    attempts: list[tuple[str, Callable[[], Any]]] = [
        ("ec2:RunInstances", lambda: deploy("ec2").run_instances(**launch, SubnetId=subnet_id)),
        ("ec2:TerminateInstances", lambda: deploy("ec2").terminate_instances(InstanceIds=[instance])),
        (
            "autoscaling:UpdateAutoScalingGroup",
            lambda: deploy("autoscaling").update_auto_scaling_group(AutoScalingGroupName=group),
        ),
        ("secretsmanager:GetSecretValue", lambda: deploy("secretsmanager").get_secret_value(SecretId=secret)),
        ("iam:CreateUser", lambda: deploy("iam").create_user(UserName="other")),
        ("ec2:TerminateInstances", lambda: plan("ec2").terminate_instances(InstanceIds=[instance])),
        ("autoscaling:StartInstanceRefresh", lambda: bake("autoscaling").start_instance_refresh(AutoScalingGroupName=group)),
        ("ec2:RunInstances", lambda: bake("ec2").run_instances(**launch)),  # without the project's tag
        ("secretsmanager:GetSecretValue", lambda: plan("secretsmanager").get_secret_value(SecretId=secret)),
        ("s3:PutObject", lambda: plan("s3").put_object(Bucket=state_bucket(platform), Key="evenkeel.tfstate", Body=b"{}")),
    ]
    for action, attempt in attempts:
        with pytest.raises(ClientError, match=action) as denied:
            attempt()
        assert denied.value.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def state_bucket(platform: Platform) -> str:
    account = platform.target.client("sts").get_caller_identity()["Account"]
    return f"evenkeel-terraform-{account}-{platform.local.region}"
