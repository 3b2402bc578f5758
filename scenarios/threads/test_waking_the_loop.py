"""What wakes a loop that sleeps in select(), and what only looks as if it did."""

import asyncio
import concurrent.futures
import threading

from harness.scenario import scenario


def idle_loop():
    """Return a loop that sleeps in select(), in another thread."""
    loop, asleep = asyncio.new_event_loop(), threading.Event()
    select = loop._selector.select

    def watched(timeout):
        asleep.set()
        return select(timeout)

    loop._selector.select = watched
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asleep.wait()
    return loop


@scenario(
    id="L05",
    title="call_soon() from another thread does not wake the loop",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    present=("python_version >= '3.6'",),
)
async def test_callback_from_another_thread_runs_at_once() -> None:
    """Symptom: the callback runs only when something unrelated happens, or never.

    Cause: call_soon() appends to the ready queue but does not write to the loop's self-pipe, so a
    loop asleep in select() sleeps on.
    Fix: call_soon_threadsafe().
    """
    loop, ran = idle_loop(), threading.Event()
    loop.call_soon(ran.set)
    late = not ran.wait(0.5)
    loop.call_soon_threadsafe(loop.stop)
    assert not late, "the callback had not run after 0.5 s in an idle loop"


def _plant_loops_that_hear_no_thread() -> None:
    """Make loops that drop what another thread hands over."""
    asyncio.BaseEventLoop.call_soon_threadsafe = lambda *_, **__: None  # type: ignore[assignment, method-assign]


@scenario(
    id="L05w",
    title="call_soon_threadsafe() from another thread wakes the loop",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    planted=_plant_loops_that_hear_no_thread,
)
async def test_threadsafe_callback_from_another_thread_runs_at_once() -> None:
    """Symptom: none; this is the way that works, where call_soon() wakes nobody.

    Cause: call_soon_threadsafe() writes one byte to the self-pipe that the loop selects on.
    """
    loop, ran = idle_loop(), threading.Event()
    loop.call_soon_threadsafe(ran.set)
    late = not ran.wait(2)
    loop.call_soon_threadsafe(loop.stop)
    assert not late


@scenario(
    id="L06",
    title="Event.set() or Future.set_result() from another thread does not wake the loop",
    source="https://docs.python.org/3/library/asyncio-sync.html",
    present=("python_version >= '3.6'",),
)
async def test_future_set_by_another_thread_wakes_its_waiter() -> None:
    """Symptom: the waiter hangs although the event is set, until something unrelated happens.

    Cause: asyncio's primitives are not thread-safe; their wake-up is a plain call_soon().
    Fix: loop.call_soon_threadsafe(future.set_result, value).
    """
    loop, woken = idle_loop(), threading.Event()
    future = loop.create_future()
    future.add_done_callback(lambda _: woken.set())
    future.set_result(None)
    late = not woken.wait(0.5)
    loop.call_soon_threadsafe(loop.stop)
    assert not late, "the done-callback had not run after 0.5 s in an idle loop"


@scenario(
    id="L09",
    title="loop.stop() from another thread only sets a flag",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.stop",
    present=("python_version >= '3.6'",),
)
async def test_stop_from_another_thread_stops_the_loop() -> None:
    """Symptom: the loop's thread does not end.

    Cause: stop() sets a flag that the loop reads after its next round, and select() sleeps on.
    Fix: loop.call_soon_threadsafe(loop.stop).
    """
    loop, pause = idle_loop(), threading.Event()
    loop.stop()
    for _ in range(50):
        if not loop.is_running():
            return
        pause.wait(0.01)
    loop.call_soon_threadsafe(loop.stop)
    raise AssertionError("still running 0.5 s after stop()")


@scenario(
    id="L17",
    title="run_coroutine_threadsafe(...).result() in the loop's own thread deadlocks",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    present=("python_version >= '3.6'",),
    limit=2,
)
async def test_result_of_a_threadsafe_call_is_there_in_the_loops_thread() -> None:
    """Symptom: the whole loop hangs.

    Cause: result() blocks the thread whose loop has to run the coroutine.
    Fix: await the coroutine, or asyncio.wrap_future() of the concurrent future.
    """
    loop = asyncio.get_event_loop()
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, result=42), loop)
    assert future.result() == 42


@scenario(
    id="L17w",
    title="run_coroutine_threadsafe() from another thread gets its result",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    planted=_plant_loops_that_hear_no_thread,
    limit=3,
)
async def test_result_of_a_threadsafe_call_is_there_in_another_thread() -> None:
    """Symptom: none; this is the way that works, where the loop's own thread would deadlock.

    Cause: the thread that blocks is not the thread that runs the coroutine.
    """
    loop = asyncio.get_event_loop()

    def elsewhere() -> int:
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, result=42), loop).result()

    assert await loop.run_in_executor(None, elsewhere) == 42


@scenario(
    id="L19",
    title="run_coroutine_threadsafe() to a loop that is not running never completes, silently",
    source="https://docs.python.org/3/library/asyncio-task.html#asyncio.run_coroutine_threadsafe",
    present=("python_version >= '3.6'",),
)
async def test_threadsafe_call_to_an_idle_loop_ends_or_fails() -> None:
    """Symptom: a future that never completes, and no error.

    Cause: the call is queued in a loop that nobody runs (stopped, or not started yet).
    Workaround: give result() a time-out, and check loop.is_running() in the caller.
    """
    idle = asyncio.new_event_loop()
    work = asyncio.sleep(0)
    future = asyncio.run_coroutine_threadsafe(work, idle)
    done, _ = concurrent.futures.wait([future], timeout=0.2)
    work.close()
    assert done, "neither a result nor an error"


@scenario(
    id="L29",
    title="Jobs of the default executor that wait for the default executor deadlock",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.run_in_executor",
    present=("python_version >= '3.6'",),
    limit=2,
)
async def test_executor_job_can_wait_for_work_of_the_same_executor() -> None:
    """Symptom: as soon as there are as many such jobs as threads, nothing goes on.

    Cause: each pool thread waits for a coroutine that needs a pool thread.
    Workaround: an executor of its own for each level, or no blocking wait in a pool.
    """
    loop = asyncio.get_event_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(max_workers=1))

    async def needs_the_pool() -> None:
        await loop.run_in_executor(None, int)

    def job() -> None:
        asyncio.run_coroutine_threadsafe(needs_the_pool(), loop).result()

    await loop.run_in_executor(None, job)


@scenario(
    id="L38",
    title="Polling synchronously for a task of the same loop never ends",
    source="https://docs.python.org/3/library/asyncio-dev.html#running-blocking-code",
    present=("python_version >= '3.6'",),
)
async def test_task_makes_progress_while_its_thread_polls() -> None:
    """Symptom: "while not task.done(): time.sleep(...)" spins for ever.

    Cause: the loop cannot run while its only thread polls.
    Fix: await the task.
    """
    task = asyncio.ensure_future(asyncio.sleep(0))
    pause = threading.Event()
    for _ in range(20):
        if task.done():
            return
        pause.wait(0.01)
    raise AssertionError("the task had not made a step after 20 looks")


@scenario(
    id="L22",
    title="One blocking call in a coroutine starves every heartbeat of its loop",
    source="https://docs.python.org/3/library/asyncio-dev.html#running-blocking-code",
    present=("python_version >= '3.6'",),
)
async def test_heartbeat_goes_on_while_a_coroutine_blocks() -> None:
    """Symptom: RabbitMQ or Jupyter drops the connection during a long computation.

    Cause: one thread: while a coroutine computes, no other task of the loop makes a step.
    Workaround: run_in_executor() for the computation, or the connection in a thread of its own.
    """
    loop, beats = asyncio.get_event_loop(), []

    async def heartbeat() -> None:
        while True:
            beats.append(loop.time())
            await asyncio.sleep(0.01)

    beating = asyncio.ensure_future(heartbeat())
    await asyncio.sleep(0)
    before = len(beats)
    threading.Event().wait(0.2)  # a step that blocks
    after = len(beats)
    beating.cancel()
    assert after > before, "no heartbeat in 0.2 s"


def _plant_executor_in_the_loops_thread() -> None:
    """Make run_in_executor() call the function right there."""

    def run_in_executor(self, executor, function, *args):
        future = self.create_future()
        future.set_result(function(*args))
        return future

    asyncio.BaseEventLoop.run_in_executor = run_in_executor  # type: ignore[method-assign]


@scenario(
    id="L22w",
    title="A heartbeat goes on while the blocking call is in an executor",
    source="https://docs.python.org/3/library/asyncio-dev.html#running-blocking-code",
    planted=_plant_executor_in_the_loops_thread,
)
async def test_heartbeat_goes_on_while_an_executor_blocks() -> None:
    """Symptom: none; this is the way that works, where a blocking call stops every heartbeat.

    Cause: the loop keeps its thread; the blocking call has another.
    """
    loop, beaten = asyncio.get_event_loop(), threading.Event()
    loop.call_soon(loop.call_soon, beaten.set)
    blocked_call_saw_it = await loop.run_in_executor(None, beaten.wait, 2)
    assert blocked_call_saw_it, "no heartbeat while an executor thread was blocked"
