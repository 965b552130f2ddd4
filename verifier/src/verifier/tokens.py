"""Tokens: minted here, stored as their hash alone."""

from __future__ import annotations

import hashlib
import secrets
import time

import boto3

from verifier.aws import CONFIG
from verifier.message import Message


class TokenTable:
    """The DynamoDB table of tokens."""

    def __init__(self, table: str, lifetime_seconds: int) -> None:
        self._table = table
        self._lifetime_seconds = lifetime_seconds
        self._client = boto3.client("dynamodb", config=CONFIG)

    def mint(self, message: Message) -> str:
        """Mint a token of 256 bits for the message's user and store its hex SHA-256 with its expiry.

        `expires_at` (epoch seconds) is the table's TTL attribute; DynamoDB deletes late, so readers compare it too.
        """
        token = secrets.token_urlsafe(32)
        self._client.put_item(
            TableName=self._table,
            Item={
                "token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()},
                "user_id": {"S": message.user_id},
                "message_id": {"S": message.message_id},
                "expires_at": {"N": str(int(time.time()) + self._lifetime_seconds)},
            },
            ConditionExpression="attribute_not_exists(token_hash)",
        )
        return token
