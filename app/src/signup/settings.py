"""Settings, read from the environment and validated at boot."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import NoReturn, TypeVar

EX_CONFIG = 78
"""Exit code for a configuration error (sysexits.h)."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TABLE = r"[a-zA-Z0-9_.-]{3,255}"
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

T = TypeVar("T")


class SettingsError(Exception):
    """One or more settings are missing or wrong; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 setting needs" if len(problems) == 1 else f"{len(problems)} settings need"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"signup can't start: {count} attention.{lines}")


@dataclass(frozen=True)
class DatabaseSettings:
    """Where PostgreSQL is. Either `url` is set, or the other fields are and the credentials come from a secret."""

    region: str | None
    url: str | None = field(default=None, repr=False)
    host: str = ""
    port: int = 5432
    name: str = "signup"
    sslmode: str = "require"
    secret_arn: str | None = None


@dataclass(frozen=True)
class Rates:
    """How often what may be asked of one process, such as 20/minute or 5/minute,60/hour. Empty: any number of times."""

    signup: str = ""
    resend: str = ""
    verify: str = ""
    login: str = ""
    mail: str = ""
    login_address: str = ""


@dataclass(frozen=True)
class Settings:
    """Everything the service and its outbox publisher need. Durations are in seconds."""

    database: DatabaseSettings
    region: str
    topic_arn: str
    token_table: str
    public_url: str
    picture_bucket: str | None = None
    mail_table: str | None = None
    mail_events_key: str | None = None
    port: int = 8080
    workers: int = 1
    threads: int = 32
    password_min_length: int = 15
    hash_slots: int = 1
    hash_queue: int = 24
    rates: Rates = Rates()
    body_seconds: int = 10
    drain_seconds: int = 30
    metrics_seconds: int = 60
    metrics_namespace: str = "signup"
    log_level: str = "INFO"


@dataclass(frozen=True)
class DrainSettings:
    """What `signup-drain` needs. `group` is None on a machine that no Auto Scaling group has launched."""

    group: str | None
    hook: str
    region: str
    drain_seconds: int
    port: int = 8080
    log_level: str = "INFO"


@dataclass(frozen=True)
class MigrationSettings:
    """What `signup-migrate` needs: the database, and how many seconds to wait for it."""

    database: DatabaseSettings
    wait_seconds: int = 300
    log_level: str = "INFO"


class _Reader:
    """Reads variables and collects every problem instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def optional(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def text(self, name: str, what: str, pattern: str = r"\S+") -> str:
        value = self.optional(name)
        if value is None:
            self.problems.append(f"{name} is not set: set it to {what}.")
            return ""
        if not re.fullmatch(pattern, value):
            self.problems.append(f"{name} is {value!r}, which is not valid: set it to {what}.")
        return value

    def text_or(self, name: str, default: T, what: str, pattern: str) -> str | T:
        return default if self.optional(name) is None else self.text(name, what, pattern)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.optional(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            self.problems.append(f"{name} is {value!r}: set it to a whole number from {low} to {high}.")
            return default
        return int(value)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.optional(name) or default
        if value not in choices:
            self.problems.append(f"{name} is {value!r}: set it to one of {', '.join(choices)}.")
        return value

    def rates(self) -> Rates:
        return Rates(**{each.name: self._rate(f"SIGNUP_RATE_{each.name.upper()}") for each in fields(Rates)})

    def _rate(self, name: str) -> str:
        value = self.optional(name) or ""
        one = "[1-9][0-9]{0,5}/([1-9][0-9]{0,2})?(second|minute|hour|day)"
        if value and not re.fullmatch(f"{one}(,{one})*", value):
            self.problems.append(f"{name} is {value!r}: set it to a number by time, such as 20/minute, or leave it empty.")
        return value

    def done(self) -> None:
        if self.problems:
            raise SettingsError(self.problems)


def cores() -> int:
    """Number of CPU cores this process may run on."""
    return len(os.sched_getaffinity(0))


def _region(read: _Reader) -> str | None:
    # boto3 knows AWS_DEFAULT_REGION alone; systemd units and Lambda have AWS_REGION.
    return read.optional("AWS_REGION") or read.optional("AWS_DEFAULT_REGION")


def _required_region(read: _Reader) -> str:
    region = _region(read)
    if region is None:
        read.problems.append("AWS_REGION is not set: set it to the region of the topic and tables, such as us-east-1.")
    return region or ""


def _mail_events_key(read: _Reader) -> str | None:
    text = read.optional("SIGNUP_MAIL_EVENTS_KEY")
    if text is None:
        return None
    from signup.mail_events.signature import EventKey  # here alone: most processes have no use for it

    try:
        EventKey(text)
    except ValueError as error:
        read.problems.append(f"SIGNUP_MAIL_EVENTS_KEY: {error}; set it to the verification key of SendGrid's event webhook.")
    return text


def _drain_seconds(read: _Reader) -> int:
    # The units' TimeoutStopSec covers the highest; 5 is longer than a request waits for a hash and for the database.
    return read.integer("SIGNUP_DRAIN_SECONDS", 30, 5, 60)


def _database(read: _Reader) -> DatabaseSettings:
    url = read.optional("SIGNUP_DATABASE_URL")
    if url is not None:
        # Here alone: signup-drain reads settings too, and has no use for SQLAlchemy's megabytes.
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            usable = make_url(url).get_backend_name() == "postgresql"
        except ArgumentError:
            usable = False
        if not usable:
            # The value may hold a password: it is never repeated.
            read.problems.append(
                "SIGNUP_DATABASE_URL is not a PostgreSQL URL: set it to postgresql://USER:PASSWORD@HOST:PORT/NAME."
            )
        return DatabaseSettings(region=_region(read), url=url)
    return DatabaseSettings(
        region=_region(read),
        host=read.text("SIGNUP_DATABASE_HOST", "the database's host name (or set SIGNUP_DATABASE_URL instead)"),
        port=read.integer("SIGNUP_DATABASE_PORT", 5432, 1, 65535),
        name=read.optional("SIGNUP_DATABASE_NAME") or "signup",
        sslmode=read.choice("SIGNUP_DATABASE_SSLMODE", "require", SSL_MODES),
        secret_arn=read.text(
            "SIGNUP_DATABASE_SECRET_ARN",
            "the ARN of the Secrets Manager secret with the database's username and password",
            r"arn:[\w-]+:secretsmanager:\S+",
        ),
    )


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the service's settings. Raises SettingsError, which lists all problems at once."""
    read = _Reader(environ)
    # More than one for each core would hash on more cores than there are.
    workers = read.integer("SIGNUP_WORKERS", min(cores(), 4), 1, cores())
    settings = Settings(
        database=_database(read),
        region=_required_region(read),
        topic_arn=read.text(
            "SIGNUP_TOPIC_ARN",
            "the ARN of the SNS topic for verification messages, such as arn:aws:sns:us-east-1:111122223333:NAME",
            r"arn:[\w-]+:sns:[\w-]+:[0-9]{12}:[\w.-]+",
        ),
        token_table=read.text("SIGNUP_TOKEN_TABLE", "the name of the DynamoDB token table", TABLE),
        public_url=read.text(
            "SIGNUP_PUBLIC_URL",
            "the address users see, such as https://signup.example.com",
            r"https?://[^\s/?#]+[^\s?#]*",
        ).rstrip("/"),
        picture_bucket=read.text_or("SIGNUP_PICTURE_BUCKET", None, "the name of the S3 bucket of the pictures", BUCKET),
        mail_table=read.text_or("SIGNUP_MAIL_TABLE", None, "the name of the DynamoDB table of mails", TABLE),
        mail_events_key=_mail_events_key(read),
        port=read.integer("SIGNUP_PORT", 8080, 1, 65535),
        workers=workers,
        threads=read.integer("SIGNUP_THREADS", 32, 8, 256),
        password_min_length=read.integer("SIGNUP_PASSWORD_MIN_LENGTH", 15, 8, 128),
        # Every worker process has its own slots, so that together they hash on as many cores as there are.
        hash_slots=max(1, cores() // workers),
        # 24 hashes at 18 ms: nobody waits longer than half a second for their turn.
        hash_queue=read.integer("SIGNUP_HASH_QUEUE", 24, 0, 100),
        rates=read.rates(),
        body_seconds=read.integer("SIGNUP_BODY_SECONDS", 10, 1, 60),
        drain_seconds=_drain_seconds(read),
        metrics_seconds=read.integer("SIGNUP_METRICS_SECONDS", 60, 1, 3600),
        metrics_namespace=read.text_or(
            "SIGNUP_METRICS_NAMESPACE", "signup", "a CloudWatch namespace, such as evenkeel/signup", r"[\w./#:-]{1,255}"
        ),
        log_level=read.choice("SIGNUP_LOG_LEVEL", "INFO", LOG_LEVELS),
    )
    read.done()
    return settings


def load_drain_settings(environ: Mapping[str, str] = os.environ) -> DrainSettings:
    """Read what `signup-drain` needs. Raises SettingsError, which lists all problems at once."""
    read = _Reader(environ)
    group = read.optional("SIGNUP_AUTOSCALING_GROUP")
    settings = DrainSettings(
        group=group,
        hook=read.text("SIGNUP_DRAIN_HOOK", "the name of the group's terminating lifecycle hook") if group else "",
        region=_required_region(read),
        drain_seconds=_drain_seconds(read),
        port=read.integer("SIGNUP_PORT", 8080, 1, 65535),
        log_level=read.choice("SIGNUP_LOG_LEVEL", "INFO", LOG_LEVELS),
    )
    read.done()
    return settings


def load_migration_settings(environ: Mapping[str, str] = os.environ) -> MigrationSettings:
    """Read what `signup-migrate` needs. Raises SettingsError, which lists all problems at once."""
    read = _Reader(environ)
    database = _database(read)
    if database.secret_arn:
        _required_region(read)
    settings = MigrationSettings(
        database=database,
        wait_seconds=read.integer("SIGNUP_MIGRATE_WAIT_SECONDS", 300, 0, 3600),
        log_level=read.choice("SIGNUP_LOG_LEVEL", "INFO", LOG_LEVELS),
    )
    read.done()
    return settings


def load_or_exit(load: Callable[[], T]) -> T:
    """Load settings; on a SettingsError print it to stderr and exit with EX_CONFIG."""
    try:
        return load()
    except SettingsError as error:
        _exit(error)


def _exit(error: SettingsError) -> NoReturn:
    print(error, file=sys.stderr, flush=True)
    raise SystemExit(EX_CONFIG) from None
