"""The Lambda function that mints verification tokens and mails them."""

from __future__ import annotations

__version__ = "0.1.0"
