"""Naming the value that cannot be stored by its path, the way a user wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Keys of a process bundle and what their content is called in a process
_NAMES = {
    "_context": "ctx",
    "INPUTS_RAW": "inputs",
    "INPUTS_PARSED": "inputs",
    "OUTPUTS": "outputs",
}


def readable(path: str) -> str:
    """Return the path with the first part as users know it: ``ctx`` for ``_context`` ..."""
    first, dot, rest = path.partition(".")
    return _NAMES.get(first, first) + dot + rest


def explain(
    value: Any, path: str, attempt: Callable[[Any], Any], error: BaseException | None = None
) -> str:
    """Say which part of a value an attempt to store fails for, and why.

    :param path: where ``value`` is
    :param attempt: stores one value or raises
    :param error: what ``attempt(value)`` raised, if that is known
    """
    seen: set[int] = set()
    while id(value) not in seen:
        seen.add(id(value))
        for name, part in _parts(value):
            try:
                attempt(part)
            except Exception as exc:
                value, path, error = part, f"{path}{name}", exc
                break
        else:
            break
    return (
        f"cannot save `{path}`, a value of type {type(value).__module__}."
        f"{type(value).__qualname__}: {error}"
    )


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f".{key}" if isinstance(key, str) else f"[{key!r}]", item
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield f"[{item!r}]", item
    else:
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item
