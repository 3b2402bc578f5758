"""Checkpoints for the life time of the program."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

from ..loaders import ObjectLoader
from ..utils import PID_TYPE, AttributesFrozendict
from ._bundle import Bundle, copied_values, restored_bundle
from ._context import LoadSaveContext
from ._copy import IMMUTABLE, is_constant
from ._persister import PersistedCheckpoint, Persister

if TYPE_CHECKING:
    from ..processes import Process


# Values that cannot change, and the others: pickled, or else as copies
_Stored = tuple[dict[str, Any], bytes | dict[str, Any]]


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
        constant, others = self._checkpoints[pid][tag]
        bundle = restored_bundle(constant)
        bundle.update(pickle.loads(others) if isinstance(others, bytes) else copied_values(others))
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


def _store(bundle: Bundle) -> _Stored:
    """Return a bundle in a form from which copies are made: pickled if it holds nothing but plain
    values, because that is the fastest way to copy them, or else copied one by one.

    :raises PersistenceError: naming a value that cannot be copied
    """
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
