"""Parameter groups and subnet groups, as Terraform expects to find them again."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models
from moto.rds.exceptions import DBParameterGroupNotFoundError
from moto.rds.responses import RDSResponse

from twin.region.patch import add, wrap
from twin.region.region import Region


def install(region: Region) -> None:
    @wrap(models.RDSBackend, "modify_db_subnet_group")
    def modify_db_subnet_group(original: Any, self: Any, subnet_name: str, *args: Any, **options: Any) -> Any:
        group = original(self, subnet_name, *args, **options)
        self.subnet_groups[subnet_name] = group  # moto takes it out and forgets to put it back
        return group

    @wrap(models.RDSBackend, "modify_db_parameter_group")
    def modify_db_parameter_group(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        group = original(self, *args, **options)
        region.wake("Databases")
        return group

    @wrap(models.DBParameterGroup, "update_parameters")
    def update_parameters(original: Any, self: Any, new_parameters: Any) -> None:
        original(self, [{"Source": "user", **parameter} for parameter in new_parameters])

    @add(RDSResponse, "reset_db_parameter_group")
    def reset_db_parameter_group(self: Any) -> ActionResult:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ResetDBParameterGroup.html"""
        name = self.params["DBParameterGroupName"]
        group = self.backend.db_parameter_groups.get(name)
        if group is None:
            raise DBParameterGroupNotFoundError(name)
        if self.params.get("ResetAllParameters"):
            group.parameters.clear()
        for parameter in self.params.get("Parameters", []):
            group.parameters.pop(parameter.original_dict()["ParameterName"], None)
        region.wake("Databases")
        return ActionResult({"DBParameterGroupName": name})
