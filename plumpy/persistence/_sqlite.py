"""Checkpoints in a database file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ..loaders import ObjectLoader
from ..utils import PID_TYPE
from ._bundle import Bundle, restored_bundle
from ._codec import dumps, loads, to_json
from ._context import LoadSaveContext
from ._persister import PersistedCheckpoint, Persister
from ._sql import SqliteDatabase

if TYPE_CHECKING:
    from .._ledger import Ledger
    from ..processes import Process


class SqlPersister(Persister):
    """Keeps checkpoints as texts in an SQL database; see the classes for the kinds of databases.

    :param database: keeps the texts
    :param loader: identifies and finds classes; ``None`` for the global loader
    """

    def __init__(self, database: Any, loader: ObjectLoader | None = None) -> None:
        self._database = database
        self._loader = loader
        self._save_context = LoadSaveContext(loader=loader)

    def close(self) -> None:
        """Close the database; the next use opens it again."""
        self._database.close()

    def save_checkpoint(self, process: Process, tag: str | None = None) -> None:
        """Store the present state of a process, in place of what was there under that tag.

        :raises PersistenceError: if a value has no form as text, or the database fails; what was
            there stays
        """
        text = dumps(dict(Bundle(process, self._save_context)), self._loader)
        self._database.save(self._key(process.pid), to_json(tag), text)

    def load_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> Bundle:
        """Return a stored state.

        :raises KeyError: if there is none
        :raises PersistenceError: if it names a class that is gone
        """
        text = self._database.load(self._key(pid), to_json(tag))
        if text is None:
            raise KeyError(f"there is no checkpoint of process {pid!r}, tag {tag!r}")
        return restored_bundle(loads(text, self._loader))

    def get_checkpoints(self) -> list[PersistedCheckpoint]:
        return self._names(self._database.names())

    def get_process_checkpoints(self, pid: PID_TYPE) -> list[PersistedCheckpoint]:
        return self._names(self._database.names(self._key(pid)))

    def delete_checkpoint(self, pid: PID_TYPE, tag: str | None = None) -> None:
        self._database.delete(self._key(pid), to_json(tag))

    def delete_process_checkpoints(self, pid: PID_TYPE) -> None:
        self._database.delete(self._key(pid))

    def _key(self, pid: PID_TYPE) -> str:
        return dumps(pid, self._loader)

    def _names(self, rows: list[tuple[Any, ...]]) -> list[PersistedCheckpoint]:
        return [PersistedCheckpoint(loads(pid, self._loader), json.loads(tag)) for pid, tag in rows]


class SqlitePersister(SqlPersister):
    """Keeps checkpoints in an SQLite database file.

    A checkpoint is stored completely or not at all, whatever happens to the program or the machine
    meanwhile. Any number of threads and operating system processes may use the same file. Values
    are stored as text that is read without running anything; what has no such form is refused when
    it is saved.

    :param database: path of the file, created with its directory if it is not there, or
        ``:memory:``
    :param loader: identifies and finds classes; ``None`` for the global loader
    :raises PersistenceError: if the file is not such a database, or of a later release
    """

    def __init__(
        self, database: str | os.PathLike[str], loader: ObjectLoader | None = None
    ) -> None:
        path = os.fspath(database)
        directory = os.path.dirname(path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        super().__init__(SqliteDatabase(path), loader)

    def ledger(self) -> Ledger:
        """Return the ledger of a :class:`plumpy.worker.Worker`, in the same file."""
        from .._sqlite_ledger import SqliteLedger

        return SqliteLedger(self._database)
