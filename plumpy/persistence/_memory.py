"""Checkpoints for the life time of the program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..loaders import ObjectLoader
from ..utils import PID_TYPE
from ._bundle import Bundle, copied_values, detached, restored_bundle
from ._context import PrivateSave
from ._copy import IMMUTABLE, all_immutable, is_constant
from ._persister import PersistedCheckpoint, Persister

if TYPE_CHECKING:
    from ..processes import Process


class InMemoryPersister(Persister):
    """Keeps checkpoints in a dictionary. They share nothing with the processes.

    :param loader: identifies the classes of what is saved; ``None`` for the global loader
    """

    def __init__(self, loader: ObjectLoader | None = None) -> None:
        self._checkpoints: dict[PID_TYPE, dict[str | None, _Stored]] = {}
        self._loader = loader

    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        stored = _Stored(process, self._loader)
        self._checkpoints.setdefault(process.pid, {})[tag] = stored

    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a copy of a stored state.

        :raises KeyError: if there is none
        """
        return self._checkpoints[pid][tag].bundle()

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


class _Stored:
    """A saved state that shares nothing with its process, of which copies are made.

    Most bundles are a tree of plain containers. The first load notes where those are, and then each
    is copied by itself; in any other bundle it depends on the values.

    :raises PersistenceError: naming a value that cannot be copied
    """

    __slots__ = ("_containers", "_is_tree", "_values")

    def __init__(self, process: Process, loader: ObjectLoader | None) -> None:
        context = PrivateSave(loader)
        self._values = detached(process.save(context), context)
        self._is_tree: bool | None = None
        self._containers: list[_Container] = []

    def bundle(self) -> Bundle:
        """Return a bundle that shares nothing with any other."""
        if self._is_tree is None:
            try:
                self._containers = _containers_in(self._values, set())
                self._is_tree = True
            except _NotATreeError:
                self._is_tree = False
        if not self._is_tree:
            return restored_bundle(copied_values(self._values))
        bundle = restored_bundle(self._values)
        _replace(bundle, self._containers)
        return bundle


# The key of a container, the container, and those in it
_Container = tuple[Any, Any, Any]

#: How many containers a tree may have: what has more may well be deep.
_MANY = 200


class _NotATreeError(Exception):
    pass


def _containers_in(values: Any, seen: set[int]) -> list[_Container]:
    """Return what has to be copied beside a dictionary, list or set itself, for a deep copy of it.

    :param seen: the containers met so far: what is there twice must be so in a copy too
    :raises _NotATreeError: if there has to be more to it than copies of all the containers
    """
    if id(values) in seen or len(seen) > _MANY:
        raise _NotATreeError
    seen.add(id(values))
    if type(values) is dict:
        if not all_immutable(map(type, values)):
            raise _NotATreeError
        items: Iterable[tuple[Any, Any]] = values.items()
    else:
        items = enumerate(values)
    containers: list[_Container] = []
    for key, value in items:
        kind = type(value)
        if kind is dict or kind is list or kind is set:
            containers.append((key, value, _containers_in(value, seen)))
        elif kind not in IMMUTABLE and not is_constant(value):
            raise _NotATreeError
    return containers


def _replace(made: Any, containers: list[_Container]) -> None:
    """Put copies of the containers in a dictionary or list in their places in a shallow copy."""
    for key, value, inner in containers:
        copy = made[key] = value.copy()
        if inner:
            _replace(copy, inner)
