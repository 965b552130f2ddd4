"""The PostgreSQL engine."""

from __future__ import annotations

from typing import Any

import psycopg2
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from signup.clients.secrets import CredentialsUnavailable, DatabaseCredentials
from signup.metrics.values import Counter
from signup.patience import patient
from signup.settings import DatabaseSettings

DATABASE_DOWN = (
    sqlalchemy_errors.OperationalError,
    sqlalchemy_errors.InterfaceError,
    sqlalchemy_errors.TimeoutError,
    CredentialsUnavailable,
)
"""What is raised while the database is unreachable, overloaded or failing over: worth trying again."""

ANSWER_SECONDS = 1.0
"""How much longer than a statement may take its answer is waited for."""

CONNECT_ARGS = {
    # A host that vanished without a word, as in the loss of a zone, is noticed within seconds, not the kernel's hours.
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # After a failover, never settle on the standby.
    "target_session_attrs": "read-write",
}


class MeasuredPool(QueuePool):
    """A pool that counts who had to wait for a connection, and knows how many were in use at most."""

    # A pool logs under its module's name, host and user of each connection: it is to be as quiet as SQLAlchemy's own.
    __module__ = QueuePool.__module__

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waits = Counter()
        self._most = 0

    @property
    def limit(self) -> int:
        """As many connections as there can be: `make_engine` lets half of them overflow."""
        return 2 * self.size()

    def connect(self) -> PoolProxiedConnection:
        """Check a connection out."""
        if self.checkedout() >= self.limit:
            self.waits.add()
        connection = super().connect()
        self._most = max(self._most, self.checkedout())
        return connection

    def take_most(self) -> int:
        """The most connections in use since this was last asked."""
        taken, self._most = self._most, self.checkedout()
        return taken


def pool_of(engine: Engine) -> MeasuredPool:
    """The pool of an engine of `make_engine`'s."""
    if not isinstance(engine.pool, MeasuredPool):
        raise TypeError("the engine was not made by make_engine")
    return engine.pool


def make_engine(settings: DatabaseSettings, application: str, statement_timeout_ms: int = 5000, pool_size: int = 4) -> Engine:
    """An engine with a pool of at most twice `pool_size` connections; waits 2 s for a free one.

    Make it after a fork: connections must not be shared between processes. Values bound to statements are left out
    of error messages, since they are personal data.
    """
    options = f"-c statement_timeout={statement_timeout_ms} -c idle_in_transaction_session_timeout=30000"
    engine = create_engine(
        _url(settings),
        poolclass=MeasuredPool,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=2,
        pool_pre_ping=True,
        pool_recycle=600,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={**CONNECT_ARGS, **_patience(statement_timeout_ms), "application_name": application, "options": options},
    )
    if settings.secret_arn is not None:
        _use_secret(engine, DatabaseCredentials(settings.secret_arn, settings.region))
    return engine


def _patience(statement_timeout_ms: int) -> dict[str, Any]:
    # A migration takes as long as it takes.
    return {"connection_factory": patient(statement_timeout_ms / 1000 + ANSWER_SECONDS)} if statement_timeout_ms else {}


def _url(settings: DatabaseSettings) -> URL:
    if settings.url is not None:
        return make_url(settings.url).set(drivername="postgresql+psycopg2")
    return URL.create(
        "postgresql+psycopg2",
        host=settings.host,
        port=settings.port,
        database=settings.name,
        query={"sslmode": settings.sslmode},
    )


def _use_secret(engine: Engine, source: DatabaseCredentials) -> None:
    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: Any, arguments: list[Any], parameters: dict[str, Any]) -> Any:
        credentials = source.get()
        try:
            return dialect.connect(*arguments, **{**parameters, "user": credentials.username, "password": credentials.password})
        except psycopg2.OperationalError as error:
            # libpq gives no SQLSTATE for a refused login (28P01), only PostgreSQL's text.
            if "authentication failed" not in str(error):
                raise
        # The secret was rotated since it was read. A second refusal is final.
        credentials = source.get(stale=credentials)
        return dialect.connect(*arguments, **{**parameters, "user": credentials.username, "password": credentials.password})
