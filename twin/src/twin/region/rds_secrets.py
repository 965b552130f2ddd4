"""The master user's password: what RDS accepts, and the secret that RDS keeps and rotates.

A rotation makes a pending password; once the server has it, it becomes the secret's current one, so that a client that
reads the secret never gets a password that does not work yet.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
"""

from __future__ import annotations

import json
import time
from typing import Any

from moto.rds import models
from moto.rds.exceptions import RDSClientError
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend

from twin.region.patch import replace, wrap
from twin.region.rds_records import instances, new_password
from twin.region.region import Region

ROTATION_DAYS = 7  # AWS's default for secrets that RDS manages


def check_password(password: str) -> None:
    """Raise what RDS answers to a password it does not take."""
    if not 8 <= len(password) <= 128:
        raise RDSClientError("InvalidParameterValue", "The parameter MasterUserPassword must have 8 to 128 characters.")
    if any(character in "/@\" '" or not " " < character <= "~" for character in password):
        message = "Only printable ASCII characters besides '/', '@', '\"', ' ' may be used."
        raise RDSClientError("InvalidParameterValue", f"The parameter MasterUserPassword is not a valid password. {message}")


def finish_rotation(database: Any) -> None:
    """The server has the pending password: make it the secret's current one. Call with the lock held."""
    secret = database.master_user_secret
    secret.secretsmanager.put_secret_value(secret.secret.arn, secret.pending, None, None, ["AWSCURRENT"])
    secret.pending = None
    secret.secret.last_rotation_date = int(time.time())
    _schedule(secret.secret)


def rotation_is_due(database: Any) -> bool:
    """Whether the managed secret's rotation schedule asks for a new password now."""
    if not database.manage_master_user_password or database.master_user_secret.pending:
        return False
    secret = database.master_user_secret.secret
    return bool(secret.rotation_enabled and secret.next_rotation_date and secret.next_rotation_date <= time.time())


def _schedule(secret: Any) -> None:
    secret.rotation_enabled = True
    secret.auto_rotate_after_days = secret.auto_rotate_after_days or ROTATION_DAYS
    secret.next_rotation_date = int(time.time()) + secret.auto_rotate_after_days * 86400


def install(region: Region) -> None:
    @wrap(models.MasterUserSecret, "__init__")
    def init(original: Any, self: Any, *args: Any, **options: Any) -> None:
        self.pending = None
        original(self, *args, **options)
        self._status = "active"
        _schedule(self.secret)

    @replace(models.MasterUserSecret, "_generate_secret_string")
    def generate(self: Any) -> str:
        return json.dumps({"username": self.resource.master_username, "password": new_password()})

    @replace(models.MasterUserSecret, "rotate_secret")
    def rotate(self: Any) -> None:
        self.pending = self._generate_secret_string()
        region.wake("Databases")

    def status(self: Any) -> str:
        if self.resource.status == "creating":
            return "creating"
        return "rotating" if self.pending else "active"

    replace(models.MasterUserSecret, "secret_status")(property(status))  # type: ignore[arg-type]

    @wrap(SecretsManagerBackend, "rotate_secret")
    def rotate_secret(original: Any, self: Any, secret_id: str, *args: Any, **options: Any) -> Any:
        secret = self.secrets.get(secret_id)
        owner = _owner(region, secret)
        if owner is None:
            return original(self, secret_id, *args, **options)
        if args or options.get("rotation_lambda_arn"):
            words = "You can't use a rotation function with a secret that is managed by rds."
            raise InvalidRequestException(words)
        if owner.status != "available":
            raise InvalidRequestException(f"The DB instance {owner.db_instance_identifier} is {owner.status}.")
        rules = options.get("rotation_rules") or {}
        secret.auto_rotate_after_days = rules.get("AutomaticallyAfterDays") or secret.auto_rotate_after_days
        _schedule(secret)
        if options.get("rotate_immediately") is not False:
            owner.master_user_secret.rotate_secret()
        return secret.to_short_dict()


def _owner(region: Region, secret: Any) -> Any | None:
    """The instance whose master user's secret this is."""
    for database in instances(region):
        if secret is not None and database.manage_master_user_password and database.master_user_secret.secret is secret:
            return database
    return None
