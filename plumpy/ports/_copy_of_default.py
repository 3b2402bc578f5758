"""Defaults that no two processes share."""

from __future__ import annotations

from typing import Any


def copy_of_default(value: Any) -> Any:
    """Return a default that its receiver may change: built-in containers anew, the rest shared.

    Objects of other classes are shared on purpose: a default may be something with an identity,
    such as a stored database node. A value that holds no container is returned as it is.
    """
    kind = type(value)
    if kind is dict:
        return {name: copy_of_default(item) for name, item in value.items()}
    if kind is list or kind is set:
        return kind(copy_of_default(item) for item in value)
    if kind is tuple:
        items = tuple(copy_of_default(item) for item in value)
        return value if all(map(_is_same, items, value)) else items
    if kind is bytearray:
        return bytearray(value)
    return value


def _is_same(first: Any, second: Any) -> bool:
    return first is second
