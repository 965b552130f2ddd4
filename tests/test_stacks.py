"""Terraform stacks that have nothing to do with the service, on a twin of their own: `python -m twin serve` is all they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import wait_until

from evenkeel.host import ROOT
from evenkeel.stack import settings
from twin.settings import Settings

STACKS = ROOT / "tests" / "stacks"
PORT = 8181
WORDS = "a page that knows nothing of the rest"


@dataclass
class Stack:
    """A folder of Terraform files, worked on in a copy of its own."""

    folder: Path
    environment: dict[str, str]
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "terraform.log"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = ["terraform", f"-chdir={self.folder}", *arguments, "-no-color"]
            return subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(self, *arguments: str) -> None:
        assert self.start(*arguments).wait() == 0, self.log.read_text()[-6000:]

    def output(self, name: str) -> str:
        command = ["terraform", f"-chdir={self.folder}", "output", "-raw", name]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A twin that was never told of any service, and what makes Terraform work on it."""
    state = tmp_path_factory.mktemp("stacks")
    own = Settings(state=state / "twin", store=ROOT / ".state" / "store", name="test-stacks", slot=105)
    own.state.mkdir()
    command = [sys.executable, "-m", "twin", "serve", f"--name={own.name}", f"--slot={own.slot}"]
    with (state / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--state={own.state}", f"--store={own.store}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def ready() -> bool:
        assert process.poll() is None, (state / "log").read_text()
        try:
            with urllib.request.urlopen(f"{own.endpoint_url}/_twin/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    wait_until("the twin", ready)
    key = json.loads((own.state / "operator.json").read_text())
    yield {
        **os.environ,
        "AWS_ENDPOINT_URL": own.endpoint_url,
        "AWS_REGION": own.region,
        "AWS_ACCESS_KEY_ID": key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",  # what fails here fails for good
    }
    process.terminate()
    assert process.wait(timeout=180) == 0


def stack(name: str, environment: dict[str, str], folder: Path, **variables: str) -> Stack:
    work = folder / name
    work.mkdir()
    for file in (STACKS / name).glob("*.tf"):
        (work / file.name).write_text(file.read_text())
    values = {f"TF_VAR_{key}": value for key, value in variables.items()}
    made = Stack(work, {**environment, **settings(work / ".terraform"), **values})
    made.run("init", "-input=false")
    return made


def test_other_stacks_apply_serve_show_no_change_and_go(environment: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "function.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("main.py", "def handle(event, context):\n    return event\n")
    web = stack("web", environment, tmp_path, words=WORDS, port=str(PORT))
    gaps = stack("gaps", environment, tmp_path, package=str(package))

    began = time.monotonic()
    working = [(each, each.start("apply", "-auto-approve", "-input=false")) for each in (web, gaps)]
    for each, process in working:
        assert process.wait() == 0, each.log.read_text()[-6000:]
    print(f"both applied after {time.monotonic() - began:.0f} s")
    with urllib.request.urlopen(web.output("url"), timeout=10) as answer:
        assert answer.read().decode() == WORDS

    for each in (web, gaps):
        process = each.start("plan", "-detailed-exitcode", "-input=false")
        assert process.wait() == 0, f"a second plan is not empty:\n{each.log.read_text()[-6000:]}"

    working = [(each, each.start("destroy", "-auto-approve", "-input=false")) for each in (web, gaps)]
    for each, process in working:
        assert process.wait() == 0, each.log.read_text()[-6000:]
