"""Structured logs and metrics, both on standard output, as Lambda takes them."""

from __future__ import annotations

import logging

from aws_lambda_powertools import Logger, Metrics

SERVICE = "verifier"

# Errors are logged by their names, never with their traces: messages of libraries quote their input.
logger = Logger(service=SERVICE, use_rfc3339=True, utc=True, serialize_stacktrace=False)
# At DEBUG this one logs whole mails and the API key.
logging.getLogger("python_http_client").setLevel(logging.WARNING)

# CloudWatch extracts them from the log (embedded metric format).
metrics = Metrics(namespace="verification", service=SERVICE)

SENT, DUPLICATE, RETRIED, REFUSED, AGE = "MailSent", "MailDuplicate", "MailRetried", "MailRefused", "MailAge"


def count(name: str, value: float = 1, unit: str = "Count") -> None:
    """Add to a metric of this invocation."""
    metrics.add_metric(name=name, unit=unit, value=value)
