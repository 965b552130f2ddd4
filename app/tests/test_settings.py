"""Settings."""

from __future__ import annotations

import pytest

from signup.settings import Rates, SettingsError, cores, load_drain_settings, load_migration_settings, load_settings

GOOD = {
    "SIGNUP_DATABASE_HOST": "db.example.com",
    "SIGNUP_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-1-abc",
    "SIGNUP_TOPIC_ARN": "arn:aws:sns:us-east-1:111122223333:evenkeel-verification",
    "SIGNUP_TOKEN_TABLE": "evenkeel-tokens",
    "SIGNUP_PUBLIC_URL": "https://signup.example.com/",
    "AWS_REGION": "us-east-1",
}


def problems(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment)
    return caught.value.problems


def test_good_settings() -> None:
    settings = load_settings(GOOD)
    assert settings.database.port == 5432
    assert settings.database.name == "signup"
    assert settings.database.sslmode == "require"
    assert settings.public_url == "https://signup.example.com"
    assert settings.password_min_length == 15
    assert settings.workers * settings.hash_slots <= cores()
    assert (settings.picture_bucket, settings.mail_table) == (None, None)
    named = load_settings({**GOOD, "SIGNUP_PICTURE_BUCKET": "evenkeel.pictures-1", "SIGNUP_MAIL_TABLE": "evenkeel_mail"})
    assert (named.picture_bucket, named.mail_table) == ("evenkeel.pictures-1", "evenkeel_mail")
    assert load_migration_settings(GOOD).wait_seconds == 300


def test_a_url_replaces_host_and_secret() -> None:
    rest = {name: value for name, value in GOOD.items() if not name.startswith("SIGNUP_DATABASE")}
    settings = load_settings({**rest, "SIGNUP_DATABASE_URL": "postgresql://u:hush@h/n"})
    assert settings.database.url == "postgresql://u:hush@h/n"
    assert "hush" not in repr(settings)


def test_all_problems_are_listed_at_once() -> None:
    found = problems({"SIGNUP_PORT": "http", "SIGNUP_LOG_LEVEL": "LOUD"})
    names = [problem.split()[0] for problem in found]
    assert sorted(names) == sorted([*GOOD, "SIGNUP_PORT", "SIGNUP_LOG_LEVEL"])
    assert all("set it to" in problem for problem in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGNUP_DATABASE_PORT", "0"),
        ("SIGNUP_DATABASE_PORT", "65536"),
        ("SIGNUP_DATABASE_PORT", "٣"),
        ("SIGNUP_DATABASE_SSLMODE", "yes"),
        ("SIGNUP_DATABASE_SECRET_ARN", "secret"),
        ("SIGNUP_DATABASE_URL", "mysql://u:hush@h/n"),
        ("SIGNUP_DATABASE_URL", "u:hush"),
        ("SIGNUP_TOPIC_ARN", "evenkeel"),
        ("SIGNUP_TOPIC_ARN", " "),
        ("SIGNUP_TOKEN_TABLE", "a table"),
        ("SIGNUP_PUBLIC_URL", "signup.example.com"),
        ("SIGNUP_PUBLIC_URL", "https://signup.example.com/?a=b"),
        ("SIGNUP_PASSWORD_MIN_LENGTH", "4"),
        ("SIGNUP_WORKERS", "-1"),
        ("SIGNUP_WORKERS", str(cores() + 1)),
        ("SIGNUP_PICTURE_BUCKET", "My_Pictures"),
        ("SIGNUP_PICTURE_BUCKET", "s3://pictures"),
        ("SIGNUP_MAIL_TABLE", "a table"),
        ("SIGNUP_MAIL_TABLE", "arn:aws:dynamodb:us-east-1:111122223333:table/mail"),
        ("SIGNUP_DRAIN_SECONDS", "4"),
        ("SIGNUP_DRAIN_SECONDS", "61"),
        ("SIGNUP_RATE_SIGNUP", "20"),
        ("SIGNUP_RATE_MAIL", "0/hour"),
        ("SIGNUP_RATE_LOGIN", "5/minute;"),
        ("SIGNUP_RATE_VERIFY", "5 per fortnight"),
        ("SIGNUP_METRICS_SECONDS", "0"),
        ("SIGNUP_METRICS_NAMESPACE", "evenkeel signup"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    (problem,) = problems({**GOOD, name: value})
    assert problem.startswith(name + " ")
    assert "hush" not in problem


def test_rates_are_off_unless_set() -> None:
    assert load_settings({**GOOD, "SIGNUP_RATE_RESEND": ""}).rates == Rates()
    rates = {"SIGNUP_RATE_SIGNUP": "20/minute", "SIGNUP_RATE_LOGIN_ADDRESS": "5/15minute,100/day"}
    assert load_settings({**GOOD, **rates}).rates == Rates(signup="20/minute", login_address="5/15minute,100/day")


def test_drain_settings() -> None:
    assert load_drain_settings({"AWS_REGION": "us-east-1"}).group is None
    group = {"AWS_REGION": "us-east-1", "SIGNUP_AUTOSCALING_GROUP": "evenkeel-fleet"}
    with pytest.raises(SettingsError, match="SIGNUP_DRAIN_HOOK is not set"):
        load_drain_settings(group)
    settings = load_drain_settings({**group, "SIGNUP_DRAIN_HOOK": "evenkeel-drain", "SIGNUP_DRAIN_SECONDS": "7"})
    assert (settings.group, settings.hook, settings.drain_seconds) == ("evenkeel-fleet", "evenkeel-drain", 7)
