"""What users do under a fault, again when it fails, and what has to come of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import fault_processes as processes
import kiwipy
from kiwipy.rmq import RmqThreadCommunicator

import plumpy
from plumpy import ProcessState, _outbox
from plumpy.persistence import SqlitePersister
from plumpy.waiting import ProcessWaiter

#: Seconds within which everything has to be in order after a fault.
LIMIT = 120
RETRIED = (
    *_outbox.TRANSIENT,
    kiwipy.DeliveryFailed,
    kiwipy.TaskRejected,
    kiwipy.RemoteException,
    RuntimeError,
)


class Driver:
    """Does what users do, again when it fails, and looks at what came of it."""

    def __init__(self, url: str, database: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.communicator = RmqThreadCommunicator(url)
        self.controller = plumpy.RemoteProcessController(self.communicator)
        self.threaded = plumpy.RemoteProcessThreadController(self.communicator)
        self.ledger = SqlitePersister(database).ledger()
        self._count_ends(database)
        self.waiter = ProcessWaiter(self.communicator, self.final_state, interval=2.0, loop=loop)

    @staticmethod
    def _count_ends(database: Path) -> None:
        # By the database itself: what it says of a process in the end does not tell how often.
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS ends (pid TEXT)")
            connection.execute(
                "CREATE TRIGGER IF NOT EXISTS count_ends AFTER UPDATE OF outcome ON runs "
                "WHEN NEW.outcome IS NOT NULL BEGIN INSERT INTO ends VALUES (NEW.pid); END"
            )

    def ends(self) -> Counter[str]:
        """Return how often each process has ended."""
        return Counter(json.loads(row[0]) for row in self.ledger.query("SELECT pid FROM ends"))

    async def final_state(self, pid: Any) -> str | None:
        """Return the state that a process ended in, None if it has not."""
        run = await self.run_of(pid)
        return None if run is None or run.outcome is None else run.state

    async def ended(self, pid: str) -> Any:
        """Wait for the end of a process; return what is known of it."""
        try:
            state = await asyncio.wait_for(self.waiter.wait(pid), LIMIT)
        except asyncio.TimeoutError:
            raise AssertionError(f"process {pid} is still {await self.run_of(pid)}") from None
        run = await self.run_of(pid)
        assert run.outcome is not None, f"the end of {pid} was told before it was stored"
        assert run.state == state.value
        return run

    async def launch(self, process_class: Any, inputs: Any = None) -> str:
        """Have a process launched; return its pid. Sent again with the same pid, it is the same."""
        pid = f"p{uuid.uuid4()}"
        kwargs = {"pid": pid, "inputs": inputs}
        await self.again(
            lambda: self.controller.launch_process(
                process_class, init_kwargs=kwargs, persist=True, nowait=True, no_reply=True
            )
        )
        return pid

    async def again(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Do something until it works."""
        end = time.monotonic() + LIMIT
        while True:
            task = asyncio.ensure_future(action())
            await asyncio.wait([task], timeout=10)
            # What somebody else overtook, as play does a pause, is answered as cancelled.
            error: BaseException | None = asyncio.TimeoutError()
            if task.done():
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
            else:
                task.cancel()
            if error is None:
                return task.result()
            if not isinstance(error, (*RETRIED, asyncio.CancelledError, asyncio.TimeoutError)):
                raise error
            if time.monotonic() > end:
                raise AssertionError(f"it did not work for {LIMIT} s: {error!r}") from error
            await asyncio.sleep(0.2)

    async def run_of(self, pid: str) -> Any:
        """Return what is known of a process."""
        return await asyncio.to_thread(self.ledger.find, json.dumps(pid))

    async def until(self, pid: str, condition: Callable[[Any], bool]) -> Any:
        """Wait until a condition holds for what is known of a process."""
        end = time.monotonic() + LIMIT
        while True:
            run = await self.run_of(pid)
            if run is not None and condition(run):
                return run
            assert time.monotonic() < end, f"process {pid} is still {run}"
            await asyncio.sleep(0.1)

    async def recorded(self, pid: str) -> dict[str, str]:
        """Return what a process recorded."""
        return await asyncio.to_thread(self.ledger.recorded, json.dumps(pid))


def steps_of(number: int) -> set[str]:
    return {f"step {n}" for n in range(1, number + 1)}


async def launching(driver: Driver) -> None:
    """Processes launched before and during the fault finish once, each step recorded once."""
    pids = [await driver.launch(processes.Steps) for _ in range(3)]
    for pid in pids:
        run = await driver.ended(pid)
        assert run.state == "finished", run
        assert json.loads(run.outcome) == {"result": {"steps": 4}}
        assert set(await driver.recorded(pid)) == steps_of(4)


async def continuing(driver: Driver) -> None:
    """A process that was created is continued, however often that is asked for."""
    pid = f"c{uuid.uuid4()}"
    body = plumpy.process_comms.create_create_body(
        processes.Steps, init_kwargs={"pid": pid}, persist=True
    )
    communicator = driver.communicator
    send = plumpy._sending.send_task_and_wait
    await driver.again(lambda: send(communicator, body, True))
    await driver.until(pid, lambda run: True)
    for _ in range(2):
        await driver.again(lambda: driver.controller.continue_process(pid, no_reply=True))
    run = await driver.ended(pid)
    assert run.state == "finished"
    assert set(await driver.recorded(pid)) == steps_of(4)


async def calling(driver: Driver) -> None:
    """A process can be paused, played and killed by calls."""
    pid = await driver.launch(processes.Waits)
    assert await driver.again(lambda: driver.controller.pause_process(pid, "rest"))
    assert await driver.again(lambda: driver.controller.play_process(pid))
    await driver.again(lambda: driver.controller.get_status(pid))
    await driver.again(lambda: _kill(driver, pid))
    run = await driver.ended(pid)
    assert run.state == "killed"


async def _kill(driver: Driver, pid: str) -> None:
    if (await driver.run_of(pid)).outcome is None:
        await driver.controller.kill_process(pid)


async def broadcasting(driver: Driver) -> None:
    """A broadcast reaches every process."""
    pids = [await driver.launch(processes.Waits) for _ in range(2)]
    for pid in pids:
        await driver.again(lambda pid=pid: driver.controller.pause_process(pid))
    end = time.monotonic() + LIMIT
    paused = set(pids)
    while paused:
        assert time.monotonic() < end, f"still paused: {paused}"
        with contextlib.suppress(*RETRIED):
            await asyncio.to_thread(driver.threaded.play_all)
        await asyncio.sleep(0.3)
        for pid in list(paused):
            status = await driver.again(lambda pid=pid: driver.controller.get_status(pid))
            if not status["paused"]:
                paused.discard(pid)
    for pid in pids:
        await driver.again(lambda pid=pid: _kill(driver, pid))


async def waiting(driver: Driver) -> None:
    """Who waits for a process learns of its end."""
    communicator = driver.communicator
    async with ProcessWaiter(communicator, driver.final_state, interval=1.0) as waiter:
        pid = await driver.launch(processes.Steps, {"steps": 6})
        assert await asyncio.wait_for(waiter.wait(pid), LIMIT) is ProcessState.FINISHED


async def chaining(driver: Driver) -> None:
    """A work chain goes on when its children have ended; they are run once."""
    pid = await driver.launch(processes.Parent)
    run = await driver.ended(pid)
    assert json.loads(run.outcome) == {"result": {"steps": 6}}, run
    assert set(await driver.recorded(pid)) == {"end"}


Action = Callable[[Driver], Awaitable[None]]
ACTIONS: list[Action] = [launching, continuing, calling, broadcasting, waiting, chaining]
