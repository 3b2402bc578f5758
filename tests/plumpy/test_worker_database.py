"""A database that fails under a worker, at every statement in turn: nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import plumpy
from plumpy import ToContext
from plumpy._ledger import LeaseLost, Ledger
from plumpy.exceptions import PersistenceError
from plumpy.persistence import SqlitePersister
from plumpy.persistence._sql import SqliteDatabase
from plumpy.worker import Worker, _running, _worker, record, record_async, submit
from plumpy.worker._database import Database

TIMEOUT = 30


class Records(plumpy.Process):
    """Records both ways, waits in between, and finishes with an output."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.output("done", valid_type=bool)

    def run(self):
        record("first", 1)
        return plumpy.Continue(self.more)

    async def more(self):
        await record_async("second", 2)
        self.out("done", True)


class Parent(plumpy.WorkChain):
    """Waits for a child that any worker runs."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.start, cls.end)
        spec.output("done", valid_type=bool)

    def start(self):
        return ToContext(child=submit(Records))

    def end(self):
        self.out("done", self.ctx.child["done"])


class Breaks:
    """Lets statements fail: the n-th from now on, and those that follow it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = self._many = 0
        self._undoes = False
        self.struck = False

    def arm(self, left: int, many: int, undoes: bool) -> None:
        """Fail ``many`` statements after ``left`` others.

        :param undoes: the failure ends the transaction, as that of a disk does
        """
        with self._lock:
            self._left, self._many, self._undoes, self.struck = left, many, undoes, False

    def check(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._many:
                return
            if self._left:
                self._left -= 1
                return
            self._many -= 1
            self.struck = True
        if self._undoes and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")


class Fragile:
    """A connection that may fail at any statement."""

    def __init__(self, connection: sqlite3.Connection, breaks: Breaks) -> None:
        self._connection = connection
        self._breaks = breaks

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        if statement != "ROLLBACK":
            self._breaks.check(self._connection)
        return self._connection.execute(statement, parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """Have the connections to SQLite fail when it says so."""
    made = Breaks()
    connected = SqliteDatabase._connected
    monkeypatch.setattr(
        SqliteDatabase, "_connected", lambda database: Fragile(connected(database), made)
    )
    for module in (_running, _worker):
        monkeypatch.setattr(module, "RETRY", 0.01)
    return made


@pytest.fixture
def persister(tmp_path: Path) -> Iterator[SqlitePersister]:
    made = SqlitePersister(tmp_path / "processes.db")
    yield made
    made.close()


@pytest.fixture
async def worker(communicator: Any, persister: SqlitePersister) -> AsyncIterator[Worker]:
    made = Worker(communicator, persister, slots=4, poll=0.02, lease=0.6)
    task = asyncio.create_task(made.run())
    yield made
    made.stop()
    await asyncio.wait_for(task, TIMEOUT)


class TestEveryStatement:
    """A statement that fails, or three in a row, wherever in the life of a process that is."""

    @pytest.mark.parametrize("undoes", [False, True], ids=["stays open", "is undone"])
    @pytest.mark.parametrize("many", [1, 3])
    async def test_a_process_ends_once_all_the_same(
        self, breaks, worker, communicator, persister, many, undoes
    ):
        controller = plumpy.RemoteProcessController(communicator)
        ledger = persister.ledger()
        struck = 0
        for left in range(24):
            breaks.arm(left, many, undoes)
            answer = controller.launch_process(Records, init_kwargs={"pid": f"p{left}"})
            assert await asyncio.wait_for(answer, TIMEOUT) == {"done": True}
            struck += breaks.struck
            breaks.arm(0, 0, False)
            run = ledger.find(f'"p{left}"')
            assert run is not None
            assert (run.state, run.active) == ("finished", False)
            assert set(ledger.recorded(run.pid)) == {"first", "second"}
        assert struck > 12  # about as many statements as a process needs

    async def test_parents_and_children_end_once_all_the_same(
        self, breaks, worker, communicator, persister
    ):
        controller = plumpy.RemoteProcessController(communicator)
        for left in range(0, 40, 3):
            breaks.arm(left, 2, True)
            answer = controller.launch_process(Parent, init_kwargs={"pid": f"p{left}"})
            assert await asyncio.wait_for(answer, TIMEOUT) == {"done": True}
            breaks.arm(0, 0, False)
        assert persister.ledger().counts() == {"finished": 28}

    async def test_a_created_process_is_continued_all_the_same(self, breaks, worker, communicator):
        controller = plumpy.RemoteProcessController(communicator)
        for left in range(0, 24, 2):
            breaks.arm(left, 1, True)
            answer = controller.execute_process(Records)
            assert await asyncio.wait_for(answer, TIMEOUT) == {"done": True}


class TestReadOnly:
    async def test_a_process_waits_until_it_can_be_saved(
        self, worker, communicator, persister, monkeypatch, caplog
    ):
        monkeypatch.setattr(_running, "RETRY", 0.01)
        controller = plumpy.RemoteProcessController(communicator)
        await until_begun(worker)
        connection = persister._database._connected()
        connection.execute("PRAGMA query_only=1")
        answer = asyncio.ensure_future(controller.launch_process(Records))
        while "readonly" not in caplog.text:
            assert not answer.done()
            await asyncio.sleep(0.01)
        connection.execute("PRAGMA query_only=0")
        assert await asyncio.wait_for(answer, TIMEOUT) == {"done": True}

    async def test_it_is_said_once_however_many_wait(
        self, worker, communicator, persister, monkeypatch, caplog
    ):
        monkeypatch.setattr(_running, "RETRY", 0.01)
        monkeypatch.setattr(_worker, "RETRY", 0.01)
        caplog.set_level("INFO")
        controller = plumpy.RemoteProcessController(communicator)
        await until_begun(worker)
        connection = persister._database._connected()
        connection.execute("PRAGMA query_only=1")
        answers = [asyncio.ensure_future(controller.launch_process(Records)) for _ in range(8)]
        while "readonly" not in caplog.text:
            await asyncio.sleep(0.01)
        await asyncio.wait(answers, timeout=0.3)
        connection.execute("PRAGMA query_only=0")
        assert await asyncio.wait_for(asyncio.gather(*answers), TIMEOUT) == [{"done": True}] * 8
        assert caplog.text.count("have to wait") == 1
        assert caplog.text.count("the database works again") == 1

    @pytest.mark.parametrize("replaced", [False, True])
    async def test_nothing_is_taken_into_a_file_that_was_removed(
        self, worker, communicator, persister, tmp_path, caplog, replaced
    ):
        """A worker would go on in a file without a name, and all of it would be lost."""
        await until_begun(worker)
        (tmp_path / "processes.db").rename(tmp_path / "elsewhere.db")
        if replaced:
            (tmp_path / "processes.db").touch()
        controller = plumpy.RemoteProcessController(communicator)
        answer = asyncio.ensure_future(controller.launch_process(Records))
        while "was removed or replaced while it was in use" not in caplog.text:
            assert not answer.done()
            await asyncio.sleep(0.01)
        (tmp_path / "elsewhere.db").rename(tmp_path / "processes.db")
        assert await asyncio.wait_for(answer, TIMEOUT) == {"done": True}


async def until_begun(worker: Worker) -> None:
    while not hasattr(worker, "_consumer"):
        await asyncio.sleep(0)


class Fake(Ledger):
    """Keeps what was committed in a list."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self._new: list[str] = []
        self.refuses_to_begin = False
        self.begun = 0
        self._outer = threading.local()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Callable[..., Any]]:
        self.begun += 1
        if self.refuses_to_begin:
            raise PersistenceError("locked")
        self._new = []
        yield self._execute
        if "cannot commit" in self._new:
            raise PersistenceError("full")
        self.stored += self._new

    def _execute(self, text: str) -> list[Any]:
        if text == "broken":
            self._new.clear()
            raise PersistenceError("I/O error")
        if text == "not mine":
            raise LeaseLost("not mine")
        self._new.append(text)
        return [text]

    def write(self, text: str) -> str:
        with self.transaction() as execute:
            return str(execute(text)[0])


class TestBatches:
    @pytest.fixture
    async def database(self) -> AsyncIterator[Database]:
        made = Database(Fake(), asyncio.get_running_loop())
        yield made
        made.close()

    async def together(self, database: Database, *texts: str, refuses: bool = False) -> list[Any]:
        """Ask for writes that come into one transaction."""
        ledger: Any = database._ledger
        entered, go = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            go.wait(TIMEOUT)

        first = asyncio.ensure_future(database.use(hold))
        await asyncio.to_thread(entered.wait, TIMEOUT)
        ledger.begun, ledger.refuses_to_begin = 0, refuses
        asked = [
            asyncio.ensure_future(database.use(lambda text=text: ledger.write(text)))
            for text in texts
        ]
        await asyncio.sleep(0)
        go.set()
        await first
        return await asyncio.gather(*asked, return_exceptions=True)

    async def test_what_is_asked_for_meanwhile_is_one_transaction(self, database):
        assert await self.together(database, "a", "b", "c") == ["a", "b", "c"]
        assert database._ledger.begun == 1
        assert database._ledger.stored == ["a", "b", "c"]

    @pytest.mark.parametrize("culprit", ["broken", "cannot commit"])
    async def test_one_that_fails_does_not_take_the_others_along(self, database, culprit):
        a, error, c = await self.together(database, "a", culprit, "c")
        assert (a, c) == ("a", "c")
        assert isinstance(error, PersistenceError)
        assert database._ledger.stored == ["a", "c"]

    async def test_a_lost_lease_is_told_to_who_lost_it(self, database):
        a, error, c = await self.together(database, "a", "not mine", "c")
        assert (a, c) == ("a", "c")
        assert isinstance(error, LeaseLost)
        assert database._ledger.begun == 1

    async def test_a_database_that_cannot_be_used_at_all_is_not_tried_for_each(self, database):
        errors = await self.together(database, "a", "b", "c", refuses=True)
        assert all(isinstance(error, PersistenceError) for error in errors)
        assert database._ledger.begun == 2

    async def test_an_error_of_another_kind_does_not_end_the_thread(self, database):
        with pytest.raises(ZeroDivisionError):
            await database.use(lambda: 1 / 0)
        assert await database.use(lambda: 3) == 3

    async def test_closing_carries_out_what_was_asked_for(self, database):
        ledger = database._ledger
        asked = asyncio.ensure_future(database.use(lambda: ledger.write("last")))
        await asyncio.sleep(0)
        database.close()
        assert await asked == "last"
