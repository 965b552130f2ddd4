"""Launch templates whose later versions launch, and whose own tags stay out of what they launch."""

from __future__ import annotations

from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.utils import parse_user_data

from twin.region.patch import wrap
from twin.region.region import Region


def install(region: Region) -> None:
    @wrap(LaunchTemplate, "create_version")
    def create_version(original: Any, self: Any, data: dict[str, Any] | None, description: str) -> Any:
        data = dict(data or {})
        text = data.get("UserData")
        if text is not None and not isinstance(text, Base64EncodedString):
            # CreateLaunchTemplateVersion leaves a plain string, on which moto's own property fails at launch.
            data["UserData"] = parse_user_data(text)
        # TagSpecifications of the request's top level tag the template; moto puts them among those of what it launches.
        specifications = data.pop("TagSpecifications", None) or []
        launched = [entry for entry in specifications if entry.get("ResourceType") != "launch-template"]
        if launched:
            data["TagSpecifications"] = launched
        return original(self, data, description)
