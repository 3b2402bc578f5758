"""Checkpoints for the life time of the program."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

from ..loaders import ObjectLoader
from ..utils import PID_TYPE, AttributesFrozendict
from ._bundle import Bundle, copied_values, restored_bundle
from ._context import LoadSaveContext
from ._copy import IMMUTABLE, all_immutable, is_constant
from ._persister import PersistedCheckpoint, Persister

if TYPE_CHECKING:
    from ..processes import Process


# Values that cannot change, and the others: pickled, or else as copies. Or all of the values, and a
# plan for a copy.
_Stored = tuple[dict[str, Any], "bytes | dict[str, Any] | _Plan"]


class InMemoryPersister(Persister):
    """Keeps checkpoints in a dictionary. They share nothing with the processes.

    :param loader: identifies the classes of what is saved; ``None`` for the global loader
    """

    def __init__(self, loader: ObjectLoader | None = None) -> None:
        self._checkpoints: dict[PID_TYPE, dict[str | None, _Stored]] = {}
        self._save_context = LoadSaveContext(loader=loader)

    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        stored = _store(Bundle(process, self._save_context))
        self._checkpoints.setdefault(process.pid, {})[tag] = stored

    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a copy of a stored state.

        :raises KeyError: if there is none
        """
        values, others = self._checkpoints[pid][tag]
        bundle = restored_bundle(values)
        if isinstance(others, list):
            _add_copies(bundle, others)
        elif isinstance(others, bytes):
            bundle.update(pickle.loads(others))
        else:
            bundle.update(copied_values(others))
        return bundle

    def get_checkpoints(self) -> list[PersistedCheckpoint]:
        return [
            PersistedCheckpoint(pid, tag)
            for pid, bundles in self._checkpoints.items()
            for tag in bundles
        ]

    def get_process_checkpoints(self, pid: PID_TYPE) -> list[PersistedCheckpoint]:
        return [PersistedCheckpoint(pid, tag) for tag in self._checkpoints.get(pid, ())]

    def delete_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> None:
        bundles = self._checkpoints.get(pid)
        if bundles is not None:
            bundles.pop(tag, None)
            if not bundles:
                self._checkpoints.pop(pid, None)

    def delete_process_checkpoints(self, pid: PID_TYPE) -> None:
        self._checkpoints.pop(pid, None)


class _NotPlainError(Exception):
    pass


class _PlainPickler(pickle.Pickler):
    """Pickles what a copy by way of pickle is certain to be a deep copy of, and nothing else."""

    def reducer_override(self, obj: Any) -> Any:
        # called for everything but instances of built-in types
        kind = type(obj)
        if kind in _PLAIN or isinstance(obj, type):
            return NotImplemented
        raise _NotPlainError


_PLAIN = IMMUTABLE | {AttributesFrozendict}


# The containers in a dictionary: the key of each, the container, and those in it if there are any.
_Plan = list[tuple[Any, Any, Any]]

#: From how many containers on pickling is the faster way.
_MANY = 50


def _planned(values: Any, seen: set[int]) -> tuple[dict[Any, Any], _Plan] | None:
    """Return a copy of a dictionary and a plan for further ones; ``None`` if there has to be more
    to it than shallow copies of all the containers in it."""
    if id(values) in seen or len(seen) > _MANY or not all_immutable(map(type, values)):
        return None  # what is referred to twice must be so in the copy too
    seen.add(id(values))
    made = values.copy()
    plan: _Plan = []
    if all_immutable(map(type, made.values())):
        return made, plan
    for key, value in values.items():
        kind = type(value)
        if kind in IMMUTABLE:
            continue
        if kind is dict:
            planned = _planned(value, seen)
            if planned is None:
                return None
            made[key] = planned[0]
            plan.append((key, *planned))
        elif kind is list or kind is set:
            if id(value) in seen or not all_immutable(map(type, value)):
                return None
            seen.add(id(value))
            made[key] = value.copy()
            plan.append((key, made[key], None))
        elif not is_constant(value):
            return None
    return made, plan


def _add_copies(made: dict[Any, Any], plan: _Plan) -> None:
    """Put copies of the containers in a dictionary in their places in a shallow copy of it."""
    for key, value, inner in plan:
        copy = made[key] = value.copy()
        if inner:
            _add_copies(copy, inner)


def _store(bundle: Bundle) -> _Stored:
    """Return a bundle in a form from which copies are made.

    That is a copy and a plan if it holds nothing but a few plain containers, as most bundles do; a
    pickle if it holds nothing but plain values; or else copies made one by one.

    :raises PersistenceError: naming a value that cannot be copied
    """
    planned = _planned(bundle, set())
    if planned is not None:
        return planned
    constant: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in bundle.items():
        (constant if is_constant(value) else others)[key] = value
    buffer = io.BytesIO()
    try:
        _PlainPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(others)
    except (_NotPlainError, pickle.PicklingError, AttributeError, RecursionError):
        return constant, copied_values(others)
    return constant, buffer.getvalue()
