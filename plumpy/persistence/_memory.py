"""Checkpoints for the life time of the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..loaders import ObjectLoader
from ..utils import PID_TYPE
from ._bundle import Bundle, copied_values, restored_bundle
from ._context import LoadSaveContext
from ._persister import PersistedCheckpoint, Persister

if TYPE_CHECKING:
    from ..processes import Process


class InMemoryPersister(Persister):
    """Keeps checkpoints in a dictionary. They share nothing with the processes.

    :param loader: identifies the classes of what is saved; ``None`` for the global loader
    """

    def __init__(self, loader: ObjectLoader | None = None) -> None:
        self._checkpoints: dict[PID_TYPE, dict[str | None, Bundle]] = {}
        self._save_context = LoadSaveContext(loader=loader)

    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        bundle = Bundle(process, self._save_context, dereference=True)
        self._checkpoints.setdefault(process.pid, {})[tag] = bundle

    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a copy of a stored state.

        :raises KeyError: if there is none
        """
        return restored_bundle(copied_values(self._checkpoints[pid][tag]))

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
