"""Launch templates whose later versions launch, build on one another and can be deleted, and whose own tags stay out of
what they launch.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteLaunchTemplateVersions.html
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend, LaunchTemplateVersion
from moto.ec2.responses import EC2Response
from moto.ec2.utils import parse_user_data

from twin.region.patch import add, replace, wrap
from twin.region.region import Region


def install(region: Region) -> None:
    _install_creation()
    _install_deletion()


def _install_creation() -> None:
    @replace(LaunchTemplate, "create_version")
    def create_version(self: Any, data: dict[str, Any] | None, description: str) -> Any:
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
        # The number of a version that was deleted is not given again.
        number = vars(self).get("last_number", len(self.versions)) + 1
        self.last_number = number
        version = LaunchTemplateVersion(self, number, data, description)
        self.versions.append(version)
        return version

    @wrap(EC2Response, "create_launch_template_version")
    def create_launch_template_version(original: Any, self: Any) -> Any:
        """With a source, what is given overlays the source's parameters, one top-level name at a time."""
        source = self._get_param("SourceVersion")
        if source is None:
            return original(self)
        data = self._get_param("LaunchTemplateData", {}) or {}
        inherited = _template(self).get_version(source).data
        get = self._get_param

        def overlaid(name: str, *default: Any) -> Any:
            return {**inherited, **data} if name == "LaunchTemplateData" else get(name, *default)

        self._get_param = overlaid
        try:
            return original(self)
        finally:
            del self._get_param


def _install_deletion() -> None:
    @replace(LaunchTemplate, "get_version")
    def get_version(self: Any, num: Any) -> Any:
        if str(num).lower() == "$latest":
            return self.versions[-1]
        if str(num).lower() == "$default":
            return self.default_version()
        for version in self.versions:
            if str(version.number) == str(num):
                return version
        raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)

    @replace(LaunchTemplate, "default_version")
    def default_version(self: Any) -> Any:
        return self.get_version(self.default_version_number)

    @wrap(LaunchTemplateBackend, "describe_launch_template_versions")
    def describe_launch_template_versions(
        original: Any,
        self: Any,
        template_name: str,
        template_id: str,
        versions: list[str],
        min_version: int,
        max_version: int,
        max_results: int,
    ) -> Any:
        """All of a template's, where moto shows the first 15 without a token for the rest."""
        if not (template_name or template_id):
            return original(self, template_name, template_id, versions, min_version, max_version, max_results)
        template = self.get_launch_template_by_name(template_name) if template_name else self.get_launch_template(template_id)
        if versions:
            return [(template, template.get_version(version)) for version in versions]
        low, high = int(min_version or 1), int(max_version or template.versions[-1].number)
        return [(template, version) for version in template.versions if low <= version.number <= high]

    @add(EC2Response, "delete_launch_template_versions")
    def delete_launch_template_versions(self: Any) -> Any:
        template = _template(self)
        deleted, kept = [], []
        for number in self._get_param("Versions", []):
            found = next((version for version in template.versions if str(version.number) == str(number)), None)
            entry = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number)}
            if found is None:
                words = f"Could not find launch template version {number}"
                kept.append({**entry, "ResponseError": {"Code": "launchTemplateVersionDoesNotExist", "Message": words}})
            elif template.is_default(found):
                words = "Cannot delete the default version of a launch template."
                kept.append({**entry, "ResponseError": {"Code": "unexpectedError", "Message": words}})
            else:
                template.last_number = max(vars(template).get("last_number", 0), template.versions[-1].number)
                template.versions.remove(found)
                deleted.append(entry)
        return ActionResult(
            {"SuccessfullyDeletedLaunchTemplateVersions": deleted, "UnsuccessfullyDeletedLaunchTemplateVersions": kept}
        )


def _template(response: Any) -> Any:
    name, template_id = response._get_param("LaunchTemplateName"), response._get_param("LaunchTemplateId")
    backend = response.ec2_backend
    return backend.get_launch_template_by_name(name) if name else backend.get_launch_template(template_id)
