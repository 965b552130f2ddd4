"""The function's settings."""

from __future__ import annotations

import pytest

from verifier.settings import SettingsError, load_settings

GOOD = {
    "VERIFIER_TOKEN_TABLE": "evenkeel-tokens",
    "VERIFIER_IDEMPOTENCY_TABLE": "evenkeel-idempotency",
    "VERIFIER_MAIL_TABLE": "evenkeel-mail",
    "VERIFIER_REFUSED_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/evenkeel-refused",
    "VERIFIER_PUBLIC_URL": "https://signup.example.com/",
    "VERIFIER_MAIL_FROM": "hello@example.com",
    "VERIFIER_SENDGRID_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:sendgrid-abc",
}


def test_defaults() -> None:
    settings = load_settings(GOOD)
    assert settings.public_url == "https://signup.example.com"
    assert settings.token_lifetime_seconds == 600
    assert settings.sendgrid_host == "https://api.sendgrid.com"
    assert settings.sendgrid_timeout_seconds == 8


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"VERIFIER_TOKEN_LIFETIME_SECONDS": "soon"})
    names = [problem.split()[0] for problem in caught.value.problems]
    assert sorted(names) == sorted([*GOOD, "VERIFIER_TOKEN_LIFETIME_SECONDS"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VERIFIER_MAIL_FROM", "nobody"),
        ("VERIFIER_MAIL_FROM", "a@b.c\nBcc: <d@e.f>"),
        ("VERIFIER_METRICS_NAMESPACE", "a b"),
        ("VERIFIER_PUBLIC_URL", "signup.example.com"),
        ("VERIFIER_REFUSED_QUEUE_URL", "evenkeel-refused"),
        ("VERIFIER_SENDGRID_HOST", "api.sendgrid.com"),
        ("VERIFIER_SENDGRID_SECRET_ARN", "SG.key"),
        ("VERIFIER_SENDGRID_TIMEOUT_SECONDS", "0"),
        ("VERIFIER_TOKEN_LIFETIME_SECONDS", "1e9"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({**GOOD, name: value})
    (problem,) = caught.value.problems
    assert problem.startswith(name + " ")
