"""The person at the keyboard: an IAM user with administrator rights and an access key, made anew with each region."""

from __future__ import annotations

import json
from pathlib import Path

from twin.region.region import Region

USER = "operator"


def credentials_file(state: Path) -> Path:
    return state / "operator.json"


def create(region: Region) -> None:
    """Create the user and write its key to a file that only root reads."""
    iam = region.backend("iam")
    iam.create_user(region.settings.region, USER)
    iam.attach_user_policy("arn:aws:iam::aws:policy/AdministratorAccess", USER)
    key = iam.create_access_key(USER)
    file = credentials_file(region.settings.state)
    file.touch(mode=0o600)
    file.write_text(json.dumps({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}))
