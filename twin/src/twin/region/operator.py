"""The person at the keyboard: an IAM user with administrator rights and an access key.

Terraform, Packer and people act with this key; nothing in the region may be done without one.
"""

from __future__ import annotations

import json
from pathlib import Path

from twin.region.region import Region

USER = "operator"


def credentials_file(state: Path) -> Path:
    return state / "operator.json"


def create(region: Region) -> None:
    """Have the user, and its key in a file that only root reads. A restored region has both: then the same key stays."""
    iam = region.backend("iam")
    file = credentials_file(region.settings.state)
    if USER not in iam.users:
        iam.create_user(region.settings.region, USER)
        iam.attach_user_policy("arn:aws:iam::aws:policy/AdministratorAccess", USER)
    keys = [key for key in iam.users[USER].access_keys if key.status == "Active"]
    key = keys[0] if keys else iam.create_access_key(USER)
    file.touch(mode=0o600)
    file.write_text(json.dumps({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}))
