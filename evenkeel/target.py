"""Where a command acts: the local region, or AWS with the caller's own credentials.

What differs is environment and one variables file each for Terraform and Packer, named after the target.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenkeel.host import ROOT
from evenkeel.local import Local
from evenkeel.steps import Failure

LOCAL = "twin"


@dataclass(frozen=True)
class Target:
    """`name` is that of terraform/env/NAME.tfvars and packer/env/NAME.pkrvars.hcl."""

    name: str
    local: Local | None

    @classmethod
    def from_environment(cls) -> Target:
        name = os.environ.get("TARGET", LOCAL)
        target = cls(name, Local.from_environment() if name == LOCAL else None)
        if not target.tfvars.exists():
            known = ", ".join(sorted(file.stem for file in target.tfvars.parent.glob("*.tfvars")))
            raise Failure(f"TARGET={name}: there is no {target.tfvars.relative_to(ROOT)}; known are {known}")
        return target

    @property
    def tfvars(self) -> Path:
        return ROOT / "terraform" / "env" / f"{self.name}.tfvars"

    @property
    def pkrvars(self) -> Path:
        return ROOT / "packer" / "env" / f"{self.name}.pkrvars.hcl"

    @property
    def state(self) -> Path:
        """Folder for what tools leave: Terraform's data, manifests, logs."""
        folder = self.local.state if self.local else ROOT / ".state" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def http_port(self) -> int:
        """The load balancer's port in the target's variables."""
        found = re.search(r"^http_port\s*=\s*(\d+)", self.tfvars.read_text(), re.M)
        return int(found[1]) if found else 80

    def project(self) -> str:
        """The project's name in the target's variables: the prefix of its resources' names."""
        found = re.search(r'^name\s*=\s*"([^"]+)"', self.tfvars.read_text(), re.M)
        return found[1] if found else "evenkeel"

    def image_project(self) -> str:
        """The Project tag of its images: another project's, where that one bakes them for both."""
        found = re.search(r'^[^#\n]*\bimage_project\s*=\s*"([^"]+)"', self.tfvars.read_text(), re.M)
        return found[1] if found else self.project()

    def environment(self) -> dict[str, str]:
        return {**os.environ, **(self.local.environment() if self.local else {})}

    def client(self, service: str) -> Any:
        import boto3

        if self.local is None:
            return boto3.client(service)  # type: ignore[call-overload]
        own = self.local.environment()
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=own["AWS_ENDPOINT_URL"],
            region_name=own["AWS_REGION"],
            aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=own.get("AWS_SESSION_TOKEN"),
        )
