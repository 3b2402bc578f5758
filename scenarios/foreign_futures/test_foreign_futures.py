"""A future belongs to the loop it was made for."""

import asyncio
import threading

from harness.scenario import scenario


@scenario(
    id="L03",
    title="Awaiting a future of another loop: 'attached to a different loop'",
    source="https://docs.python.org/3/library/asyncio-future.html",
    present=("python_version >= '3.6'",),
)
async def test_future_of_another_loop_can_be_awaited() -> None:
    """Symptom: "RuntimeError: Task ... got Future ... attached to a different loop".

    Cause: a Future belongs to one loop; a task of another loop refuses it.
    Fix: make the future with the running loop's create_future(), or hand the wait to its own loop
    with run_coroutine_threadsafe().
    """
    other = asyncio.new_event_loop()
    foreign = other.create_future()
    other.call_soon(foreign.set_result, 42)
    thread = threading.Thread(target=other.run_until_complete, args=(foreign,), daemon=True)
    asyncio.get_event_loop().call_soon(thread.start)
    assert await foreign == 42


def _plant_loops_that_hear_no_thread() -> None:
    """Make loops that drop what another thread hands over."""
    asyncio.BaseEventLoop.call_soon_threadsafe = lambda *_, **__: None  # type: ignore[assignment, method-assign]


@scenario(
    id="L03w",
    title="A future of another loop is awaited through run_coroutine_threadsafe()",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    planted=_plant_loops_that_hear_no_thread,
    limit=3,
)
async def test_work_of_another_loop_can_be_awaited() -> None:
    """Symptom: none; this is the way that works, where a plain await is refused.

    Cause: the coroutine awaits its future in its own loop; wrap_future() carries the result over
    with call_soon_threadsafe().
    """
    other = asyncio.new_event_loop()
    threading.Thread(target=other.run_forever, daemon=True).start()
    foreign = other.create_future()
    other.call_soon_threadsafe(foreign.set_result, 42)

    async def in_its_own_loop() -> int:
        return await foreign

    future = asyncio.run_coroutine_threadsafe(in_its_own_loop(), other)
    assert await asyncio.wrap_future(future) == 42
    other.call_soon_threadsafe(other.stop)


@scenario(
    id="L04",
    title="A done-callback on a future of a loop that does not run is never called",
    source="https://docs.python.org/3/library/asyncio-future.html#asyncio.Future.add_done_callback",
    present=("python_version >= '3.6'",),
)
async def test_done_callback_of_a_foreign_future_is_called() -> None:
    """Symptom: a silent hang: asyncio.wait(), shield() and callbacks raise nothing (a plain await
    does).

    Cause: the callback is scheduled on the future's own loop, and nobody runs that.
    Fix: asyncio.run_coroutine_threadsafe() to the loop that the future is for, while it runs.
    """
    foreign, called = asyncio.new_event_loop().create_future(), []
    foreign.add_done_callback(called.append)
    foreign.set_result(42)
    for _ in range(10):
        await asyncio.sleep(0)
    assert called, "the future is done and nobody was told"


@scenario(
    id="L08",
    title="Lock, Event, Queue and Semaphore belong to the loop that was current when made",
    source="https://docs.python.org/3/whatsnew/3.10.html#asyncio",
    present=("python_version < '3.10'",),
    limit=3,
)
async def test_primitive_made_before_the_loop_works_in_the_loop() -> None:
    """Symptom: a lock made at import time hangs or fails ("attached to a different loop").

    Cause: before Python 3.10 the constructor took get_event_loop().
    Fix: Python 3.10; before, make primitives inside a coroutine.
    """
    running = asyncio.get_event_loop()

    def made_at_import_time() -> asyncio.Event:
        asyncio.set_event_loop(asyncio.new_event_loop())
        return asyncio.Event()

    event = await running.run_in_executor(None, made_at_import_time)
    running.call_soon(event.set)
    await event.wait()


@scenario(
    id="L34",
    title="The result of an executor job is lost, noisily, when its loop was closed meanwhile",
    source="https://github.com/python/asyncio/issues/258",
    present=("python_version < '3.10'",),
)
async def test_late_executor_result_makes_no_noise() -> None:
    """Symptom: "RuntimeError: Event loop is closed" logged in a worker thread after shutdown.

    Cause: the job's future calls call_soon_threadsafe() of the closed loop.
    Fix: Python 3.10 drops the result silently; shut the executor down before the loop is closed.
    """
    import concurrent.futures
    import logging

    said, release, ended = [], threading.Event(), threading.Event()
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logging.getLogger("concurrent.futures").addHandler(handler)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    loop = asyncio.new_event_loop()
    loop.run_in_executor(pool, release.wait)
    loop.close()
    release.set()
    pool.submit(ended.set)
    ended.wait()
    assert not said, said[0].getMessage()


@scenario(
    id="F01",
    title="A future made with Future() before the loop runs belongs to the loop current then",
    source="https://docs.python.org/3/library/asyncio-future.html#asyncio.Future",
    present=("python_version >= '3.6'",),
)
async def test_future_made_in_a_constructor_fits_the_loop_that_runs_later() -> None:
    """Symptom: an object that makes a Future in __init__() cannot be used in the loop that runs it.

    Cause: Future() without loop= takes the current loop of the moment and keeps it.
    Fix: make it lazily, inside a coroutine, with get_running_loop().create_future().
    """
    running = asyncio.get_event_loop()

    def constructor() -> "asyncio.Future[int]":
        asyncio.set_event_loop(asyncio.new_event_loop())
        return asyncio.Future()

    future = await running.run_in_executor(None, constructor)
    running.call_soon(future.set_result, 42)
    assert await future == 42


@scenario(
    id="F02",
    title="gather() of futures of two loops is refused",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.gather",
    present=("python_version >= '3.6'",),
)
async def test_gather_waits_for_futures_of_several_loops() -> None:
    """Symptom: "ValueError: futures are tied to different event loops" or a wait without end.

    Cause: gather() is one future of one loop; its children must be of the same loop.
    Fix: asyncio.wrap_future(run_coroutine_threadsafe(...)) for what belongs to another loop.
    """
    running, other = asyncio.get_event_loop(), asyncio.new_event_loop()
    own, foreign = running.create_future(), other.create_future()
    own.set_result(1)
    foreign.set_result(2)
    assert await asyncio.wait_for(asyncio.gather(own, foreign), 1) == [1, 2]


@scenario(
    id="F03",
    title="A result that comes for a cancelled future: InvalidStateError in a callback",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("python_version >= '3.6'",),
)
async def test_result_set_after_a_cancellation_is_dropped_silently() -> None:
    """Symptom: "InvalidStateError: CANCELLED" in a callback, in the middle of an event loop.

    Cause: the receiver cancelled between the decision to set the result and the callback that
    sets it: call_soon_threadsafe(future.set_result, value) does not ask again.
    Workaround: a callback that checks future.done() before it sets the result.
    """
    loop, errors = asyncio.get_event_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    future = loop.create_future()
    loop.call_soon_threadsafe(future.set_result, 42)
    future.cancel()
    await asyncio.sleep(0)
    assert not errors, repr(errors[0])


@scenario(
    id="F04",
    title="Future() in a worker thread: 'There is no current event loop in thread'",
    source="https://docs.python.org/3/library/asyncio-future.html#asyncio.Future",
    present=("python_version >= '3.6'",),
)
async def test_future_can_be_made_in_a_worker_thread() -> None:
    """Symptom: RuntimeError in the thread that makes a future for the loop to wait for.

    Cause: Future() without loop= asks for the current loop, and a worker thread has none.
    Fix: create_future() of the loop that is to wait.
    """
    future = await asyncio.get_event_loop().run_in_executor(None, asyncio.Future)
    assert asyncio.isfuture(future)


def _plant_futures_of_another_loop() -> None:
    """Make create_future() outside of a running loop give a future of another one."""
    create_future = asyncio.BaseEventLoop.create_future

    def of_another(self):  # type: ignore[no-untyped-def]
        return create_future(self if asyncio._get_running_loop() else asyncio.new_event_loop())

    asyncio.BaseEventLoop.create_future = of_another  # type: ignore[method-assign]


@scenario(
    id="F04w",
    title="A future made in another thread by loop.create_future() is awaited in its loop",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.create_future",
    planted=_plant_futures_of_another_loop,
)
async def test_future_made_for_its_loop_in_another_thread_is_awaited() -> None:
    """Symptom: none; this is the way that works, where Future() finds no loop in the thread.

    Cause: the future belongs to the loop that made it, whichever thread asked for it.
    """
    loop = asyncio.get_event_loop()
    future = await loop.run_in_executor(None, loop.create_future)
    loop.call_soon(future.set_result, 42)
    assert await future == 42
