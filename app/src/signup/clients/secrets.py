"""The database's credentials in Secrets Manager."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient


class CredentialsUnavailable(Exception):
    """The secret can't be read, or is not JSON with username and password."""


@dataclass(frozen=True)
class Credentials:
    """A database user and its password."""

    username: str
    password: str = field(repr=False)


class DatabaseCredentials:
    """Reads an RDS secret (JSON with `username` and `password`) once and keeps it until told that it is stale."""

    def __init__(self, secret_arn: str, region: str | None) -> None:
        self._secret_arn = secret_arn
        self._client = LateClient("secretsmanager", region)
        self._lock = threading.Lock()
        self._current: Credentials | None = None

    def get(self, stale: Credentials | None = None) -> Credentials:
        """The credentials; read again only if the kept ones are `stale`. Raises CredentialsUnavailable."""
        with self._lock:
            # Another thread may have read the new ones since this caller was refused.
            if self._current is None or self._current == stale:
                self._current = self._read()
            return self._current

    def _read(self) -> Credentials:
        try:
            answer = self._client().get_secret_value(SecretId=self._secret_arn)
        except AWS_ERRORS as error:
            raise CredentialsUnavailable(f"the database's secret can't be read: {error_code(error)}") from error
        try:
            secret = json.loads(answer["SecretString"])
            return Credentials(str(secret["username"]), str(secret["password"]))
        except (KeyError, TypeError, ValueError):
            # Without the cause: a parser's error quotes the secret.
            raise CredentialsUnavailable("the database's secret is not JSON with username and password") from None
