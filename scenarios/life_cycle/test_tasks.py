"""Cancelling, timing out, gathering, dropping: what tasks do that surprises."""

import asyncio
import concurrent.futures
import gc
import os
import signal
import weakref

from harness.scenario import scenario


@scenario(
    id="L21",
    title="gather() raises on the first error and leaves the other tasks running",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.gather",
    present=("python_version >= '3.6'",),
)
async def test_gather_ends_its_siblings_when_one_fails() -> None:
    """Symptom: work goes on, unowned, after the error was handled.

    Cause: gather() has no structured cancellation.
    Fix: asyncio.TaskGroup (3.11+), or cancel the tasks that you gave it.
    """

    async def fails() -> None:
        raise KeyError("on purpose")

    sibling = asyncio.ensure_future(asyncio.sleep(10))
    try:
        await asyncio.gather(fails(), sibling)
    except KeyError:
        await asyncio.sleep(0)
    left = not sibling.done()
    sibling.cancel()
    assert not left, "the sibling is still running"


@scenario(
    id="L24",
    title="wait_for() swallows a cancellation that arrives together with the result",
    source="https://github.com/python/cpython/issues/86296",
    present=("python_version >= '3.8' and python_version < '3.12'",),
)
async def test_cancellation_gets_through_wait_for() -> None:
    """Symptom: now and then a cancelled task goes on as if nothing had happened.

    Cause: "if future.done(): return its result" in wait_for()'s except CancelledError branch.
    Fix: Python 3.12, where wait_for() is built on asyncio.timeout().
    """
    ready = asyncio.get_event_loop().create_future()

    async def waits() -> None:
        await asyncio.wait_for(ready, 10)

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    ready.set_result(None)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), "the cancellation was swallowed"


@scenario(
    id="L25",
    title="'except Exception' swallows a cancellation",
    source="https://docs.python.org/3/whatsnew/3.8.html#asyncio",
    present=("python_version < '3.8'",),
)
async def test_retry_loop_can_be_cancelled() -> None:
    """Symptom: a task with a retry loop cannot be cancelled.

    Cause: up to Python 3.7 CancelledError is an Exception.
    Fix: Python 3.8; before, "except asyncio.CancelledError: raise" first.
    """

    async def retries() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0)
            except Exception:
                pass

    task = asyncio.ensure_future(retries())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@scenario(
    id="L26",
    title="'except asyncio.TimeoutError' misses the time-out of a concurrent future",
    source="https://docs.python.org/3/whatsnew/3.11.html#asyncio",
    present=("python_version >= '3.8' and python_version < '3.11'",),
)
async def test_both_kinds_of_futures_time_out_alike() -> None:
    """Symptom: run_coroutine_threadsafe(...).result(timeout) raises past the except clause.

    Cause: three classes called TimeoutError became two in 3.8 and one in 3.11.
    Fix: Python 3.11; before, catch concurrent.futures.TimeoutError as well.
    """
    try:
        concurrent.futures.Future().result(timeout=0)
    except asyncio.TimeoutError:
        pass


@scenario(
    id="L28",
    title="A task that nobody refers to is garbage collected in the middle",
    source="https://github.com/python/cpython/issues/91887",
    present=("python_version >= '3.6'",),
)
async def test_task_lives_until_it_is_done() -> None:
    """Symptom: fire-and-forget work vanishes; "Task was destroyed but it is pending!" at best.

    Cause: the loop keeps only weak references to tasks; a task that waits for a future only it
    refers to is a cycle that nothing holds.
    Fix: keep the task in a set until it is done.
    """

    async def waits() -> None:
        await asyncio.get_event_loop().create_future()

    task = weakref.ref(asyncio.ensure_future(waits()))
    await asyncio.sleep(0)
    gc.collect()
    assert task() is not None, "the pending task is gone"


@scenario(
    id="L28w",
    title="A task that the program keeps in a set lives until it is done",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task",
    planted=lambda: globals().update(kept=weakref.WeakSet()),
)
async def test_kept_task_lives_until_it_is_done() -> None:
    """Symptom: none; this is the way that works, where the loop alone does not keep a task.

    Cause: a strong reference from outside the cycle.
    """

    async def waits() -> None:
        await asyncio.get_event_loop().create_future()

    kept.add(asyncio.ensure_future(waits()))
    await asyncio.sleep(0)
    gc.collect()
    assert len(kept) == 1


kept = set()


def _interrupt_a_background_task() -> None:
    """Send SIGINT while a background task of asyncio.run() executes, in the main thread."""

    async def background() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
        except KeyboardInterrupt:
            ended.append("background interrupted")
            raise

    async def main() -> None:
        asyncio.ensure_future(background())
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ended.append("main cancelled")
            raise

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass


@scenario(
    id="L35",
    title="Ctrl-C raises KeyboardInterrupt inside whatever task happens to run",
    source="https://github.com/python/cpython/issues/83803",
    present=("python_version < '3.11'",),
    python=">=3.7",
    prepare=_interrupt_a_background_task,
)
async def test_interrupt_cancels_the_main_task() -> None:
    """Symptom: the main task's clean-up does not run where it should; a background task dies.

    Cause: no SIGINT handler: the exception comes out of the frame that is executing.
    Fix: Python 3.11, where asyncio.run() cancels the main task.
    """
    assert ended == ["main cancelled"], ended


ended = []


@scenario(
    id="L37",
    title="asyncio.Lock is not re-entrant: taking it twice in one task never returns",
    source="https://docs.python.org/3/library/asyncio-sync.html#lock",
    present=("python_version >= '3.6'",),
    limit=2,
)
async def test_holder_of_a_lock_can_take_it_again() -> None:
    """Symptom: a helper that takes the lock its caller holds hangs.

    Cause: asyncio.Lock has no owner.
    Fix: an inner function that expects the lock to be held.
    """
    lock = asyncio.Lock()
    async with lock:
        async with lock:
            pass


@scenario(
    id="R01",
    title="An exception in a coroutine given to run_coroutine_threadsafe() vanishes",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    present=("python_version >= '3.6'",),
)
async def test_exception_of_a_threadsafe_coroutine_is_reported() -> None:
    """Symptom: the work failed, and neither the log nor the loop's exception handler says so.

    Cause: the task's exception is handed to the concurrent future, which counts as retrieved; a
    concurrent future that nobody asks says nothing.
    Fix: keep the future and ask for its result(), or give it a done-callback that logs.
    """
    loop, reported = asyncio.get_event_loop(), []
    loop.set_exception_handler(lambda _, context: reported.append(context))

    async def fails() -> None:
        raise KeyError("on purpose")

    def communicator() -> None:
        asyncio.run_coroutine_threadsafe(fails(), loop)

    await loop.run_in_executor(None, communicator)
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert reported


@scenario(
    id="R01w",
    title="The future of run_coroutine_threadsafe() holds the exception for whoever asks",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    planted=lambda: setattr(asyncio.futures, "_chain_future", lambda source, destination: None),
    limit=3,
)
async def test_exception_of_a_threadsafe_coroutine_is_raised_by_its_result() -> None:
    """Symptom: none; this is the way that works: ask the future.

    Cause: the concurrent future carries the exception to the thread that asks.
    """

    async def fails() -> None:
        raise KeyError("on purpose")

    loop = asyncio.get_event_loop()

    def communicator() -> None:
        asyncio.run_coroutine_threadsafe(fails(), loop).result()

    try:
        await loop.run_in_executor(None, communicator)
    except KeyError:
        return
    raise AssertionError("result() did not raise")
