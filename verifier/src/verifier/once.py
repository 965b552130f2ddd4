"""One mail for each message, however often the message is delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function

from verifier.aws import CONFIG

# A message may come again as long as it is somewhere: SNS tries for 23 days, the dead-letter queue keeps it for 14.
REMEMBER_SECONDS = 40 * 24 * 3600
PREFIX = "mail"

Result = dict[str, Any]


class Once:
    """The table of messages by their ids' SHA-256: in progress, or completed with their result."""

    def __init__(self, table: str) -> None:
        self._store = DynamoDBPersistenceLayer(table_name=table, boto_config=CONFIG)

    def run(self, message_id: str, context: Any, action: Callable[[], Result]) -> tuple[Result, bool]:
        """The action's result, and whether it was of an earlier delivery.

        A message in progress is locked until this invocation would be killed for its timeout: a crash leaves the lock,
        and the next delivery after that time takes it over. An action that raises leaves nothing. Raises what the action
        raises, IdempotencyAlreadyInProgressError, and IdempotencyPersistenceLayerError.
        """
        seen = False

        def note(response: Any, idempotent_data: Any) -> Any:
            nonlocal seen
            seen = True
            return response

        config = IdempotencyConfig(
            expires_after_seconds=REMEMBER_SECONDS, hash_function="sha256", lambda_context=context, response_hook=note
        )

        def first(*, key: str) -> Result:
            return action()

        once: Callable[..., Result] = idempotent_function(
            first, data_keyword_argument="key", persistence_store=self._store, config=config, key_prefix=PREFIX
        )
        return once(key=message_id), seen
