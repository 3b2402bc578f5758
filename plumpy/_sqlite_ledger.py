"""The ledger in a database file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from plumpy._ledger import Execute, Ledger
from plumpy.exceptions import PersistenceError
from plumpy.persistence import _sql


class SqliteLedger(Ledger):
    """In the file of a :class:`~plumpy.persistence.SqlitePersister`."""

    def __init__(self, database: _sql.SqliteDatabase) -> None:
        self._database = database
        self._file = self._identity()
        super().__init__()

    def _identity(self) -> tuple[int, int] | None:
        """Return what tells the file from every other, or None if there is none."""
        try:
            found = os.stat(self._database._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def begin(self) -> Iterator[Execute]:
        if self._identity() != self._file:
            # What is written to a file without a name is seen by nobody, and lost.
            raise PersistenceError(
                f"the database {self._database._path} was removed or replaced while it was in use: "
                "put it back, or start anew"
            )
        with self._database.transaction() as connection:
            yield lambda statement, *parameters: _fetch(connection, statement, parameters)

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        return self._database.run(statement, *parameters)


def _fetch(connection: sqlite3.Connection, statement: str, parameters: tuple[Any, ...]) -> Any:
    try:
        return connection.execute(statement, parameters).fetchall()
    except (sqlite3.InterfaceError, sqlite3.DataError) as exc:
        raise ValueError(f"the database cannot store a value: {exc}") from exc
