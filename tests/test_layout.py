"""House rules that a change could break unnoticed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from evenkeel import docs
from evenkeel.host import ROOT


def tracked(*folders: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *folders], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("folder", [".config", "app", "verifier", "roles", "packer", "playbooks", "terraform"])
def test_only_one_file_of_each_kind_knows_the_twin(folder: str) -> None:
    allowed = {"terraform/env/twin.tfvars", "packer/env/twin.pkrvars.hcl"}
    # The playbooks' own tests run them on a twin.
    files = [file for file in tracked(folder) if file.parent != ROOT / "playbooks" / "tests"]
    assert files
    for file in files:
        name = str(file.relative_to(ROOT))
        if name not in allowed:
            words = r"\b(twin|localstack|169\.254\.171)\b" if "/tests/" in name else r"\b(twin|moto|localstack|169\.254\.171)\b"
            assert not re.search(words, file.read_text(errors="replace"), re.I), name


def test_the_twin_does_not_know_the_service() -> None:
    files = tracked("twin")
    assert files
    for file in files:
        assert not re.search(r"\b(signup|verifier)\b", file.read_text(errors="replace")), file


def test_writer_and_reader_hold_to_the_same_schema() -> None:
    copies = [ROOT / "app/src/signup/outbox/message.schema.json", ROOT / "verifier/src/verifier/message.schema.json"]
    first, second = (copy.read_bytes() for copy in copies)
    assert first == second


def test_every_folder_says_what_lives_there() -> None:
    for folder in ("app", "verifier", "roles", "playbooks", "packer", "terraform", "twin", "tests", "evenkeel", "requirements"):
        readme = ROOT / folder / "README.md"
        assert readme.exists(), folder
        assert len(readme.read_text().splitlines()) <= 20, folder


def test_no_merge_is_half_done() -> None:
    left = [path for path in tracked() if re.search(r"^(<{7}|>{7}) ", path.read_text(errors="replace"), re.MULTILINE)]
    assert left == []


ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_roles_document_every_variable(role: Path) -> None:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"].get("options", {})
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    assert {name: spec["default"] for name, spec in specs.items() if not spec.get("required")} == defaults
    assert all(name.startswith(f"{role.name}_") for name in specs)


def test_written_documentation_says_what_is() -> None:
    assert docs.stale() == [], "run `make docs`"


# Molecule goes on without a playbook that is missing, so that a scenario could check nothing and pass.
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_roles_have_whole_scenarios(role: Path) -> None:
    scenario = role / "molecule" / "default"
    for name in ("molecule", "prepare", "converge", "verify"):
        assert (scenario / f"{name}.yml").exists(), name
    own = yaml.safe_load((scenario / "molecule.yml").read_text())
    assert own == {"scenario": {"name": "default"}}, "what is said here takes the place of what all have in common"
    shared = yaml.safe_load((ROOT / ".config" / "molecule" / "config.yml").read_text())
    steps = shared["scenario"]["test_sequence"]
    assert [step.split(" ")[0] for step in steps] == [
        *("destroy", "syntax", "create", "prepare", "side_effect", "check", "verify"),
        *("converge", "idempotence", "side_effect", "verify", "destroy"),
    ]
    for path in [*shared["ansible"]["playbooks"].values(), *(step.split(" ")[1] for step in steps if " " in step)]:
        assert (scenario / path).exists(), path


def test_the_dashboard_shows_every_metric_of_the_service() -> None:
    code = "".join(file.read_text() for file in tracked("app/src") if file.suffix == ".py")
    written = set(re.findall(r'Metric\("(\w+)"', code))
    dashboard = (ROOT / "terraform" / "modules" / "observability" / "dashboard.tf").read_text()
    shown = set(re.findall(r'local\.service, "(\w+)"', dashboard)) | set(re.findall(r'MetricName=\\"(\w+)\\"', dashboard))
    assert len(written) >= 10
    assert shown == written
