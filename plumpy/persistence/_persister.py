"""What keeps bundles: the interface."""

from __future__ import annotations

import abc
import collections
from typing import TYPE_CHECKING

from ..utils import PID_TYPE
from ._bundle import Bundle

if TYPE_CHECKING:
    from ..processes import Process

PersistedCheckpoint = collections.namedtuple("PersistedCheckpoint", ["pid", "tag"])
PersistedCheckpoint.__doc__ = "Names a stored checkpoint: the pid of its process, and its tag."
PersistedPickle = collections.namedtuple("PersistedPickle", ["checkpoint", "bundle"])
PersistedPickle.__doc__ = "What is in the file of a checkpoint: its name and its bundle."


class Persister(metaclass=abc.ABCMeta):
    """Keeps checkpoints of processes, each under the pid of the process and a tag of one's own."""

    @abc.abstractmethod
    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        """Store the present state of a process, in place of what was there under that tag.

        :raises PersistenceError: if it cannot be stored; what was there stays
        """

    @abc.abstractmethod
    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a stored state, for :meth:`Bundle.unbundle`.

        :raises LookupError: or :class:`FileNotFoundError`, depending on the class, if there is none
        """

    @abc.abstractmethod
    def get_checkpoints(self) -> list[PersistedCheckpoint]:
        """Return the names of all checkpoints."""

    @abc.abstractmethod
    def get_process_checkpoints(self, pid: PID_TYPE) -> list[PersistedCheckpoint]:
        """Return the names of the checkpoints of one process."""

    @abc.abstractmethod
    def delete_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> None:
        """Remove a checkpoint, if it is there."""

    @abc.abstractmethod
    def delete_process_checkpoints(self, pid: PID_TYPE) -> None:
        """Remove the checkpoints of one process."""
