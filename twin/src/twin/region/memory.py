"""Records that are let go once nothing refers to them any more.

moto keeps a list of every model it ever makes, for a page of its own that this region does not serve: what a call makes only
to answer, such as the health of each target, would stay for as long as the twin runs.
"""

from __future__ import annotations

from typing import Any

from moto.core.common_models import BaseModel

from twin.region.patch import replace
from twin.region.region import Region


def install(_region: Region) -> None:
    @replace(BaseModel, "__new__")
    def new(cls: type[BaseModel], *_args: Any, **_kwargs: Any) -> Any:
        # The next in line may be another base's, as it is in moto's own.
        return super(BaseModel, cls).__new__(cls)
