"""Waiting from synchronous code: who may, in which task, with which context."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

import plumpy
from plumpy import greenback_bridge

from .helpers import HANG

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


async def test_sync_await_gets_the_result() -> None:
    assert await plumpy.run_with_portal(lambda: plumpy.sync_await(answer())) == 42


async def test_sync_await_gets_the_exception() -> None:
    async def breaks() -> None:
        raise ValueError("broken")

    def function() -> str:
        with pytest.raises(ValueError, match="broken"):
            plumpy.sync_await(breaks())
        return "went on"

    assert await plumpy.run_with_portal(function) == "went on"


async def test_sync_await_takes_futures_tasks_and_objects_with_await() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return answer("object").__await__()

    def function() -> list[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        task = loop.create_task(answer("task"))
        return [plumpy.sync_await(each) for each in (future, task, Awaitable())]

    assert await plumpy.run_with_portal(function) == ["future", "task", "object"]


async def test_sync_await_refuses_what_is_not_awaitable() -> None:
    def function() -> None:
        with pytest.raises(TypeError, match="can't be awaited"):
            plumpy.sync_await(1)  # type: ignore[arg-type]

    await plumpy.run_with_portal(function)


async def test_sync_await_happens_in_the_task_of_the_caller() -> None:
    async def task_of() -> Any:
        return asyncio.current_task()

    assert await plumpy.run_with_portal(lambda: plumpy.sync_await(task_of())) is (
        asyncio.current_task()
    )


async def test_cancelling_the_task_raises_in_the_synchronous_code() -> None:
    started = asyncio.Event()
    seen: list[BaseException] = []

    async def forever() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    def function() -> None:
        try:
            plumpy.sync_await(forever())
        except asyncio.CancelledError as exc:
            seen.append(exc)
            raise

    task = asyncio.create_task(plumpy.run_with_portal(function))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(seen) == 1


async def test_synchronous_code_may_go_on_after_a_cancellation() -> None:
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    def function() -> Any:
        try:
            plumpy.sync_await(forever())
        except asyncio.CancelledError:
            return plumpy.sync_await(answer("cleaned up"))

    task = asyncio.create_task(plumpy.run_with_portal(function))
    await started.wait()
    task.cancel()
    assert await task == "cleaned up"


async def test_waits_within_waits_go_deeper_than_the_recursion_limit() -> None:
    assert sys.getrecursionlimit() == 1000

    def function(levels: int) -> int:
        async def below() -> int:
            return function(levels - 1) + 1

        return plumpy.sync_await(below()) if levels else 0

    assert await plumpy.run_with_portal(function, 5000) == 5000


async def test_loop_serves_others_while_synchronous_code_waits() -> None:
    order: list[str] = []
    both = asyncio.Event()

    def function(name: str) -> None:
        order.append(f"{name} waits")
        if len(order) == 2:
            both.set()
        plumpy.sync_await(both.wait())

    await asyncio.gather(
        plumpy.run_with_portal(function, "first"), plumpy.run_with_portal(function, "second")
    )
    assert order == ["first waits", "second waits"]


def test_no_portal_outside_of_loops() -> None:
    assert not plumpy.has_portal()
    with pytest.raises(RuntimeError, match="no greenback portal"):
        plumpy.sync_await(answer())
    gc.collect()


async def test_no_portal_in_a_plain_task() -> None:
    assert not plumpy.has_portal()
    with pytest.raises(RuntimeError, match="no greenback portal"):
        plumpy.sync_await(answer())
    with pytest.raises(RuntimeError, match="no greenback portal"):
        plumpy.run_until_complete(asyncio.get_running_loop(), answer())
    gc.collect()


async def test_no_portal_in_a_callback_of_the_loop() -> None:
    seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def function() -> None:
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(plumpy.has_portal()))
        plumpy.sync_await(asyncio.sleep(0))

    await plumpy.run_with_portal(function)
    assert await seen is False


async def test_no_portal_in_another_thread() -> None:
    def function() -> Any:
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(plumpy.has_portal()))
        thread.start()
        thread.join()
        return seen, plumpy.has_portal()

    assert await plumpy.run_with_portal(function) == ([False], True)


async def test_ensure_portal_lasts_for_the_task() -> None:
    async def task() -> Any:
        await plumpy.ensure_portal()
        assert plumpy.has_portal()
        results = [plumpy.sync_await(answer(1))]
        await asyncio.sleep(0)
        assert plumpy.has_portal()
        results.append(plumpy.sync_await(answer(2)))
        await plumpy.ensure_portal()
        results.append(plumpy.sync_await(answer(3)))
        return results

    running = asyncio.create_task(task(), name="mine")
    assert await running == [1, 2, 3]
    assert running.get_name() == "mine"
    assert "task()" in repr(running)


async def test_ensure_portal_leaves_cancellation_alone() -> None:
    opened = asyncio.Event()

    async def task() -> None:
        await plumpy.ensure_portal()
        opened.set()
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(task())
    await opened.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_ensure_portal_works_for_tasks_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    async def task() -> Any:
        await plumpy.ensure_portal()
        return plumpy.sync_await(answer())

    task_class = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    running = task_class(task(), loop=asyncio.get_running_loop())
    assert await running == 42


def test_run_until_complete_runs_a_loop_that_is_not_running() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert plumpy.run_until_complete(loop, answer()) == 42
        assert plumpy.run_until_complete(loop, loop.create_task(answer("task"))) == "task"
        # What it runs may wait from synchronous code.
        assert plumpy.run_until_complete(loop, synchronous()) == 42
    finally:
        loop.close()


async def synchronous() -> Any:
    return plumpy.sync_await(answer())


def test_run_until_complete_refuses_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        plumpy.run_until_complete(loop, answer())
    gc.collect()


def test_run_until_complete_uses_a_loop_that_runs_in_another_thread() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def where() -> Any:
        return threading.current_thread()

    try:
        assert plumpy.run_until_complete(loop, where()) is thread
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANG)
        loop.close()


async def test_run_until_complete_waits_for_another_thread_without_blocking_the_loop() -> None:
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    loop = asyncio.get_running_loop()
    ticked = asyncio.Event()
    loop.call_soon(ticked.set)

    async def wait_for_tick() -> Any:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ticked.wait(), loop))
        return threading.current_thread()

    def function() -> Any:
        return plumpy.run_until_complete(other, wait_for_tick())

    try:
        assert await asyncio.wait_for(plumpy.run_with_portal(function), HANG) is thread
    finally:
        other.call_soon_threadsafe(other.stop)
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        other.close()


async def test_context_of_the_caller_goes_in_and_comes_back() -> None:
    async def inner() -> str:
        seen = variable.get()
        variable.set("inner")
        return seen

    def function() -> tuple[str, str]:
        variable.set("outer")
        seen = plumpy.run_until_complete(asyncio.get_running_loop(), inner())
        return seen, variable.get()

    assert await plumpy.run_with_portal(function) == ("outer", "inner")


def test_context_set_by_a_top_level_run_stays_inside() -> None:
    async def inner() -> str:
        seen = variable.get()
        variable.set("inner")
        return seen

    def function() -> None:
        variable.set("outer")
        loop = asyncio.new_event_loop()
        try:
            assert plumpy.run_until_complete(loop, inner()) == "outer"
        finally:
            loop.close()
        assert variable.get() == "outer"

    contextvars.copy_context().run(function)


async def test_generator_exit_of_a_dropped_task_reaches_the_synchronous_code() -> None:
    seen: list[BaseException] = []

    def function() -> None:
        try:
            plumpy.sync_await(asyncio.get_running_loop().create_future())
        except BaseException as exc:
            seen.append(exc)
            raise

    coroutine = plumpy.run_with_portal(function)
    coroutine.send(None)
    coroutine.close()
    assert [type(exc) for exc in seen] == [GeneratorExit]


@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
@pytest.mark.parametrize("first", ["plumpy", "nest"])
def test_nest_asyncio_may_be_active_too(first: str, module: str) -> None:
    """In either order; plumpy alone never imports it."""
    pytest.importorskip(module)
    imports = ["import plumpy; assert 'nest_asyncio' not in sys.modules", f"import {module} as n"]
    if first == "nest":
        imports.reverse()
        imports[-1] = "import plumpy"
    script = textwrap.dedent("""
        import asyncio, sys
        {imports}
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        n.apply(loop)

        class Child(plumpy.Process):
            async def run(self):
                await asyncio.sleep(0)
                assert plumpy.Process.current() is self
                return 1

        class Parent(plumpy.Process):
            def run(self):
                before = asyncio.current_task(), asyncio.get_running_loop()
                child = Child()
                child.execute()
                assert plumpy.Process.current() is self
                other = Child()
                self.loop.run_until_complete(other.step_until_terminated())
                assert (asyncio.current_task(), asyncio.get_running_loop()) == before
                return child.result() + other.result()

        parent = Parent()
        parent.execute()
        assert parent.result() == 2

        async def main():
            # From plain code in a running loop: nest_asyncio has made that possible.
            parent = Parent()
            parent.execute()
            await plumpy.ensure_portal()
            assert plumpy.sync_await(asyncio.sleep(0, "slept")) == "slept"
            return parent.result()

        assert asyncio.run(main()) == 2
        loop.close()
        print("well")
    """).format(imports="\n".join(imports))
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (0, "well\n"), run.stderr


def test_names_are_those_of_the_module() -> None:
    for name in greenback_bridge.__all__:
        function = getattr(greenback_bridge, name)
        assert function is getattr(plumpy, name)
        assert function.__module__ == "plumpy.greenback_bridge"
