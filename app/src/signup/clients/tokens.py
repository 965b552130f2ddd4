"""The DynamoDB table of verification tokens."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from uuid import UUID

from botocore.exceptions import ClientError

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient


class TokensUnavailable(Exception):
    """DynamoDB did not answer or refused; the text is AWS's error code."""


@dataclass(frozen=True)
class TokenClaim:
    """What a live token stands for: a user, and the message whose mail carried it."""

    user_id: UUID
    message_id: UUID


class TokenTable:
    """Tokens by the hex SHA-256 of their text; the tokens themselves are stored nowhere."""

    def __init__(self, table: str, region: str) -> None:
        self._table = table
        self._client = LateClient("dynamodb", region)

    def consume(self, token: str) -> TokenClaim | None:
        """Consume a token in one conditional write; None if it is unknown or expired.

        Within its life a token may be consumed again, so that a page loaded twice is no error. The expiry is checked
        here because DynamoDB deletes expired items late, by up to days (its Time to Live page).
        Raises TokensUnavailable.
        """
        try:
            answer = self._client().update_item(
                TableName=self._table,
                Key={"token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()}},
                ConditionExpression="attribute_exists(token_hash) AND expires_at > :now",
                UpdateExpression="SET consumed_at = if_not_exists(consumed_at, :now)",
                ExpressionAttributeValues={":now": {"N": str(int(time.time()))}},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return None
            raise TokensUnavailable(error_code(error)) from error
        except AWS_ERRORS as error:
            raise TokensUnavailable(error_code(error)) from error
        item = answer["Attributes"]
        return TokenClaim(UUID(item["user_id"]["S"]), UUID(item["message_id"]["S"]))
