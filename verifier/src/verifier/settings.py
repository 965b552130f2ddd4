"""Settings, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """One or more settings are missing or wrong; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} settings need attention: {' '.join(problems)}")


@dataclass(frozen=True)
class Settings:
    """What the function needs. Times are in seconds."""

    token_table: str
    idempotency_table: str
    mail_table: str
    refused_queue_url: str
    public_url: str
    mail_from: str
    sendgrid_secret_arn: str
    token_lifetime_seconds: int = 600
    sendgrid_host: str = "https://api.sendgrid.com"
    sendgrid_timeout_seconds: float = 8.0
    metrics_namespace: str = "verification"


URL = r"https?://[^\s/?#]+[^\s?#]*"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError, which lists all problems at once."""
    problems: list[str] = []

    def text(name: str, what: str, pattern: str, default: str | None = None) -> str:
        value = environ.get(name, "").strip() or default
        if value is None:
            problems.append(f"{name} is not set: set it to {what}.")
        elif not re.fullmatch(pattern, value):
            problems.append(f"{name} is {value!r}, which is not valid: set it to {what}.")
        return value or ""

    def number(name: str, default: float, low: float, high: float) -> float:
        value = environ.get(name, "").strip() or str(default)
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", value) or not low <= float(value) <= high:
            problems.append(f"{name} is {value!r}: set it to a number of seconds from {low:g} to {high:g}.")
            return default
        return float(value)

    settings = Settings(
        token_table=text("VERIFIER_TOKEN_TABLE", "the name of the DynamoDB token table", r"[\w.-]{3,255}"),
        idempotency_table=text("VERIFIER_IDEMPOTENCY_TABLE", "the name of the DynamoDB idempotency table", r"[\w.-]{3,255}"),
        mail_table=text("VERIFIER_MAIL_TABLE", "the name of the DynamoDB table of mails", r"[\w.-]{3,255}"),
        refused_queue_url=text("VERIFIER_REFUSED_QUEUE_URL", "the URL of the SQS queue of refused messages", URL),
        public_url=text("VERIFIER_PUBLIC_URL", "the service's address, such as https://signup.example.com", URL).rstrip("/"),
        mail_from=text(
            "VERIFIER_MAIL_FROM",
            "the sender, such as hello@example.com or Evenkeel <hello@example.com>",
            r"[^@\s<>]+@[^@\s<>]+|[^<>\r\n]*<[^@\s<>]+@[^@\s<>]+>",
        ),
        sendgrid_secret_arn=text(
            "VERIFIER_SENDGRID_SECRET_ARN",
            "the ARN of the Secrets Manager secret with SendGrid's API key",
            r"arn:[\w-]+:secretsmanager:\S+",
        ),
        token_lifetime_seconds=int(number("VERIFIER_TOKEN_LIFETIME_SECONDS", 600, 60, 86_400)),
        sendgrid_host=text(
            "VERIFIER_SENDGRID_HOST", "SendGrid's address, https://api.sendgrid.com", URL, "https://api.sendgrid.com"
        ).rstrip("/"),
        sendgrid_timeout_seconds=number("VERIFIER_SENDGRID_TIMEOUT_SECONDS", 8, 0.1, 60),
        metrics_namespace=text(
            "VERIFIER_METRICS_NAMESPACE", "the metrics' namespace in CloudWatch", r"[\w./#:-]{1,255}", "verification"
        ),
    )
    if problems:
        raise SettingsError(problems)
    return settings
