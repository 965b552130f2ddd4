"""Credentials of the role that a workflow names, for its next steps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["PIPELINE_ROOT"])

from evenkeel.local import Local
from evenkeel.target import Target


def main() -> None:
    local = Local.from_environment()
    sts = Target("twin", local).client("sts")
    key = sts.assume_role(
        RoleArn=os.environ["ROLE"],
        RoleSessionName=os.environ["SESSION"],
        DurationSeconds=int(os.environ["SECONDS_VALID"]),
    )["Credentials"]
    for secret in (key["SecretAccessKey"], key["SessionToken"]):
        print(f"::add-mask::{secret}")
    values = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_SESSION_TOKEN": key["SessionToken"],
        "AWS_REGION": os.environ["REGION"],
        "AWS_DEFAULT_REGION": os.environ["REGION"],
        "AWS_ENDPOINT_URL": local.endpoint_url,
    }
    with Path(os.environ["GITHUB_ENV"]).open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    print(f"signed in as {os.environ['ROLE']}")


if __name__ == "__main__":
    main()
