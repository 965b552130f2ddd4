"""Limits for calls to AWS."""

from __future__ import annotations

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

AWS_ERRORS = (BotoCoreError, ClientError)

# boto3's own defaults are 60 s for each, five times: longer than anyone waits.
CONFIG = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
# For what can wait better than whoever does it.
HASTY = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1})


def error_code(error: Exception) -> str:
    """AWS's error code, or the exception's name where there was no answer. Never the message: it may quote input."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__
