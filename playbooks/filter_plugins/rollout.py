"""What the playbooks reason about releases: pure functions over what AWS describes, in the collection's snake case."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

Record = dict[str, Any]
HISTORY = timedelta(weeks=6)  # for which AWS remembers refreshes
ACTIVE = ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")


def number(source: Any) -> int:
    """The launch template version that a group, an instance or a refresh names; 0 for none and for $Latest or $Default."""
    holder = source.get("desired_configuration") or source
    named = str((holder.get("launch_template") or {}).get("version", ""))
    return int(named) if named.isdigit() else 0


def image_of(version: int, versions: Iterable[Record]) -> str:
    """The image of a launch template version; "" when the version is gone."""
    for entry in versions:
        if entry["version_number"] == version:
            return str(entry["launch_template_data"].get("image_id", ""))
    return ""


def _rest(version: Record) -> Record:
    return {name: value for name, value in version["launch_template_data"].items() if name != "image_id"}


def latest(versions: Iterable[Record]) -> Record:
    """The version that the next one is based on.

    Whoever rolls out copies everything but the image from the highest version there is. So that is either the one that
    Terraform made last, or a copy of it.
    """
    return max(versions, key=lambda entry: int(entry["version_number"]))


def version_for(image_id: str, versions: list[Record]) -> int:
    """The highest version that has this image, and all else as the latest has it; 0 if one is to be made."""
    wanted = _rest(latest(versions))
    same = [entry for entry in versions if entry["launch_template_data"].get("image_id") == image_id and _rest(entry) == wanted]
    return max((int(entry["version_number"]) for entry in same), default=0)


def running(group: Record) -> list[int]:
    """Versions of the group's instances and of the group itself."""
    return sorted({number(entry) for entry in [group, *group.get("instances", [])]} - {0})


def active(refreshes: list[Record]) -> Record:
    """The refresh under way; {} without one."""
    return next((entry for entry in refreshes if entry["status"] in ACTIVE), {})


def previous(group: Record, refreshes: list[Record], versions: list[Record]) -> int:
    """The version that the group ran before its present one; 0 if nobody knows.

    The refreshes that succeeded tell, newest first. Before the first of them ran what the group was made with: the highest
    version of that time. AWS forgets refreshes after six weeks; for an older group it is the highest version below the present
    one that no refresh is known to have failed with.
    """
    there = {int(entry["version_number"]): _time(entry.get("create_time")) for entry in versions}
    now = number(group)
    for entry in refreshes:
        if entry["status"] == "Successful" and number(entry) != now and number(entry) in there:
            return number(entry)
    made = _time(group.get("created_time"))
    if datetime.now(UTC) - made < HISTORY:
        return max((version for version, time in there.items() if time <= made and version != now), default=0)
    failed = {number(entry) for entry in refreshes}
    return max((version for version in there if version < now and version not in failed), default=0)


def _time(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def healthy(group: Record, target_groups: list[Record]) -> list[str]:
    """Instances that are in service, and healthy to the group and to each of its target groups."""
    found = {
        entry["instance_id"]
        for entry in group.get("instances", [])
        if entry["lifecycle_state"] == "InService" and entry["health_status"].lower() == "healthy"
    }
    for target_group in target_groups:
        targets = target_group.get("targets_health_description", [])
        found &= {entry["target"]["id"] for entry in targets if entry["target_health"]["state"] == "healthy"}
    return sorted(found)


def checkpoints(zones: list[str]) -> list[int]:
    """Percentages: one zone's share, then all. Rounded down: of three instances 33 % are one, and 34 % two."""
    return sorted({100 // max(len(zones), 1), 100})


def schema_refusal(image: Record, running_images: list[Record], known_images: list[Record]) -> str:
    """Why the image's schema does not go with what runs and ran; "" if it does.

    A schema is never taken back: the newest that any known image brings counts, even one whose rollout failed. What an older
    release must be able to run on is that schema; what new migrations must not break are the releases that run now.
    """
    own, runs = _schema(image), [_schema(entry) for entry in running_images]
    untold = [entry["image_id"] for entry in [image, *running_images] if _schema(entry) is None]
    if own is None or untold:
        return (
            f"{' and '.join(dict.fromkeys(untold))}: no tags SchemaHead and SchemaFloor, so nobody knows whether the releases "
            "can run on one schema. Bake with the present Packer template, or set deploy_schema_unchecked=true if you know it."
        )
    head, floor = own
    known = [found for found in [*runs, *(_schema(entry) for entry in known_images)] if found]
    newest = max((found[0] for found in known), default=head)
    newest_floor = max((found[1] for found in known), default=floor)
    oldest = min((found[0] for found in runs if found), default=head)
    if head < newest and head < newest_floor:
        return (
            f"{image['image_id']} is older than the running schema: it ends at migration {head}, and a release must know "
            f"{newest_floor} to run on the schema of {newest}. A schema is never taken back: deploy a release with head "
            f"{newest_floor} or later."
        )
    if head >= newest and oldest < floor:
        return (
            f"{image['image_id']}: its migrations break the release that runs now: that one ends at migration {oldest}, and from "
            f"{floor} on can a release run on the schema of {head}. Deploy a release with head >= {floor} first, then this one."
        )
    return ""


def _schema(image: Record) -> tuple[str, str] | None:
    """The newest migration in the image, and the oldest release head that runs on the schema it leaves."""
    tags = image.get("tags") or {}
    head, floor = tags.get("SchemaHead", ""), tags.get("SchemaFloor", "")
    return (head, floor) if head and floor else None


def named(versions: list[Record], refreshes: list[Record], group: Record) -> list[str]:
    """Images that the template's versions, and through them refreshes and instances, name."""
    numbers = {int(entry["version_number"]) for entry in versions} | {number(entry) for entry in refreshes} | set(running(group))
    return sorted({image for one in numbers if (image := image_of(one, versions))})


class FilterModule:
    """Names under which the playbooks find them."""

    def filters(self) -> dict[str, Any]:
        found = (number, image_of, latest, version_for, running, active, previous, healthy, checkpoints, schema_refusal, named)
        return {f"rollout_{function.__name__}": function for function in found}
