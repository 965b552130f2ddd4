"""How the extensions change moto: one method at a time, by name, failing loudly when a new moto lacks it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: replace `owner.name` by the decorated function, which gets the original as its first argument."""
    original = getattr(owner, name)

    def replace(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        setattr(owner, name, replaced)
        return function

    return replace


def replace(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: put the decorated function in the place of `owner.name`, which must be there."""
    getattr(owner, name)

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(owner, name, function)
        return function

    return put


def add(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: give `owner` a method that moto lacks; fails once moto has its own."""
    if name in vars(owner):
        raise RuntimeError(f"moto's {owner.__name__} has {name} now: see whether the twin's own can go")

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(owner, name, function)
        return function

    return put
