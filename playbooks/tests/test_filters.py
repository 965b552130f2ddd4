"""What the playbooks reason with: schemas, versions, what ran before, what may go."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from evenkeel.host import ROOT


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "playbooks" / "filter_plugins" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rollout, releases = load("rollout"), load("releases")


def image(head: str = "", floor: str = "", name: str = "ami-1", **more: Any) -> dict[str, Any]:
    return {"image_id": name, "tags": {"SchemaHead": head, "SchemaFloor": floor} if head else {}, "state": "available", **more}


def version(
    number: int, image_id: str, user_data: str = "same", default: bool = False, made: str = "2026-01-01"
) -> dict[str, Any]:
    data = {"image_id": image_id, "user_data": user_data}
    return {
        "version_number": number,
        "launch_template_data": data,
        "default_version": default,
        "create_time": f"{made}T00:00:00+00:00",
    }


def refresh(number: int, status: str = "Successful") -> dict[str, Any]:
    return {"status": status, "desired_configuration": {"launch_template": {"version": str(number)}}}


def group(number: int, *instances: int) -> dict[str, Any]:
    found = [{"launch_template": {"version": str(one)}} for one in instances or (number,)]
    return {"launch_template": {"version": str(number)}, "instances": found, "created_time": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("new", "running", "known", "words"),
    [
        (("0003", "0001"), [("0003", "0001")], [], ""),
        (("0004", "0003"), [("0003", "0001")], [], ""),
        (("0004", "0004"), [("0003", "0001")], [], "its migrations break the release that runs now"),
        (("0002", "0001"), [("0003", "0002")], [], ""),
        (("0002", "0001"), [("0003", "0003")], [], "is older than the running schema"),
        # What was ever deployed counts, whether it runs or not.
        (("0002", "0001"), [("0002", "0001")], [("0004", "0003")], "is older than the running schema"),
        (("0003", "0001"), [("0002", "0001")], [("0004", "0003")], ""),
        # New migrations are measured by the oldest release that runs, not by the newest that ever ran.
        (("0005", "0004"), [("0003", "0001")], [("0004", "0003")], "its migrations break the release that runs now"),
        (("0005", "0004"), [("0004", "0001"), ("0003", "0001")], [], "ends at migration 0003"),
        (("", ""), [("0003", "0001")], [], "no tags SchemaHead and SchemaFloor"),
        (("0003", "0001"), [("", "")], [], "no tags SchemaHead and SchemaFloor"),
        # An image that ran before there were tags says nothing.
        (("0003", "0001"), [("0003", "0001")], [("", "")], ""),
    ],
)
def test_the_schema_rule(new: tuple[str, str], running: list[tuple[str, str]], known: list[tuple[str, str]], words: str) -> None:
    found = rollout.schema_refusal(image(*new), [image(*one) for one in running], [image(*one) for one in known])
    assert (words in found) if words else found == ""


def test_a_version_is_reused_when_all_but_the_image_is_as_in_the_latest() -> None:
    versions = [version(1, "ami-1"), version(2, "ami-2"), version(3, "ami-1", "changed")]
    assert rollout.version_for("ami-1", versions) == 3
    assert rollout.version_for("ami-2", versions) == 0, "the latest user data belongs to what is deployed next"
    assert rollout.version_for("ami-2", versions[:2]) == 2


def test_what_ran_before() -> None:
    versions = [version(number, f"ami-{number}") for number in (1, 2, 3, 4)]
    assert rollout.previous(group(1), [], versions[:1]) == 0
    assert rollout.previous(group(3), [refresh(3), refresh(2)], versions) == 2
    assert rollout.previous(group(2), [refresh(3, "RollbackSuccessful"), refresh(2)], versions) == 1
    assert rollout.previous(group(2), [refresh(2), refresh(3), refresh(2)], versions) == 3, (
        "after a rollback, what was rolled back"
    )
    assert rollout.previous(group(3), [refresh(3), refresh(2)], [versions[0], versions[2]]) == 1, "one that is still there"


def test_what_ran_before_the_first_rollout() -> None:
    """What the group was made with, and not a version that was made later and never ran."""
    versions = [version(1, "ami-1"), version(2, "ami-2", made="2099-01-02"), version(3, "ami-3", made="2099-01-03")]
    young = {**group(3), "created_time": "2099-01-01T00:00:00+00:00"}
    assert rollout.previous(young, [refresh(3)], versions) == 1
    assert rollout.previous(group(3), [], versions) == 2, "AWS has forgotten what an old group ran"
    assert rollout.previous(group(3), [refresh(2, "Failed")], versions) == 1


def test_what_runs_already_needs_no_rollout() -> None:
    assert rollout.running(group(2, 2, 2)) == [2]
    assert rollout.running(group(2, 1, 2)) == [1, 2]
    assert rollout.number({"launch_template": {"version": "$Latest"}}) == 0


def test_old_versions_go_and_needed_ones_stay() -> None:
    versions = [version(number, f"ami-{number}", default=number == 2) for number in range(1, 10)]
    assert releases.versions_to_delete(versions, [4], 3) == [1, 3, 5, 6]
    assert releases.versions_to_delete(versions, [], 0) == [1, 3, 4, 5, 6, 7, 8], "the latest stays in any case"


def test_old_images_go_and_needed_ones_stay() -> None:
    images = [image(f"000{number}", "0001", f"ami-{number}", creation_date=f"2026-01-0{number}") for number in range(1, 8)]
    versions = [version(2, "ami-2"), version(3, "ami-3")]
    assert releases.images_to_remove(images, versions, [3], 2) == ["ami-1", "ami-3", "ami-4", "ami-5"]
    images[0]["tags"]["SchemaHead"] = "0009"
    assert "ami-1" not in releases.images_to_remove(images, versions, [3], 2), "it brought the newest schema"
    assert releases.images_to_remove([], versions, [], 2) == []


def test_the_table_of_releases() -> None:
    refreshes = [
        {**refresh(3, "RollbackSuccessful"), "start_time": "2026-01-02T10:00:00+00:00", "end_time": "2026-01-02T10:05:00+00:00",
         "rollback_details": {"rollback_reason": "Rollback initiated automatically: an alarm"}},
        {**refresh(2), "start_time": "2026-01-01T10:00:00+00:00", "end_time": "2026-01-01T10:05:00+00:00"},
    ]  # fmt: skip
    versions = [version(1, "ami-1"), version(2, "ami-2")]
    tagged = {"image_id": "ami-2", "tags": {"ServiceVersion": "1.2.0", "Commit": "abc"}}
    rows = releases.releases(refreshes, {**group(2), "created_time": "2025-12-31T00:00:00+00:00"}, versions, [tagged])
    assert [(row["status"], row["image"], row["service"]) for row in rows] == [
        ("RollbackSuccessful", "(gone)", "-"),
        ("Successful (runs now)", "ami-2", "1.2.0"),
        ("Created", "ami-1", "-"),
    ]
    lines = releases.table(rows)
    assert lines[0].split() == ["START", "END", "STATUS", "VERSION", "IMAGE", "SERVICE", "COMMIT", "WHY"]
    assert lines[1].endswith("an alarm")
    assert len({line.index(word) for line, word in zip(lines[1:], ("(gone)", "ami-2", "ami-1"), strict=True)}) == 1
