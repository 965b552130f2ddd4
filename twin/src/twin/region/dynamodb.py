"""DynamoDB whose transactions are idempotent by their client token.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from moto.core.responses import ActionResult
from moto.dynamodb.exceptions import DynamodbException
from moto.dynamodb.responses import DynamoHandler

from twin.region.patch import wrap
from twin.region.region import Region

TOKEN_SECONDS = 600


class IdempotentParameterMismatch(DynamodbException):
    def __init__(self) -> None:
        super().__init__(
            "com.amazonaws.dynamodb.v20120810#IdempotentParameterMismatchException",
            "The request uses the same client token as a previous, but non-identical request. Do not reuse a client token "
            "with different requests, unless the requests are identical.",
        )


def install(region: Region) -> None:
    @wrap(DynamoHandler, "transact_write_items")
    def transact_write_items(original: Any, self: Any) -> Any:
        token = self.body.get("ClientRequestToken")
        if not token:
            return original(self)
        backend, now = self.dynamodb_backend, region.clock()
        # What was done under which token: (digest of the request, when), for as long as AWS keeps it.
        tokens = {key: value for key, value in getattr(backend, "client_tokens", {}).items() if now - value[1] < TOKEN_SECONDS}
        backend.client_tokens = tokens
        digest = hashlib.sha256(json.dumps(self.body["TransactItems"], sort_keys=True).encode()).hexdigest()
        if token in tokens:
            if tokens[token][0] != digest:
                raise IdempotentParameterMismatch
            return ActionResult({"ConsumedCapacity": [], "ItemCollectionMetrics": {}})
        result = original(self)
        tokens[token] = (digest, now)
        return result
