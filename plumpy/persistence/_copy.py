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
from ..utils import AttributesFrozendict
from ._paths import explain, readable

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
all_immutable = IMMUTABLE.issuperset

#: Containers, and what cannot change: instances of these classes are certain to be no more.
PLAIN: frozenset[type] = IMMUTABLE | {dict, list, tuple, set, frozenset}


_ATOMIC = (enum.Enum, type)


def is_constant(value: Any) -> bool:
    """Return whether a value is known never to change, so that a copy of it is itself."""
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind is AttributesFrozendict:
        if len(value.__dict__) > _FROZENDICT_SIZE:
            return False
        values = value._dict.values()
        return all_immutable(map(type, values)) or all(map(is_constant, values))
    if kind is tuple or kind is frozenset:
        return all_immutable(map(type, value))
    return isinstance(value, _ATOMIC)


#: How many attributes of its own a frozen dictionary has.
_FROZENDICT_SIZE = len(AttributesFrozendict().__dict__)


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
        copied = memo[id(value)] = value.copy()
        for name, item in value.items():
            if type(name) not in IMMUTABLE:
                copied.clear()
                for key, part in value.items():
                    copied[snapshot(key, memo)] = snapshot(part, memo)
                break
            if type(item) not in IMMUTABLE:
                copied[name] = snapshot(item, memo)
        return copied
    if kind is list:
        if all_immutable(map(type, value)):
            items = memo[id(value)] = value.copy()
            return items
        items = memo[id(value)] = []
        for item in value:
            items.append(item if type(item) in IMMUTABLE else snapshot(item, memo))
        return items
    if kind is AttributesFrozendict:
        if is_constant(value):
            return value
        frozen = memo[id(value)] = AttributesFrozendict.__new__(AttributesFrozendict)
        attributes = value.__dict__
        if len(attributes) > _FROZENDICT_SIZE:
            attributes = snapshot(attributes, memo)
        frozen.__dict__.update(attributes, _dict=snapshot(value._dict, memo))
        return frozen
    if (kind is tuple or kind is frozenset) and all_immutable(map(type, value)):
        return value
    if kind is set and all_immutable(map(type, value)):
        return value.copy()
    if isinstance(value, _ATOMIC):
        return value
    return copy.deepcopy(value, memo)


def copied(value: Any, path: str) -> Any:
    """Return a deep copy of a value.

    :param path: what the value is called in the error, or its key in a process bundle
    :raises PersistenceError: naming the part of the value that cannot be copied
    """
    try:
        return value if is_constant(value) else snapshot(value)
    except Exception as exc:
        raise PersistenceError(explain(value, readable(path), snapshot, exc)) from exc
