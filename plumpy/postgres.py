"""Checkpoints in PostgreSQL, for workers on several machines; needs the extra ``postgres``."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

try:
    import psycopg
except ImportError:  # the module can be looked at without the extra
    psycopg = None  # type: ignore[assignment]

from plumpy._ledger import Execute, Ledger
from plumpy.exceptions import PersistenceError
from plumpy.loaders import ObjectLoader
from plumpy.persistence import _sql
from plumpy.persistence._sqlite import SqlPersister

__all__ = ["PostgresPersister"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoints (
    pid TEXT NOT NULL,
    tag TEXT NOT NULL,
    bundle TEXT NOT NULL,
    PRIMARY KEY (pid, tag)
)
"""
#: Two programs that create the tables at the same time would be in each other's way.
LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(7093214)"
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 10
#: Seconds that a server which does not answer, or a lock of another program, is waited for.
PATIENCE = 60


class PostgresPersister(SqlPersister):
    """Keeps checkpoints in a PostgreSQL database.

    Any number of threads, programs and machines may use the same database. A checkpoint is stored
    completely or not at all. Values are stored as text that is read without running anything.

    :param url: ``postgresql://user:password@host/database`` or any other conninfo of libpq
    :param loader: identifies and finds classes; ``None`` for the global loader
    :raises PersistenceError: if the database cannot be reached, or psycopg is not installed
    """

    def __init__(self, url: str, loader: ObjectLoader | None = None) -> None:
        super().__init__(PostgresDatabase(url), loader)

    def ledger(self) -> Ledger:
        """Return the ledger of a :class:`plumpy.worker.Worker`, in the same database."""
        return PostgresLedger(self._database)


class PostgresDatabase:
    """A table of texts by pid and tag; see :class:`plumpy.persistence._sql.SqliteDatabase`."""

    def __init__(self, url: str) -> None:
        if psycopg is None:
            raise PersistenceError(
                "PostgreSQL needs psycopg, which is not installed: "
                "pip install 'loop-harness[postgres]'"
            )
        self._url = url
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._owner = os.getpid()
        with self.transaction() as connection:
            connection.execute(LOCK_SCHEMA)
            connection.execute(SCHEMA)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def save(self, pid: str, tag: str, bundle: str) -> None:
        """Store a text, in place of what was there."""
        self.run(_sql.SAVE, pid, tag, bundle)

    def load(self, pid: str, tag: str) -> str | None:
        """Return a text, or ``None``."""
        rows = self.run(_sql.LOAD, pid, tag)
        return rows[0][0] if rows else None

    def names(self, pid: str | None = None) -> list[tuple[str, str]]:
        """Return the pid and tag of each text, of all or of one process."""
        return self.run(_sql.NAMES) if pid is None else self.run(_sql.NAMES_OF, pid)

    def delete(self, pid: str, tag: str | None = None) -> None:
        """Remove one text of a process, or all of them."""
        if tag is None:
            self.run(_sql.DELETE_ALL_OF, pid)
        else:
            self.run(_sql.DELETE, pid, tag)

    def run(self, statement: str, *parameters: Any) -> list[Any]:
        """Execute one statement, with ``?`` for its parameters, and return its rows."""
        with self.transaction() as connection:
            return execute_in(connection, statement, parameters)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Give the connection to this thread for one transaction.

        :raises PersistenceError: if the database fails; nothing is written then
        """
        with self._lock:
            try:
                connection = self._connected()
                with connection.transaction():
                    yield connection
            except psycopg.Error as exc:
                if self._connection is not None and self._connection.broken:
                    self.close()
                text = " ".join(str(exc).split())
                raise PersistenceError(f"the database failed: {text}") from exc

    def _connected(self) -> psycopg.Connection[Any]:
        if self._owner != os.getpid():
            # The connection belongs to the parent process: not even closing it is ours.
            self._connection, self._owner = None, os.getpid()
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT,
                keepalives_idle=PATIENCE,
                tcp_user_timeout=PATIENCE * 1000,
            )
            # A program that is stopped in the middle of a transaction holds up nobody for longer.
            for setting in ("idle_in_transaction_session_timeout", "lock_timeout"):
                self._connection.execute(f"SET {setting} = '{PATIENCE}s'")
        return self._connection


class PostgresLedger(Ledger):
    """The ledger in a PostgreSQL database, by whose clock leases end."""

    NOW = "extract(epoch FROM clock_timestamp())::double precision"
    REAL = "DOUBLE PRECISION"
    LOCKED = "FOR UPDATE"

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        super().__init__()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Execute]:
        with self._database.transaction() as connection:
            yield lambda statement, *parameters: execute_in(connection, statement, parameters)

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        return self._database.run(statement, *parameters)

    def create(self, execute: Execute) -> None:
        execute(LOCK_SCHEMA)
        super().create(execute)


def execute_in(
    connection: psycopg.Connection[Any], statement: str, parameters: tuple[Any, ...]
) -> list[Any]:
    """Execute a statement that has ``?`` for its parameters, and return its rows."""
    try:
        cursor = connection.execute(statement.replace("?", "%s"), parameters)
    except psycopg.DataError as exc:
        raise ValueError(f"the database cannot store a value: {exc}") from exc
    return cursor.fetchall() if cursor.description is not None else []
