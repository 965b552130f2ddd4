"""Limits for calls to AWS."""

from __future__ import annotations

from botocore.config import Config

# boto3's own defaults are 60 s for each, five times: longer than the function runs.
CONFIG = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
