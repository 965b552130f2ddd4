"""Terraform on a target: the state bucket, init, plan, apply, destroy, outputs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from evenkeel import packages, webhook
from evenkeel.host import ROOT
from evenkeel.steps import Failure
from evenkeel.target import Target

FOLDER = ROOT / "terraform"
MIRROR = "registry.terraform.io"


class Stack:
    def __init__(self, target: Target, variables: dict[str, str] | None = None) -> None:
        self.target = target
        self.variables = variables or {}
        self.log = target.state / "terraform.log"

    @property
    def bucket(self) -> str:
        """Name of the state bucket: one an account and region."""
        identity = self.target.client("sts").get_caller_identity()
        return f"evenkeel-terraform-{identity['Account']}-{self.target.client('s3').meta.region_name}"

    @property
    def key(self) -> str:
        """The state's key in the bucket: stacks of one account and region have different names."""
        return f"{self.target.project()}.tfstate"

    def init(self) -> None:
        """Make the state bucket if it is missing and initialize the working folder."""
        bucket = self.bucket
        s3 = self.target.client("s3")
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise Failure(f"the state bucket {bucket} can't be used: {error}") from None
            region = s3.meta.region_name
            place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            s3.create_bucket(Bucket=bucket, **place)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
            s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)
        backend = {"bucket": bucket, "key": self.key, "region": s3.meta.region_name, "use_lockfile": "true"}
        flags = [f"-backend-config={name}={value}" for name, value in backend.items()]
        self._run("init", "-input=false", "-reconfigure", *flags)

    def plan(self) -> None:
        """Show on standard output what an apply would change."""
        status = self._terraform(["plan", *self._inputs()], None).wait()
        if status:
            raise SystemExit(status)

    def apply(self, note: Callable[[str], None]) -> None:
        """Bring the stack in line with the configuration. Raises Failure with Terraform's own error."""
        changed = 0
        for message in self._json("apply", "-auto-approve", *self._inputs()):
            if message.get("type") == "apply_start":
                note(f"{changed} resources done, at {message['hook']['resource']['addr']}")
            elif message.get("type") == "apply_complete":
                changed += 1
            elif message.get("type") == "change_summary":
                summary = message["changes"]
                note(f"{summary['add']} added, {summary['change']} changed, {summary['remove']} removed")

    def destroy(self, note: Callable[[str], None]) -> None:
        for message in self._json("destroy", "-auto-approve", *self._inputs()):
            if message.get("type") == "apply_start":
                note(f"removing {message['hook']['resource']['addr']}")

    def outputs(self) -> dict[str, Any]:
        """The root module's outputs; {} when nothing is applied."""
        text = self._run("output", "-json")
        return {name: entry["value"] for name, entry in json.loads(text).items()}

    def _inputs(self) -> list[str]:
        variables = {"verifier_package": str(packages.verifier()), **self.variables}
        if self.target.local:
            variables["mail_events_key"] = webhook.key(self.target.local)
        return [
            "-input=false",
            "-lock-timeout=10m",
            f"-var-file={self.target.tfvars}",
            *(f"-var={name}={value}" for name, value in variables.items()),
        ]

    def _environment(self) -> dict[str, str]:
        environment = {**self.target.environment(), **settings(self.target.state / "terraform")}
        if self.target.local:
            environment.setdefault("TF_VAR_sendgrid_api_key", "SG.local")  # the mail sink takes any
        return environment

    def _terraform(self, arguments: list[str], output: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["terraform", f"-chdir={FOLDER}", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE if output else None,
            text=True,
            # Ctrl-C reaches this process alone, which passes it on once: a second one would make Terraform drop its state.
            start_new_session=bool(output),
        )

    def _run(self, *arguments: str) -> str:
        process = self._terraform(list(arguments), subprocess.PIPE)
        out, error = process.communicate()
        if process.returncode:
            raise Failure(f"terraform {arguments[0]}: {_reason(error or out)}")
        return out

    def _json(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """Run Terraform with its machine-readable log; yields its messages, raises Failure with its first error."""
        process = self._terraform([*arguments, "-json"], subprocess.PIPE)
        failure = ""
        with self.log.open("w") as log:
            try:
                for line in process.stdout or ():
                    log.write(line)
                    message = json.loads(line) if line.startswith("{") else {}
                    if message.get("@level") == "error" and not failure:
                        diagnostic = message.get("diagnostic", {})
                        where = diagnostic.get("address") or diagnostic.get("range", {}).get("filename") or ""
                        words = f"{diagnostic.get('summary', message.get('@message', ''))}: {diagnostic.get('detail', '')}"
                        failure = re.sub(r"\s+", " ", f"{where + ': ' if where else ''}{words}").strip()
                    yield message
                error = process.stderr.read() if process.stderr else ""
                status = process.wait()
            except BaseException:
                process.send_signal(
                    signal.SIGINT
                )  # Terraform stops after the resource at hand, saves its state and releases the lock
                process.wait()
                raise
        if status:
            raise Failure(f"terraform {arguments[0]}: {failure or _reason(error)} (whole log: {self.log})")

    def _runs(self) -> bool:
        """Whether a Terraform with this stack's data folder runs: then the lock is its own."""
        mark = f"TF_DATA_DIR={self._environment()['TF_DATA_DIR']}".encode()
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
        return False

    def unlock(self) -> bool:
        """Release the lock that a killed Terraform left on the local region's state; returns whether there was one.

        On AWS that is a person's decision, and nothing is done.
        """
        if self.target.local is None:
            return False
        s3 = self.target.client("s3")
        key = f"{self.key}.tflock"
        try:
            s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError:
            return False
        if self._runs():
            return False  # an apply whose `make up` was killed goes on: the next one waits for its lock
        s3.delete_object(Bucket=self.bucket, Key=key)
        return True


def settings(data: Path) -> dict[str, str]:
    """Environment for Terraform on this machine, with its working data in `data`."""
    found = {"TF_DATA_DIR": str(data), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    if not Path(os.environ.get("TF_CLI_CONFIG_FILE", "/")).exists():
        found["TF_CLI_CONFIG_FILE"] = os.devnull  # instead of a path to nothing, of which every run would warn
    mirror = _mirror()
    if mirror:
        found["TF_CLI_ARGS_init"] = f"-plugin-dir={mirror}"
    return found


def _mirror() -> Path | None:
    """A filesystem mirror of providers on this machine, where the registry may be out of reach."""
    for prefix in ("/usr/share", "/usr/local", "/opt", "/usr/lib", "/var/lib"):
        for pattern in ("", "*/", "*/*/", "*/*/*/", "*/*/*/*/"):
            for found in Path(prefix).glob(f"{pattern}{MIRROR}"):
                if any(found.glob("hashicorp/aws/*")):
                    return found.parent
    return None


def _reason(text: str) -> str:
    """The first error of Terraform's human-readable output, on one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m|[│╷╵]", "", text)
    match = re.search(r"Error: (.+?)(?:\n\s*\n\s*with |\Z)", plain, re.S)
    return re.sub(r"\s+", " ", match[1] if match else plain).strip()[:600]
