"""SendGrid's API key in Secrets Manager."""

from __future__ import annotations

import boto3

from verifier.aws import CONFIG


class ApiKey:
    """Reads the secret (a plain string) once, and again after `forget`."""

    def __init__(self, secret_arn: str) -> None:
        self._secret_arn = secret_arn
        self._client = boto3.client("secretsmanager", config=CONFIG)
        self._value: str | None = None

    def get(self) -> str:
        """The API key."""
        if self._value is None:
            value = self._client.get_secret_value(SecretId=self._secret_arn).get("SecretString", "").strip()
            if not value:
                raise ValueError("the SendGrid secret is empty: store the API key in it as a plain string")
            self._value = value
        return self._value

    def forget(self) -> None:
        """Read the secret again next time: the key may have been replaced."""
        self._value = None
