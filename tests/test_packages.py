"""The Lambda's package: reproducible, complete, and without what the runtime has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evenkeel import packages
from evenkeel.host import ROOT
from evenkeel.steps import Failure

# As it is loaded by the first invocation: the handler, then what its services need.
LOADS = """
import json, os, sys
import boto3
runtime = set(sys.modules)
from verifier.handler import handle, services
services()
packages = os.path.dirname(os.path.dirname(boto3.__file__))
sources = sys.argv[1]
files = {str(getattr(module, "__file__", None) or "") for name, module in sys.modules.items() if name not in runtime}
print(json.dumps(sorted(
    os.path.relpath(file, root) for file in files for root in (packages, sources) if file.startswith(root + os.sep)
)))
"""


def test_two_builds_are_equal(tmp_path: Path) -> None:
    first = packages.verifier().read_bytes()
    tree, archive = tmp_path / "elsewhere", tmp_path / "second.zip"
    tree.mkdir()
    umask = os.umask(0o077)
    try:
        packages.pack_verifier(tree, archive)
    finally:
        os.umask(umask)
    assert archive.read_bytes() == first
    # Direct uploads end at 50 MB, and every cold start reads it all.
    assert len(first) < 7_000_000


def test_a_wrong_hash_is_told_by_the_package_that_has_it(tmp_path: Path) -> None:
    lines = (ROOT / "requirements" / "service.txt").read_text().splitlines()
    pin = next(line.split()[0] for line in lines if line.startswith("blinker=="))
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{pin} --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}\n")
    with pytest.raises(Failure) as caught:
        packages.pip("download", "--no-deps", "--requirement", str(lock), "--dest", str(tmp_path))
    assert re.fullmatch(rf"pip download: {pin} has the SHA-256 [0-9a-f]{{64}}, which is not in the lock file", str(caught.value))


def test_the_package_has_what_the_function_loads_and_not_what_the_runtime_has() -> None:
    with zipfile.ZipFile(packages.verifier()) as archive:
        names = set(archive.namelist())
        assert {entry.date_time for entry in archive.infolist()} == {packages.EPOCH}
    sources = ROOT / "verifier" / "src"
    settings = {
        "VERIFIER_TOKEN_TABLE": "tokens",
        "VERIFIER_IDEMPOTENCY_TABLE": "idempotency",
        "VERIFIER_MAIL_TABLE": "mail",
        "VERIFIER_REFUSED_QUEUE_URL": "http://127.0.0.1/refused",
        "VERIFIER_PUBLIC_URL": "http://127.0.0.1",
        "VERIFIER_MAIL_FROM": "hello@example.com",
        "VERIFIER_SENDGRID_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:sendgrid",
    }
    environment = {**os.environ, **settings, "PYTHONPATH": str(sources), "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(sources)], env=environment, capture_output=True, text=True, check=True
    )
    # Compiled modules are named after their Python, and this machine's may be another. jsonschema takes up checkers of formats
    # that it finds; this machine's tools brought them, and the schema uses none.
    loaded = {name.split(".cpython-")[0].removesuffix(".py") for name in json.loads(done.stdout)}
    shipped = {name.split(".cpython-")[0].removesuffix(".py") for name in names}
    missing = {name for name in loaded - shipped if name.split("/")[0] in {entry.split("/")[0] for entry in shipped}}
    assert not missing
    for package in ("verifier", "sendgrid", "aws_lambda_powertools", "jsonschema", "rpds", "cryptography"):
        assert any(name.startswith(f"{package}/") for name in loaded & shipped), package
    for package in ("boto3", "botocore", "jmespath", "s3transfer", "urllib3", "dateutil", "six"):
        assert not any(name.split("/")[0] == package for name in names), package
