"""ECS services that remember whether they rebalance over zones: moto forgets it, and Terraform compares."""

from __future__ import annotations

from typing import Any

from moto.ecs.responses import EC2ContainerServiceResponse

from twin.region.patch import wrap
from twin.region.region import Region


def install(region: Region) -> None:
    for name in ("create_service", "update_service"):

        @wrap(EC2ContainerServiceResponse, name)
        def keep(original: Any, self: Any) -> Any:
            """https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html"""
            answer = original(self)
            service = answer.result["service"]
            wanted = self._get_param("availabilityZoneRebalancing")
            service.availability_zone_rebalancing = wanted or getattr(service, "availability_zone_rebalancing", "DISABLED")
            return answer
