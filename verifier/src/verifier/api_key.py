"""SendGrid's API key in Secrets Manager."""

from __future__ import annotations

from aws_lambda_powertools.utilities.parameters import SecretsProvider

from verifier.aws import CONFIG

KEEP_SECONDS = 300


class ApiKeyMissingError(Exception):
    """The secret is empty."""


class ApiKey:
    """The secret, a plain string: read once, and again when it was kept for five minutes."""

    def __init__(self, secret_arn: str) -> None:
        self._secret_arn = secret_arn
        self._provider = SecretsProvider(boto_config=CONFIG)

    def get(self, renew: bool = False) -> str:
        """The API key; `renew` reads it anew, since it may have been replaced. Raises ApiKeyMissingError."""
        value = str(self._provider.get(self._secret_arn, max_age=KEEP_SECONDS, force_fetch=renew) or "").strip()
        if not value:
            self._provider.clear_cache()  # type: ignore[no-untyped-call]
            raise ApiKeyMissingError("the SendGrid secret is empty: store the API key in it as a plain string")
        return value
