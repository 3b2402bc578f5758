"""Copies of values for checkpoints, without paying for what cannot change."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import fractions
import types
import uuid
from typing import Any

from ..exceptions import PersistenceError
from ._paths import explain

IMMUTABLE: frozenset[type] = frozenset(
    {
        type(None),
        type(...),
        type(NotImplemented),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        uuid.UUID,
        decimal.Decimal,
        fractions.Fraction,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        types.FunctionType,
        types.BuiltinFunctionType,
        type,
    }
)


def snapshot(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """Return a deep copy of ``value``.

    The result is what :func:`copy.deepcopy` gives, shared references and cycles included.

    :param memo: copies made so far by ``id``, as for :func:`copy.deepcopy`
    """
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if memo is None:
        memo = {}
    elif (key := id(value)) in memo:
        return memo[key]
    if kind is dict:
        copied: dict[Any, Any] = {}
        memo[id(value)] = copied
        for name, item in value.items():
            if type(name) not in IMMUTABLE:
                name = snapshot(name, memo)  # noqa: PLW2901
            copied[name] = item if type(item) in IMMUTABLE else snapshot(item, memo)
        return copied
    if kind is list:
        items: list[Any] = []
        memo[id(value)] = items
        for item in value:
            items.append(item if type(item) in IMMUTABLE else snapshot(item, memo))
        return items
    if kind in (tuple, set, frozenset) and all(type(item) in IMMUTABLE for item in value):
        return value if kind is not set else set(value)
    if isinstance(value, enum.Enum | type):
        return value
    return copy.deepcopy(value, memo)


def copied(value: Any, path: str) -> Any:
    """Return a deep copy of a value.

    :param path: what the value is called in the error
    :raises PersistenceError: naming the part of the value that cannot be copied
    """
    try:
        return snapshot(value)
    except Exception as exc:
        raise PersistenceError(explain(value, path, snapshot, exc)) from exc
