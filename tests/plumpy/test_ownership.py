"""Who keeps processes alive, and that nobody does for longer than they run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, ClassVar

import pytest

import plumpy
from plumpy import Process, ProcessState
from plumpy._owned import under_way

from .helpers import Waits, ended, entered, stepping

NUMBER = 1000


async def test_process_that_has_ended_goes_without_the_garbage_collector() -> None:
    """So 0.26.1 does not: a process and its last state refer to each other there."""
    gc.disable()
    try:
        process = Process()
        await asyncio.create_task(process.step_until_terminated())
        state: Any = process._state
        assert state.process is state.state_machine is process
        reference = weakref.ref(process)
        del process
        assert reference() is None
    finally:
        gc.enable()


async def test_process_that_waits_has_no_dictionary_of_its_own() -> None:
    """CPython gives an instance one when it has more attributes than the first ones had."""

    class First(Waits):
        pass

    processes = [First() for _ in range(40)]
    tasks = [asyncio.create_task(process.step_until_terminated()) for process in processes]
    for process in processes:
        await entered(process, ProcessState.WAITING)
    assert not [other for other in gc.get_referents(processes[-1]) if type(other) is dict]
    for process in processes:
        process.resume()
    await asyncio.gather(*tasks)


class Counted(Process):
    alive: ClassVar[weakref.WeakSet[Process]] = weakref.WeakSet()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Counted.alive.add(self)


class Empty(Counted):
    async def run(self) -> None:
        pass


class Plain(Counted):
    def run(self) -> None:
        pass


class Fails(Counted):
    def run(self) -> None:
        raise ValueError("failed")


class WaitsOnce(Counted, Waits):
    def on_waiting(self) -> None:
        super().on_waiting()
        self.call_soon(self.resume)


class Launches(Counted):
    async def run(self) -> None:
        await self.launch(Empty).future()


class Executes(Counted):
    def run(self) -> None:
        Empty().execute()


class LeavesTimer(Counted):
    """Its context stays behind in a timer of the loop."""

    async def run(self) -> None:
        asyncio.get_running_loop().call_later(3600, print)


@pytest.mark.parametrize(
    "process_class", [Empty, Plain, Fails, WaitsOnce, Launches, Executes, LeavesTimer]
)
async def test_processes_run_and_dropped_leave_none(process_class: type[Process]) -> None:
    for start in range(0, NUMBER, 100):
        processes = [process_class() for _ in range(start, start + 100)]
        await asyncio.gather(*(process.step_until_terminated() for process in processes))
        assert all(process.has_terminated() for process in processes)
        del processes
    gc.collect()
    assert len(Counted.alive) == 0
    assert under_way(asyncio.get_running_loop()) == {}


def test_executed_processes_leave_none() -> None:
    for _ in range(NUMBER):
        Empty().execute()
    gc.collect()
    assert len(Counted.alive) == 0


async def test_killed_processes_leave_none() -> None:
    processes = [WaitsForever() for _ in range(100)]
    tasks = [stepping(process) for process in processes]
    for process in processes:
        await entered(process, ProcessState.WAITING)
        process.kill()
    for task in tasks:
        await ended(task)
    del process, processes, task, tasks
    gc.collect()
    assert len(Counted.alive) == 0


class WaitsForever(Counted, Waits):
    pass


async def test_process_that_waits_is_kept_alive_without_any_reference() -> None:
    process = Waits()
    reference = weakref.ref(process)
    asyncio.get_running_loop().create_task(process.step_until_terminated())
    await entered(process, ProcessState.WAITING)
    del process
    gc.collect()
    waiting = reference()
    assert waiting is not None
    future = waiting.future()
    waiting.resume()
    del waiting
    await future
    await asyncio.sleep(0)
    gc.collect()
    assert reference() is None


def test_what_is_under_way_ends_with_its_loop() -> None:
    loop = asyncio.new_event_loop()
    process = Waits(loop=loop)
    reference = weakref.ref(process)
    task = loop.create_task(process.step_until_terminated())
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    del loop, process, task
    gc.collect()
    assert reference() is None


async def test_future_does_not_keep_its_process() -> None:
    process = plumpy.Process()
    future = process.future()
    await process.step_until_terminated()
    reference = weakref.ref(process)
    del process
    gc.collect()
    assert reference() is None
    assert future.result() == {}
