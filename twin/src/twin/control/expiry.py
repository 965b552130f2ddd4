"""DynamoDB's Time to Live: deletes expired items late, each at a time of its own.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/howitworks-ttl.html
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any

from twin.control.loop import Loop
from twin.region.region import Region

# AWS deletes within a few days; nobody may rely on the moment, so each item waits for a part of this of its own.
LATEST_SECONDS = 60
# Items that expired longer ago were never meant to be deleted: they are taken for a mistake.
OLDEST_SECONDS = 5 * 365 * 86400


class Expiry(Loop):
    period = 5.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region

    def tick(self) -> None:
        now = time.time()
        with self.region.records():
            backend = self.region.backend("dynamodb")
            for table in list(backend.tables.values()):
                attribute = table.ttl.get("AttributeName")
                if table.ttl.get("TimeToLiveStatus") != "ENABLED" or not attribute:
                    continue
                for item in list(_items(table)):
                    if _due(item, attribute, now):
                        names = [name for name in (table.hash_key_attr, table.range_key_attr) if name]
                        keys = {name: item.attrs[name].to_json() for name in names}
                        backend.delete_item(table.name, keys, None, None, None)


def _items(table: Any) -> Iterator[Any]:
    for entry in table.items.values():
        if table.has_range_key:
            yield from entry.values()
        else:
            yield entry


def _due(item: Any, attribute: str, now: float) -> bool:
    value = item.attrs.get(attribute)
    if value is None or value.type != "N":
        return False
    expired = float(value.value)
    key = repr((item.hash_key.value, item.range_key.value if item.range_key else None)).encode()
    late = int.from_bytes(hashlib.sha256(key).digest()[:4]) % LATEST_SECONDS
    return now - OLDEST_SECONDS < expired and expired + late <= now
