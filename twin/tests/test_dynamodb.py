"""DynamoDB: transactions that are safe to repeat, items that expire late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import client, undoing
from moto import mock_aws

from twin.bodies.podman import Podman
from twin.control.expiry import LATEST_SECONDS, OLDEST_SECONDS, Expiry
from twin.region import dynamodb
from twin.region.region import Region
from twin.settings import Settings

TRANSACTIONS = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html"
TTL = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/howitworks-ttl.html"


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    settings = Settings(state=tmp_path, store=tmp_path / "store", name="test-dynamodb", slot=64)
    with undoing(), mock_aws():
        region = Region(settings, Podman(settings))
        dynamodb.install(region)
        yield region


@pytest.fixture
def table(region: Region) -> Any:
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="things",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return dynamodb


def add_one(client: Any, token: str, to: str = "a") -> None:
    update = {
        "TableName": "things",
        "Key": {"id": {"S": to}},
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    client.transact_write_items(TransactItems=[{"Update": update}], ClientRequestToken=token)


def count(client: Any) -> str:
    return str(client.get_item(TableName="things", Key={"id": {"S": "a"}})["Item"]["n"]["N"])


@pytest.mark.rule(
    "database", "TransactWriteItems with the same client token and content takes effect once in ten minutes.", TRANSACTIONS
)
def test_a_transaction_repeated_under_its_token_counts_once(region: Region, table: Any) -> None:
    now = 1000.0
    region.clock = lambda: now
    add_one(table, "one")
    add_one(table, "one")
    assert count(table) == "1"
    add_one(table, "two")
    assert count(table) == "2"
    now += 601
    add_one(table, "one")
    assert count(table) == "3"


@pytest.mark.rule(
    "database", "A client token used again with other content is an IdempotentParameterMismatchException.", TRANSACTIONS
)
def test_a_token_belongs_to_its_content(region: Region, table: Any) -> None:
    add_one(table, "one")
    with pytest.raises(ClientError) as refused:
        add_one(table, "one", to="b")
    assert refused.value.response["Error"]["Code"] == "IdempotentParameterMismatchException"
    assert count(table) == "1"


@pytest.mark.rule("database", "Items whose TTL attribute has passed are still there for a while, then deleted.", TTL)
@pytest.mark.rule("database", "Items that expired more than five years ago, or whose TTL is no number, are not deleted.", TTL)
def test_expired_items_go_late(region: Region, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table.update_time_to_live(TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "until"})
    began = int(time.time())
    values = {
        "later": {"N": str(began + 1000)},
        "old": {"N": str(began - OLDEST_SECONDS - 10_000)},
        "text": {"S": str(began)},
        **{f"soon-{n}": {"N": str(began)} for n in range(50)},
    }
    for key, value in values.items():
        table.put_item(TableName="things", Item={"id": {"S": key}, "until": value})
    now = float(began)
    monkeypatch.setattr("twin.control.expiry.time.time", lambda: now)
    loop = Expiry(region)

    def left() -> set[str]:
        loop.tick()
        return {item["id"]["S"] for item in table.scan(TableName="things")["Items"]}

    now = began + LATEST_SECONDS / 2
    halfway = len(left())
    assert 3 < halfway < len(values)
    now = began + LATEST_SECONDS
    assert left() == {"later", "old", "text"}
