"""What a patched loop no longer reports, finalises or cleans up."""

import asyncio
import gc
import logging
import time
from typing import Any, Dict, List

from harness.scenario import scenario
from scenarios._nesting import program


@scenario(
    id="N22",
    title="An abandoned async generator never runs its finally block",
    source="https://github.com/Chaoses-Ib/nest-asyncio2/issues/5",
    present=("nest-asyncio>=1.3.0", "nest-asyncio2<1.7.4"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_abandoned_async_generator_is_finalised() -> None:
    """Symptom: connections that an async generator holds stay open.

    Cause: only the patched run_forever() installs the async-generator hooks, the patched
    run_until_complete() does not.
    Fix: nest-asyncio2 1.7.4. Workaround: contextlib.aclosing().
    """
    closed = []

    async def generator():  # type: ignore[no-untyped-def]
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    await program(lambda loop: loop.run_until_complete(main()))
    assert closed


@scenario(
    id="N34",
    title="Debug mode does not say where a coroutine that was never awaited was created",
    source="https://docs.python.org/3/library/asyncio-dev.html#detect-never-awaited-coroutines",
    present=("nest-asyncio>=1.3.0", "nest-asyncio2<1.7.4"),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.6.0",),
)
async def test_debug_mode_tracks_where_coroutines_come_from() -> None:
    """Symptom: "coroutine ... was never awaited" without "Coroutine created at".

    Cause: the switch for origin tracking sits in run_forever() only.
    Fix: nest-asyncio2 1.7.4. Workaround: sys.set_coroutine_origin_tracking_depth(10).
    """
    origins = []

    async def main() -> None:
        coroutine = asyncio.sleep(0)
        origins.append(coroutine.cr_origin)
        await coroutine

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        loop.run_until_complete(main())

    await program(body)
    assert origins[0], "no origin was recorded in debug mode"


@scenario(
    id="N36",
    title="Debug mode does not report slow callbacks",
    source="https://docs.python.org/3/library/asyncio-dev.html#debug-mode",
    present=("nest-asyncio>=0.9.5,<0.9.6", "nest-asyncio>=1.3.0", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_debug_mode_reports_slow_callbacks() -> None:
    """Symptom: "Executing <Handle ...> took 0.100 seconds", the tool for finding starved
    heartbeats, is gone.

    Cause: _run_once() was written anew, without the timing (1.3.0 and later, and 0.9.5).
    Workaround: debug without nest_asyncio.
    """
    said: List[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.001
        loop.call_soon(time.sleep, 0.01)
        loop.run_until_complete(asyncio.sleep(0))

    await program(body)
    assert [text for text in said if text.startswith("Executing")], said


@scenario(
    id="N26",
    title="A background task that fails is reported only when the garbage collector runs",
    source="https://github.com/erdewit/nest_asyncio/issues/57",
    present=(
        "nest-asyncio>=0.9.3,<1.6.0; python_version < '3.7'",
        "nest-asyncio>=0.9.3,<1.5.2; python_version >= '3.7'",
        "nest-asyncio>=1.5.4,<1.6.0; python_version >= '3.7'",
    ),
    shown_in=("1.5.9", "1.6.0"),
)
async def test_failed_task_is_reported_without_a_garbage_collection() -> None:
    """Symptom: the exception of a dropped task shows up minutes later, or never.

    Cause: the patched step keeps a cycle task -> exception -> traceback -> frame -> task, so that
    the report in Task.__del__() waits for the collector.
    Fix: nest_asyncio 1.5.2 and 1.5.3 on Python 3.7 and later, then 1.6.0.
    """
    reported: List[Dict[str, Any]] = []

    async def fails() -> None:
        raise KeyError("on purpose")

    async def main() -> None:
        asyncio.ensure_future(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(lambda _, context: reported.append(context))
        gc.disable()
        loop.run_until_complete(main())

    await program(body)
    assert reported, "nobody was told that the task failed"


@scenario(
    id="N38",
    title="KeyboardInterrupt out of run_until_complete(): 'exception was never retrieved' as well",
    source="https://github.com/erdewit/nest_asyncio/issues/40",
    present=("nest-asyncio>=1.3.0", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_exception_that_ends_the_run_is_reported_once() -> None:
    """Symptom: a second traceback, "Task exception was never retrieved", after Ctrl-C.

    Cause: run_until_complete() retrieves the exception of its own task before it raises; the
    patched one does not.
    Workaround: none; ignore the second report.
    """
    reported: List[Dict[str, Any]] = []

    async def interrupted() -> None:
        raise KeyboardInterrupt

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(lambda _, context: reported.append(context))
        try:
            loop.run_until_complete(interrupted())
        except KeyboardInterrupt:
            pass
        gc.collect()

    await program(body)
    assert not reported, reported[0]["message"]


@scenario(
    id="N54",
    title="A callback that raises CancelledError ends the whole run",
    source="https://github.com/erdewit/nest_asyncio/commit/0ffe422",
    present=("nest-asyncio>=0.9.3,<1.4.0",),
    python=">=3.8",
    shown_in=("1.3.3", "1.4.0"),
)
async def test_callback_that_raises_cancelled_error_is_reported() -> None:
    """Symptom: CancelledError out of run_until_complete(), though nobody cancelled it.

    Cause: CancelledError is a BaseException since 3.8; the patched Handle caught Exception only.
    Fix: nest_asyncio 1.4.0.
    """
    reported: List[Dict[str, Any]] = []

    def fails() -> None:
        raise asyncio.CancelledError

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(lambda _, context: reported.append(context))
        loop.call_soon(fails)
        loop.run_until_complete(asyncio.sleep(0))

    await program(body)
    assert reported


@scenario(
    id="N71",
    title="Done-callbacks of the awaited task have not run when the run returns",
    source="https://github.com/Chaoses-Ib/nest-asyncio2/issues/3",
    present=("nest-asyncio>=1.4.1", "nest-asyncio2<1.7.2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_done_callbacks_have_run_when_the_run_returns() -> None:
    """Symptom: whatever a done-callback releases is still held after run_until_complete().

    Cause: asyncio ends the run in a done-callback of its own, behind the others; the patched run
    ends as soon as the task is done, and leaves the callbacks in the ready queue.
    Fix: nest-asyncio2 1.7.2. Workaround: one more run_until_complete(asyncio.sleep(0)).
    """
    called: List[Any] = []

    def body(loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(asyncio.sleep(0))
        task.add_done_callback(called.append)
        loop.run_until_complete(task)
        assert called

    await program(body)


@scenario(
    id="N72",
    title="Cancelled timers stay in the heap",
    source="https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py",
    present=("nest-asyncio>=0.9.5,<0.9.6", "nest-asyncio>=1.3.0", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_cancelled_timers_leave_the_heap() -> None:
    """Symptom: memory grows with every time-out that does not fire.

    Cause: asyncio rebuilds the heap when half of more than 100 timers is cancelled; the patched
    _run_once() drops them from the top only.
    Workaround: none but short time-outs.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        first = loop.call_later(60, int)
        for _ in range(500):
            loop.call_later(120, int).cancel()
        loop.run_until_complete(asyncio.sleep(0))
        assert len(loop._scheduled) < 250, "%d timers for one" % len(loop._scheduled)
        first.cancel()

    await program(body)


@scenario(
    id="N73",
    title="loop.stop() during one run ends the next run too",
    source="https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py",
    present=("nest-asyncio>=1.3.0", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_stop_ends_one_run_only() -> None:
    """Symptom: "Event loop stopped before Future completed" in a run that nobody stopped.

    Cause: the patched run_until_complete() looks at the stop flag but never takes it down.
    Workaround: end a run by its future, not by stop().
    """

    async def stops() -> None:
        asyncio.get_event_loop().stop()
        await asyncio.sleep(60)

    def body(loop: asyncio.AbstractEventLoop) -> int:
        stopped = loop.create_task(stops())
        try:
            loop.run_until_complete(stopped)
        except RuntimeError:
            stopped.cancel()
        return loop.run_until_complete(asyncio.sleep(0.001, result=42))

    assert await program(body) == 42
