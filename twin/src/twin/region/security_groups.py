"""Security group rules that refer to a group and have a description of their own."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule

from twin.region.patch import replace
from twin.region.region import Region


def install(region: Region) -> None:
    def description(self: Any) -> str | None:
        """moto looks into the address range alone."""
        found: str | None = self.ip_range.get("Description") or self.source_group.get("Description")
        return found

    replace(SecurityGroupRule, "description")(property(description))  # type: ignore[arg-type]
