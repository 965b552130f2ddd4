"""Access control in the region: the gate, and moto's own checks out of its way."""

from __future__ import annotations

from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3 import models as s3

from twin.access.edge import denied_objects
from twin.access.gate import Gate
from twin.region import sts
from twin.region.patch import replace
from twin.region.region import Region


def install(region: Region) -> None:
    sts.install(region)

    @replace(s3.FakeBucket, "get_permission")
    def get_permission(self: Any, action: str, resource: str) -> Any:
        """moto reads bucket policies without principals and conditions; the gate has decided already."""
        return PermissionResult.DENIED if resource in denied_objects.get() else PermissionResult.PERMITTED

    region.gates.append(Gate(region))
