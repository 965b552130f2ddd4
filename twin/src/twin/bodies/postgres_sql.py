"""Statements that RDS itself runs in a server, as its superuser, over the socket inside the server's container."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from contextlib import closing
from typing import Any

import psycopg2

from twin.bodies.podman import PodmanError
from twin.bodies.postgres_image import SOCKETS

SUPERUSER = "rdsadmin"
# RDS's own name for it, too; it exists on servers that can be part of a pair.
REPLICATOR = "rdsrepladmin"
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60


class Unresponsive(PodmanError):
    """The server runs, and does not answer in time."""


def run(pid: int, port: int, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement, a transaction of its own, with `values` for its %s; returns its rows.

    `pid` is the process id of the container's first process: through it the host reaches the container's files. Raises
    PodmanError with PostgreSQL's words, also when nobody answers.
    """
    if not pid:
        raise PodmanError("PostgreSQL does not run")
    try:
        with closing(
            psycopg2.connect(
                host=f"/proc/{pid}/root{SOCKETS}",
                port=port,
                user=SUPERUSER,
                dbname="postgres",
                connect_timeout=CONNECT_SECONDS,
                # Nothing that RDS writes here is a user's data, so none of it waits for a standby.
                options=f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c synchronous_commit=local",
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
    except psycopg2.Error as error:
        if "timeout expired" in str(error):
            raise Unresponsive(f"PostgreSQL does not answer within {CONNECT_SECONDS} s") from None
        raise PodmanError(f"PostgreSQL: {str(error).strip()}") from None


def scram_verifier(password: str, salt: bytes | None = None, rounds: int = 4096) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that the password itself never reaches a log of the server."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{encoded[0]}${encoded[1]}:{encoded[2]}"
