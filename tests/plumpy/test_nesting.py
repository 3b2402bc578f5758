"""Processes that execute processes: on the same loop, on another one, in another thread."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import plumpy
from plumpy import Process, ProcessState

from .helpers import HANG, Waits, entered

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def surroundings() -> tuple[Any, ...]:
    """The current loop, the running loop, the current task and the policy."""
    running = asyncio._get_running_loop()
    if sys.version_info >= (3, 14):
        policy = asyncio.events._get_event_loop_policy()
    else:
        policy = asyncio.get_event_loop_policy()
    return (
        policy._local._loop,
        running,
        asyncio.current_task() if running is not None else None,
        policy,
    )


def execute_on_same_loop(process_class: type[Process], parent: Process, **inputs: Any) -> Process:
    process = process_class(inputs or None, loop=parent.loop)
    process.execute()
    return process


def execute_on_new_loop(process_class: type[Process], parent: Process, **inputs: Any) -> Process:
    loop = asyncio.new_event_loop()
    try:
        process = process_class(inputs or None, loop=loop)
        process.execute()
    finally:
        loop.close()
    return process


def execute_in_thread(process_class: type[Process], parent: Process, **inputs: Any) -> Process:
    """Another thread, with a loop of its own, while the parent waits without blocking its loop."""
    done = parent.loop.create_future()
    made: list[Process] = []

    def work() -> None:
        try:
            made.append(execute_on_new_loop(process_class, parent, **inputs))
        finally:
            parent.loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    plumpy.sync_await(done)
    thread.join(HANG)
    return made[0]


Execute = Callable[..., Process]
WAYS: list[Execute] = [execute_on_same_loop, execute_on_new_loop, execute_in_thread]


class Leaf(Process):
    async def run(self) -> str:
        assert Process.current() is self
        assert asyncio.get_running_loop() is self.loop
        seen = variable.get()
        variable.set("set by the leaf")
        await asyncio.sleep(0.001)
        assert Process.current() is self
        return seen


def branch(ways: tuple[Execute, ...], is_async: bool) -> type[Process]:
    """A process that executes another in the first way, which executes another in the second..."""
    child = branch(ways[1:], not is_async) if len(ways) > 1 else Leaf

    def run_child(self: Process) -> Any:
        assert Process.current() is self
        variable.set(f"set by level {len(ways)}")
        before = surroundings()
        executed = ways[0](child, self)
        assert surroundings() == before
        assert Process.current() is self
        seen = executed.result()
        return seen

    class Branch(Process):
        if is_async:

            async def run(self) -> Any:
                result = run_child(self)
                await asyncio.sleep(0)
                assert Process.current() is self
                return result
        else:

            def run(self) -> Any:
                return run_child(self)

    return Branch


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(
    "ways",
    [ways for length in (1, 2, 3) for ways in itertools.product(WAYS, repeat=length)],
    ids=lambda ways: "-".join(way.__name__.removeprefix("execute_") for way in ways),
)
def test_nesting_keeps_process_context_and_surroundings(
    ways: tuple[Execute, ...], is_async: bool
) -> None:
    def execute() -> Any:
        before = surroundings()
        loop = asyncio.new_event_loop()
        try:
            process = branch(ways, is_async)(loop=loop)
            process.execute()
        finally:
            loop.close()
        assert surroundings() == before
        assert Process.current() is None
        return process.result()

    assert contextvars.Context().run(execute) == "set by level 1"


@pytest.mark.parametrize("way", [execute_on_same_loop, execute_on_new_loop])
async def test_what_the_inner_run_sets_is_seen_by_the_outer(way: Execute) -> None:
    class Outer(Process):
        def run(self) -> str:
            variable.set("outer")
            way(Leaf, self)
            return variable.get()

    process = Outer()
    await process.step_until_terminated()
    assert process.result() == "set by the leaf"
    # A task has a context of its own; but this one stepped the process itself.
    assert variable.get() == "set by the leaf"


@pytest.mark.parametrize("way", [execute_on_same_loop, execute_on_new_loop])
async def test_outer_loop_serves_everything_else_meanwhile(way: Execute) -> None:
    inside, served = threading.Event(), threading.Event()

    class Inner(Process):
        async def run(self) -> bool:
            inside.set()
            while not served.is_set():
                await asyncio.sleep(0)
            return True

    class Outer(Process):
        def run(self) -> Any:
            return way(Inner, self).result()

    async def serve() -> None:
        while not inside.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        served.set()

    serving = asyncio.create_task(serve())
    process = Outer()
    await asyncio.wait_for(process.step_until_terminated(), HANG)
    await serving
    assert process.result() is True


def test_nesting_on_new_loops_does_not_grow_the_stack() -> None:
    class Deep(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.input("levels")

        def run(self) -> int:
            levels = self.inputs.levels
            if not levels:
                return 0
            return execute_on_new_loop(Deep, self, levels=levels - 1).result() + 1

    process = Deep({"levels": 150})
    process.execute()
    assert process.result() == 150


async def test_exception_of_the_inner_process_reaches_the_outer() -> None:
    class Breaks(Process):
        def run(self) -> None:
            raise ValueError("inner")

    class Outer(Process):
        def run(self) -> list[str]:
            caught = []
            for way in (execute_on_same_loop, execute_on_new_loop):
                try:
                    way(Breaks, self)
                except ValueError as exc:
                    caught.append(str(exc))
            return caught

    process = Outer()
    await process.step_until_terminated()
    assert process.result() == ["inner", "inner"]


@pytest.mark.parametrize("new_loop", [False, True])
async def test_inner_process_can_be_controlled_from_the_outer_loop(new_loop: bool) -> None:
    inner: list[Waits] = []
    made = asyncio.Event()

    class Outer(Process):
        def run(self) -> Any:
            loop = asyncio.new_event_loop() if new_loop else self.loop
            try:
                inner.append(Waits(loop=loop))
                made.set()
                inner[0].execute()
            finally:
                if new_loop:
                    loop.close()
            return inner[0].result()

    process = Outer()
    task = asyncio.create_task(process.step_until_terminated())
    await made.wait()
    while inner[0].state is not ProcessState.WAITING:
        await asyncio.sleep(0)
    assert inner[0].play()
    inner[0].resume("from outside")
    await asyncio.wait_for(task, HANG)
    assert process.result() == ("from outside",)


@pytest.mark.parametrize("new_loop", [False, True])
async def test_cancelling_the_outer_task_cancels_the_inner_run(new_loop: bool) -> None:
    inner: list[Waits] = []
    made = asyncio.Event()

    class Outer(Process):
        def run(self) -> None:
            loop = asyncio.new_event_loop() if new_loop else self.loop
            try:
                inner.append(Waits(loop=loop))
                made.set()
                inner[0].execute()
            finally:
                if new_loop:
                    loop.close()

    process = Outer()
    task = asyncio.create_task(process.step_until_terminated())
    await made.wait()
    while inner[0].state is not ProcessState.WAITING:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), HANG)
    assert inner[0].state is ProcessState.WAITING
    assert process.state is ProcessState.RUNNING


async def test_execute_of_a_guest_again_from_the_host() -> None:
    """Two callers wait for processes of one loop that runs beside theirs."""
    loop = asyncio.new_event_loop()
    first_made = asyncio.Event()
    processes: list[Waits] = []

    class First(Process):
        def run(self) -> Any:
            processes.append(Waits(loop=loop))
            first_made.set()
            processes[0].execute()
            return processes[0].result()

    class Second(Process):
        def run(self) -> Any:
            leaf = Leaf(loop=loop)
            leaf.execute()
            return leaf.result()

    first, second = First(), Second()
    task = asyncio.create_task(first.step_until_terminated())
    await first_made.wait()
    while processes[0].state is not ProcessState.WAITING:
        await asyncio.sleep(0)
    await asyncio.wait_for(second.step_until_terminated(), HANG)
    assert second.is_successful
    # From plain code there is no way to wait for a loop of this very thread.
    with pytest.raises(RuntimeError, match="no greenback portal"):
        plumpy.run_until_complete(loop, asyncio.sleep(0))
    gc.collect()
    processes[0].resume()
    await asyncio.wait_for(task, HANG)
    loop.close()


async def test_guest_loop_keeps_its_timers_and_generators() -> None:
    async def numbers() -> Any:
        for number in range(3):
            await asyncio.sleep(0.001)
            yield number

    class Inner(Process):
        async def run(self) -> Any:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.wait_for(asyncio.sleep(0.01), HANG)
            assert loop.time() - began >= 0.009
            return [number async for number in numbers()]

    class Outer(Process):
        def run(self) -> Any:
            return execute_on_new_loop(Inner, self).result()

    process = Outer()
    hooks = sys.get_asyncgen_hooks()
    await process.step_until_terminated()
    assert process.result() == [0, 1, 2]
    assert sys.get_asyncgen_hooks() == hooks


async def test_loop_without_a_selector_is_refused_in_words() -> None:
    class NoSelector(asyncio.SelectorEventLoop):
        pass

    loop = NoSelector()
    selector, loop._selector = loop._selector, None  # type: ignore[attr-defined]

    def function() -> None:
        with pytest.raises(RuntimeError, match="NoSelector cannot run beside a running loop"):
            plumpy.run_until_complete(loop, asyncio.sleep(0))

    await plumpy.run_with_portal(function)
    gc.collect()
    loop._selector = selector  # type: ignore[attr-defined]
    loop.close()


def test_execute_from_a_thread_without_loop_uses_the_running_loop_of_the_process() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        process = Leaf(loop=loop)
        assert process.execute() == {}
        assert process.is_successful
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANG)
        loop.close()


async def test_hooks_may_execute_too() -> None:
    """Also those that run after the end, in whatever task steps the process."""
    seen: list[Any] = []

    class Hooked(Process):
        def on_terminated(self) -> None:
            super().on_terminated()
            leaf = Leaf()
            leaf.execute()
            seen.append(leaf.is_successful)

        def on_running(self) -> None:
            super().on_running()
            seen.append(plumpy.sync_await(asyncio.sleep(0, "slept")))

    process = Hooked()
    await process.step_until_terminated()
    assert process.is_successful
    assert seen == ["slept", True]


async def test_callbacks_may_execute_too() -> None:
    process = Waits()
    task = asyncio.create_task(process.step_until_terminated())
    await entered(process, ProcessState.WAITING)

    def callback() -> None:
        assert Process.current() is process
        Leaf().execute()
        assert Process.current() is process
        process.resume("done")

    process.call_soon(callback)
    await asyncio.wait_for(task, HANG)
    assert process.result() == ("done",)
