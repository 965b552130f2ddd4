"""Two views of the past: what ran when, as a table, and which images and launch template versions nobody needs any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]
COLUMNS = ("start", "end", "status", "version", "image", "service", "commit", "why")
WHY_CHARACTERS = 100


def releases(refreshes: list[Record], group: Record, versions: list[Record], images: list[Record]) -> list[Record]:
    """One row a refresh, newest first, and one for what the group began with if its version is still there."""
    image_of = {str(entry["version_number"]): entry["launch_template_data"].get("image_id", "") for entry in versions}
    tags_of = {entry["image_id"]: entry.get("tags") or {} for entry in images}
    now = str((group.get("launch_template") or {}).get("version", ""))
    marked = False
    rows = []
    for entry in refreshes:
        version = str((entry.get("desired_configuration") or {}).get("launch_template", {}).get("version", ""))
        status = entry["status"]
        # The latest that put the group on its present version is what runs.
        runs = not marked and status == "Successful" and version == now
        marked = marked or runs
        rollback = entry.get("rollback_details") or {}
        rows.append(
            {
                "start": _time(entry.get("start_time")),
                "end": _time(entry.get("end_time")),
                "status": f"{status} (runs now)" if runs else status,
                "version": version,
                "why": rollback.get("rollback_reason") or ("" if status == "Successful" else entry.get("status_reason") or ""),
            }
        )
    if "1" in image_of:
        first = {"start": _time(group.get("created_time")), "end": "-", "status": "Created", "version": "1", "why": ""}
        rows.append({**first, "status": "Created (runs now)"} if not marked and now == "1" else first)
    for row in rows:
        row["image"] = image_of.get(row["version"], "(gone)") or "-"
        tags = tags_of.get(row["image"], {})
        row |= {"service": tags.get("ServiceVersion", "-"), "commit": tags.get("Commit", "-")}
    return rows


def _time(value: Any) -> str:
    """To the second, in UTC."""
    if not value:
        return "-"
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def table(rows: list[Record]) -> list[str]:
    """Rows as lines with aligned columns."""
    shown = [{name: name.upper() for name in COLUMNS}, *rows]
    cells = [[" ".join(str(row[name]).split())[:WHY_CHARACTERS] for name in COLUMNS] for row in shown]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def versions_to_delete(versions: list[Record], needed: list[int], keep: int) -> list[int]:
    """Versions that are neither needed, nor the default or the latest, nor among the last `keep`."""
    ordered = sorted(int(entry["version_number"]) for entry in versions)
    default = {int(entry["version_number"]) for entry in versions if entry.get("default_version")}
    kept = {*(int(one) for one in needed), *default, *ordered[-max(keep, 1) :]}
    return [one for one in ordered if one not in kept]


def images_to_remove(images: list[Record], versions: list[Record], gone: list[int], keep: int) -> list[str]:
    """Images that no version names which stays, and that are not among the last `keep`; oldest first.

    The one that brought the newest schema stays as well: later releases are checked against it.
    """
    usable = [entry for entry in images if entry.get("state") == "available"]
    ordered = sorted(usable, key=lambda entry: (entry["creation_date"], entry["image_id"]))
    kept = {entry["image_id"] for entry in ordered[-max(keep, 1) :]}
    kept |= {entry["launch_template_data"].get("image_id") for entry in versions if int(entry["version_number"]) not in gone}
    heads = [(entry["tags"]["SchemaHead"], entry["image_id"]) for entry in ordered if (entry.get("tags") or {}).get("SchemaHead")]
    kept |= {image for head, image in heads if head == max(heads)[0]} if not _any(heads, kept) else set()
    return [entry["image_id"] for entry in ordered if entry["image_id"] not in kept]


def _any(heads: list[tuple[str, str]], kept: set[Any]) -> bool:
    """Whether an image that stays has the newest schema already."""
    return any(image in kept for head, image in heads if head == max(heads)[0])


class FilterModule:
    """Names under which the playbooks find them."""

    def filters(self) -> dict[str, Any]:
        return {
            "rollout_releases": releases,
            "rollout_table": table,
            "rollout_versions_to_delete": versions_to_delete,
            "rollout_images_to_remove": images_to_remove,
        }
