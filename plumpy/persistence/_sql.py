"""The SQL of :class:`plumpy.persistence.SqlitePersister`, and the connection it goes through.

All that knows about the database is here: another one is a class with the same methods.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..exceptions import PersistenceError

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 60.0  # seconds that a write waits for those of other processes
_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds from one look at their lock to the next

SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoints (
    pid TEXT NOT NULL,
    tag TEXT NOT NULL,
    bundle TEXT NOT NULL,
    PRIMARY KEY (pid, tag)
) WITHOUT ROWID
"""
SAVE = """
INSERT INTO checkpoints (pid, tag, bundle) VALUES (?, ?, ?)
ON CONFLICT (pid, tag) DO UPDATE SET bundle = excluded.bundle
"""
LOAD = "SELECT bundle FROM checkpoints WHERE pid = ? AND tag = ?"
NAMES = "SELECT pid, tag FROM checkpoints ORDER BY pid, tag"
NAMES_OF = "SELECT pid, tag FROM checkpoints WHERE pid = ? ORDER BY tag"
DELETE = "DELETE FROM checkpoints WHERE pid = ? AND tag = ?"
DELETE_ALL_OF = "DELETE FROM checkpoints WHERE pid = ?"


def connect(path: str) -> sqlite3.Connection:
    """Open a database file in WAL mode, so that readers and the writer do not wait for each other.

    Each statement is a transaction of its own unless one is begun. Commits reach the disk before
    they return.

    :raises PersistenceError: if the file is not a database, or of a later release
    """
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            create_schema(connection)
            connection.execute("PRAGMA busy_timeout=0")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as exc:
        raise PersistenceError(f"cannot open {path} as a database of checkpoints: {exc}") from exc
    return connection


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables if they are not there.

    :raises PersistenceError: if a later release made them
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise PersistenceError(
                f"the database has format {version}, this release reads up to {SCHEMA_VERSION}"
            )
        connection.execute(SCHEMA)
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make several statements one transaction that may write from its beginning."""
    _patiently(connection, "BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A disk that is full ends a transaction by itself, or not.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _patiently(
    connection: sqlite3.Connection, statement: str, parameters: tuple[Any, ...] = ()
) -> sqlite3.Cursor:
    """Execute a statement that may have to wait for the lock of others who write.

    SQLite itself looks again after ever longer pauses, up to 100 ms: with several programs that
    write all the time, the lock would be free for most of it.
    """
    begin = time.monotonic()
    while True:
        try:
            return connection.execute(statement, parameters)
        except sqlite3.OperationalError as exc:
            waited = time.monotonic() - begin
            if "locked" not in str(exc) or waited > BUSY_TIMEOUT:
                raise
        time.sleep(min(_PAUSE + waited / 50, _LONGEST_PAUSE))


class SqliteDatabase:
    """A table of texts by pid and tag, for any number of threads and operating system processes.

    :param path: of the file, or ``:memory:``
    """

    def __init__(self, path: str) -> None:
        self._connection: sqlite3.Connection | None = None
        self._path = path
        self._lock = threading.Lock()
        self._owner = os.getpid()
        # Connections of a parent process: using or even closing them here would harm the parent.
        self._inherited: list[sqlite3.Connection] = []
        self._connected()

    def __del__(self) -> None:
        # Persisters have no end of life: most are never closed.
        if self._connection is not None:
            self.close()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
                self._connection = None

    def save(self, pid: str, tag: str, bundle: str) -> None:
        """Store a text, in place of what was there."""
        self.run(SAVE, pid, tag, bundle)

    def load(self, pid: str, tag: str) -> str | None:
        """Return a text, or ``None``."""
        rows = self.run(LOAD, pid, tag)
        return rows[0][0] if rows else None

    def names(self, pid: str | None = None) -> list[tuple[str, str]]:
        """Return the pid and tag of each text, of all or of one process."""
        return self.run(NAMES) if pid is None else self.run(NAMES_OF, pid)

    def delete(self, pid: str, tag: str | None = None) -> None:
        """Remove one text of a process, or all of them."""
        if tag is None:
            self.run(DELETE_ALL_OF, pid)
        else:
            self.run(DELETE, pid, tag)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to this thread for one transaction that may write.

        :raises PersistenceError: if the database fails; nothing is written then
        """
        with self._lock:
            try:
                connection = self._connected()
                with transaction(connection):
                    yield connection
            except sqlite3.Error as exc:
                raise PersistenceError(f"the database {self._path} failed: {exc}") from exc

    def run(self, statement: str, *parameters: Any) -> list[Any]:
        """Execute one statement, with ``?`` for its parameters, and return its rows."""
        with self._lock:
            try:
                return _patiently(self._connected(), statement, parameters).fetchall()
            except sqlite3.Error as exc:
                raise PersistenceError(f"the database {self._path} failed: {exc}") from exc

    def _connected(self) -> sqlite3.Connection:
        if self._owner != os.getpid():
            if self._connection is not None:
                self._inherited.append(self._connection)
                self._connection = None
            self._owner = os.getpid()
        if self._connection is None:
            self._connection = connect(self._path)
        return self._connection
