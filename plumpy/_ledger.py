"""Which worker runs which process, kept beside the checkpoints, and what came of each process.

A worker runs a process only while it holds the *lease* of it. A lease that is not renewed in time
expires, and another worker may take it; each taking has its own *term*, a number. Every write for a
process names the term, in the same transaction: a worker that lost the lease without noticing
(it was stopped, or cut off) can write nothing any more.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from plumpy.exceptions import PersistenceError
from plumpy.persistence import _sql

Execute = Callable[..., "list[Any]"]

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS runs (
        pid TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        class TEXT NOT NULL,
        queue TEXT NOT NULL,
        state TEXT NOT NULL,
        active INTEGER NOT NULL,
        worker TEXT,
        expires {real} NOT NULL DEFAULT 0,
        term INTEGER NOT NULL DEFAULT 0,
        callers TEXT NOT NULL DEFAULT '[]',
        outcome TEXT,
        created {real} NOT NULL,
        changed {real} NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS runs_to_adopt ON runs (queue, expires) WHERE active = 1",
    "CREATE INDEX IF NOT EXISTS runs_by_name ON runs (name)",
    "CREATE INDEX IF NOT EXISTS runs_by_worker ON runs (worker) WHERE active = 1",
    "CREATE INDEX IF NOT EXISTS runs_to_answer ON runs (queue) WHERE callers <> '[]'",
    """
    CREATE TABLE IF NOT EXISTS effects (
        pid TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (pid, key)
    )
    """,
)
COLUMNS = "pid, name, class, queue, state, active, worker, expires, term, callers, outcome, created"


class LeaseLost(PersistenceError):
    """The process is run by another worker by now, or was taken off this one."""


@dataclass(frozen=True)
class Lease:
    """The right to run a process, for a term."""

    pid: str
    worker: str
    term: int


@dataclass(frozen=True)
class Caller:
    """Who wants to know the outcome of a process: where to, and under which correlation id."""

    reply_to: str
    correlation_id: str


@dataclass(frozen=True)
class Run:
    """What is known of a process. Times are seconds since the epoch, by the database's clock."""

    pid: str
    name: str
    process_class: str
    queue: str
    state: str
    active: bool
    worker: str | None
    expires: float
    term: int
    callers: tuple[Caller, ...]
    outcome: str | None
    created: float

    @classmethod
    def of(cls, row: Any) -> Run:
        """Make one of a row with :data:`COLUMNS`."""
        values = list(row)
        values[5] = bool(values[5])
        values[9] = tuple(Caller(*entry) for entry in json.loads(values[9]))
        return cls(*values)


class Ledger:
    """See the module. Methods may be called from any thread; they may wait for the database.

    Pids are texts here, as the persister writes them.

    :raises PersistenceError: by every method, if the database fails
    :raises ValueError: by every method that writes, if the database has no form for a text
    """

    #: SQL for the present time, for a floating-point column, and for a parameter.
    NOW = "((julianday('now') - 2440587.5) * 86400.0)"
    REAL = "REAL"
    #: Begins a statement that inserts unless the row exists.
    IGNORE = "ON CONFLICT DO NOTHING"
    #: Ends a query for rows that nobody else may change before the end of the transaction.
    LOCKED = ""

    def __init__(self) -> None:
        # What executes statements in the transaction of :meth:`together`, in its thread.
        self._outer = threading.local()
        try:
            # Who only looks need not wait for those who write.
            self.query("SELECT 1 FROM effects WHERE 1 = 0")
        except PersistenceError:
            with self.transaction() as execute:
                self.create(execute)

    def create(self, execute: Execute) -> None:
        """Create the tables if they are not there."""
        for statement in SCHEMA:
            execute(statement.format(real=self.REAL))

    def begin(self) -> contextlib.AbstractContextManager[Execute]:
        """Return a transaction of the database."""
        raise NotImplementedError

    def read(self, statement: str, *parameters: Any) -> list[Any]:
        """Execute a query, in the transaction that there is, if there is one."""
        outer: Execute | None = getattr(self._outer, "execute", None)
        return (
            self.query(statement, *parameters) if outer is None else outer(statement, *parameters)
        )

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        """Execute a query, without keeping anyone from writing."""
        raise NotImplementedError

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """Yield what executes a statement with ``?`` for its parameters and returns the rows."""
        outer: Execute | None = getattr(self._outer, "execute", None)
        if outer is not None:
            yield outer
            return
        with self.begin() as execute:
            yield execute

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of what this thread does.

        :class:`LeaseLost` may be caught within: nothing was written before it was raised. Any other
        error must not be: it may have undone what was written.

        :raises PersistenceError: if it cannot be committed; nothing of it is written then
        """
        with self.begin() as execute:
            self._outer.execute = execute
            try:
                yield
            finally:
                self._outer.execute = None

    def load(self, pid: str) -> str | None:
        """Return the last checkpoint of a process."""
        rows = self.read(_sql.LOAD, pid, "null")
        return rows[0][0] if rows else None

    def find(self, pid: str) -> Run | None:
        """Return what is known of a process."""
        rows = self.read(f"SELECT {COLUMNS} FROM runs WHERE pid = ?", pid)
        return Run.of(rows[0]) if rows else None

    def find_by_name(self, name: str) -> list[Run]:
        """Return the processes whose pid reads ``name``, however it is written."""
        rows = self.read(f"SELECT {COLUMNS} FROM runs WHERE name = ?", name)
        return [Run.of(row) for row in rows]

    def all(self, *, active: bool | None = None, limit: int = -1) -> list[Run]:
        """Return processes, the latest first.

        :param active: only those that are to be run, or only the others
        :param limit: how many at most; -1 for all
        """
        where = "" if active is None else f"WHERE active = {int(active)}"
        bound = "" if limit < 0 else f"LIMIT {int(limit)}"
        rows = self.read(f"SELECT {COLUMNS} FROM runs {where} ORDER BY created DESC {bound}")
        return [Run.of(row) for row in rows]

    def counts(self, *, active: bool | None = None) -> dict[str, int]:
        """Return how many processes are in which state; ``active`` as for :meth:`all`."""
        where = "" if active is None else f"WHERE active = {int(active)}"
        return dict(self.read(f"SELECT state, count(*) FROM runs {where} GROUP BY state"))

    def open(
        self,
        pid: str,
        *,
        name: str,
        process_class: str,
        queue: str,
        state: str,
        bundle: str,
        worker: str | None,
        seconds: float,
        caller: Caller | None,
    ) -> Lease | None:
        """Enter a new process with its first checkpoint.

        :param worker: who runs it; None if it is not to be run yet
        :param seconds: how long the lease lasts
        :return: the lease, or None if the process is there already (or is not to be run)
        """
        with self.transaction() as execute:
            rows = execute(
                f"""
                INSERT INTO runs (pid, name, class, queue, state, active, worker, expires, term,
                                  callers, created, changed)
                VALUES (?, ?, ?, ?, ?, ?, ?, {self.NOW} + ?, 1, ?, {self.NOW}, {self.NOW})
                {self.IGNORE} RETURNING term
                """,
                pid,
                name,
                process_class,
                queue,
                state,
                int(worker is not None),
                worker,
                seconds if worker is not None else 0.0,
                _callers(() if caller is None else (caller,)),
            )
            if not rows:
                return None
            execute(_sql.SAVE, pid, "null", bundle)
        return None if worker is None else Lease(pid, worker, 1)

    def enter(self, pid: str, *, name: str, process_class: str, queue: str, state: str) -> bool:
        """Enter a process that was saved by other means; False if there is no checkpoint of it."""
        with self.transaction() as execute:
            if not execute("SELECT 1 FROM checkpoints WHERE pid = ? AND tag = 'null'", pid):
                return False
            execute(
                f"""
                INSERT INTO runs (pid, name, class, queue, state, active, created, changed)
                VALUES (?, ?, ?, ?, ?, 0, {self.NOW}, {self.NOW}) {self.IGNORE}
                """,
                pid,
                name,
                process_class,
                queue,
                state,
            )
        return True

    def claim(
        self, pid: str, worker: str, seconds: float, caller: Caller | None
    ) -> tuple[Lease | None, Run | None]:
        """Ask for the lease of a process, and leave word who wants to know its outcome.

        :return: the lease, or None if the process has ended or another worker has it; and what is
            known of the process, or None if nothing is
        """
        with self.transaction() as execute:
            run = self._ask(execute, pid, caller)
            if run is None or run.outcome is not None:
                return None, run
            taken = self._take(execute, pid, worker, seconds)
        return taken, run

    def ask(self, pid: str, caller: Caller | None) -> Run | None:
        """Leave word who wants to know the outcome of a process; return what is known of it."""
        with self.transaction() as execute:
            return self._ask(execute, pid, caller)

    def _ask(self, execute: Execute, pid: str, caller: Caller | None) -> Run | None:
        rows = execute(f"SELECT {COLUMNS} FROM runs WHERE pid = ?", pid)
        run = Run.of(rows[0]) if rows else None
        if run is None or run.outcome is not None or caller is None or caller in run.callers:
            return run
        callers = _callers((*run.callers, caller))
        execute("UPDATE runs SET callers = ? WHERE pid = ?", callers, pid)
        return run

    def _take(self, execute: Execute, pid: str, worker: str, seconds: float) -> Lease | None:
        rows = execute(
            f"""
            UPDATE runs SET worker = ?, expires = {self.NOW} + ?, term = term + 1, active = 1,
                            changed = {self.NOW}
            WHERE pid = ? AND outcome IS NULL AND expires <= {self.NOW} RETURNING term
            """,
            worker,
            seconds,
            pid,
        )
        return Lease(pid, worker, rows[0][0]) if rows else None

    def adopt(self, queue: str, worker: str, seconds: float, limit: int) -> list[Lease]:
        """Take processes that are to be run and that no other worker has, or has any more.

        Not those of this worker: it runs them, or will find out that it does not.
        """
        with self.transaction() as execute:
            rows = execute(
                f"""
                SELECT pid FROM runs
                WHERE active = 1 AND queue = ? AND expires <= {self.NOW}
                AND (worker IS NULL OR worker <> ?) ORDER BY expires LIMIT ?
                """,
                queue,
                worker,
                limit,
            )
            leases = [self._take(execute, row[0], worker, seconds) for row in rows]
        return [lease for lease in leases if lease is not None]

    def renew(self, worker: str, seconds: float) -> dict[str, int]:
        """Prolong all leases of a worker; return the terms of those that it still has, by pid."""
        with self.transaction() as execute:
            rows = execute(
                f"""
                UPDATE runs SET expires = {self.NOW} + ?
                WHERE worker = ? AND active = 1 RETURNING pid, term
                """,
                seconds,
                worker,
            )
        return dict(rows)

    def save(self, lease: Lease, state: str, bundle: str) -> None:
        """Store a checkpoint.

        :raises LeaseLost: if the lease is another's by now
        """
        with self.transaction() as execute:
            self._change(execute, lease, "state = ?", state)
            execute(_sql.SAVE, lease.pid, "null", bundle)

    def finish(
        self, lease: Lease, state: str, bundle: str | None, outcome: str
    ) -> tuple[Caller, ...]:
        """Store how a process ended; return who is to be told.

        :param bundle: the last checkpoint; None to keep the one before
        :param outcome: the answer for those who asked, as text
        :raises LeaseLost: if the lease is another's by now
        """
        with self.transaction() as execute:
            rows = self._change(
                execute,
                lease,
                "state = ?, active = 0, worker = NULL, expires = 0, outcome = ?",
                state,
                outcome,
            )
            if bundle is not None:
                execute(_sql.SAVE, lease.pid, "null", bundle)
        return tuple(Caller(*entry) for entry in json.loads(rows[0][0]))

    def _change(self, execute: Execute, lease: Lease, change: str, *parameters: Any) -> list[Any]:
        """Change the row of a process, and return its callers."""
        return _held(
            lease,
            execute(
                f"""
                UPDATE runs SET {change}, changed = {self.NOW}
                WHERE pid = ? AND worker = ? AND term = ? AND active = 1 RETURNING callers
                """,
                *parameters,
                lease.pid,
                lease.worker,
                lease.term,
            ),
        )

    def answered(self, pid: str) -> None:
        """Note that everyone who wanted to know the outcome has been told."""
        with self.transaction() as execute:
            execute("UPDATE runs SET callers = '[]' WHERE pid = ? AND outcome IS NOT NULL", pid)

    def unanswered(self, queue: str, seconds: float) -> list[Run]:
        """Return processes that ended some time ago without everyone having been told."""
        rows = self.read(
            f"""
            SELECT {COLUMNS} FROM runs
            WHERE queue = ? AND outcome IS NOT NULL AND callers <> '[]'
            AND changed < {self.NOW} - ?
            """,
            queue,
            seconds,
        )
        return [Run.of(row) for row in rows]

    def release(self, lease: Lease) -> None:
        """Give a process back, for any worker to take."""
        with self.transaction() as execute:
            execute(
                "UPDATE runs SET worker = NULL, expires = 0 "
                "WHERE pid = ? AND worker = ? AND term = ?",
                lease.pid,
                lease.worker,
                lease.term,
            )

    def release_all(self, worker: str) -> None:
        """Give every process of a worker back, for any other to take."""
        with self.transaction() as execute:
            execute(
                "UPDATE runs SET worker = NULL, expires = 0 WHERE worker = ? AND active = 1",
                worker,
            )

    def postpone(self, lease: Lease, seconds: float) -> None:
        """Give a process back, for any worker to take after some time."""
        with self.transaction() as execute:
            execute(
                f"UPDATE runs SET worker = NULL, expires = {self.NOW} + ? "
                "WHERE pid = ? AND worker = ? AND term = ?",
                seconds,
                lease.pid,
                lease.worker,
                lease.term,
            )

    def record(self, lease: Lease, key: str, value: str) -> bool:
        """Store a value unless there is one under this key; tell whether it is new.

        :raises LeaseLost: if the lease is another's by now
        """
        with self.transaction() as execute:
            _held(
                lease,
                execute(
                    "SELECT 1 FROM runs WHERE pid = ? AND worker = ? AND term = ? AND active = 1 "
                    + self.LOCKED,
                    lease.pid,
                    lease.worker,
                    lease.term,
                ),
            )
            return bool(
                execute(
                    f"INSERT INTO effects (pid, key, value) VALUES (?, ?, ?) {self.IGNORE} "
                    "RETURNING key",
                    lease.pid,
                    key,
                    value,
                )
            )

    def recorded(self, pid: str) -> dict[str, str]:
        """Return what was recorded for a process."""
        return dict(self.read("SELECT key, value FROM effects WHERE pid = ? ORDER BY key", pid))


def _held(lease: Lease, rows: list[Any]) -> list[Any]:
    if not rows:
        raise LeaseLost(f"process {lease.pid} is not run by {lease.worker} any more")
    return rows


def _callers(callers: tuple[Caller, ...]) -> str:
    return json.dumps([[caller.reply_to, caller.correlation_id] for caller in callers])
