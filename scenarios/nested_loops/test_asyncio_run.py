"""What becomes of asyncio.run() once nest_asyncio was applied."""

import asyncio
import threading
import unittest
import warnings
from typing import Callable, List

from harness.scenario import scenario
from scenarios._nesting import apply, program


async def in_thread_without_loop(body: Callable[[], object]) -> object:
    """Apply nest_asyncio here, then call body() in a fresh thread that has no current loop."""
    apply()
    return await asyncio.get_event_loop().run_in_executor(None, body)


@scenario(
    id="N16",
    title="The patched asyncio.run() in a worker thread: 'There is no current event loop'",
    source="https://github.com/erdewit/nest_asyncio/issues/52",
    present=("nest-asyncio<1.5.2",),
    python=">=3.7",
    shown_in=("1.5.1", "1.5.2"),
)
async def test_run_works_in_a_worker_thread() -> None:
    """Symptom: asyncio.run() makes a loop of its own in any thread, until apply() was called.

    Cause: the patched run() took get_event_loop(), which raises outside the main thread.
    Fix: nest_asyncio 1.5.2 (a new loop), 1.5.7 (the policy makes one).
    """

    def body() -> int:
        nested = asyncio.sleep(0, result=42)
        try:
            return asyncio.run(nested)
        finally:
            nested.close()

    assert await in_thread_without_loop(body) == 42


@scenario(
    id="N20",
    title="The patched asyncio.run() has no loop_factory",
    source="https://github.com/wandb/weave/issues/5436",
    present=("nest-asyncio",),
    python=">=3.12",
    shown_in=("1.6.0",),
)
async def test_run_takes_a_loop_factory() -> None:
    """Symptom: "TypeError: run() got an unexpected keyword argument 'loop_factory'" from uvicorn,
    anyio or aiohttp on Python 3.12.

    Cause: the patched run() has the parameters of Python 3.7.
    Fix: nest-asyncio2 1.6.1.
    """

    def body() -> int:
        nested = asyncio.sleep(0, result=42)
        try:
            return asyncio.run(nested, loop_factory=asyncio.new_event_loop)
        finally:
            nested.close()

    assert await in_thread_without_loop(body) == 42


@scenario(
    id="N21",
    title="Tasks left at the end of the patched asyncio.run() are not cancelled",
    source="https://github.com/erdewit/nest_asyncio/pull/79",
    present=(
        "nest-asyncio>=1.1.0; python_version < '3.14'",
        "nest-asyncio>=0.9.3; python_version >= '3.14'",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.6.0",),
)
async def test_run_cancels_the_tasks_that_are_left() -> None:
    """Symptom: their clean-up does not run, and they go on in the next run of the loop.

    Cause: the patched run() has none of asyncio.run()'s clean-up.
    Workaround: cancel your tasks before main() returns.
    """
    left: List["asyncio.Task[None]"] = []

    async def main() -> None:
        left.append(asyncio.ensure_future(asyncio.sleep(60)))

    def body(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run(main())
        assert left[0].done(), "still pending after asyncio.run()"

    await program(body)


@scenario(
    id="N27",
    title="KeyboardInterrupt out of the patched asyncio.run() leaves the main task pending",
    source="https://github.com/hail-is/hail/pull/12732",
    present=(
        "nest-asyncio>=1.1.0,<1.5.2; python_version < '3.14'",
        "nest-asyncio>=0.9.3,<1.5.2; python_version >= '3.14'",
    ),
    python=">=3.7",
    shown_in=("1.5.1", "1.5.2"),
)
async def test_interrupted_run_lets_main_clean_up() -> None:
    """Symptom: after Ctrl-C the finally blocks of main() do not run.

    Cause: the patched run() did not cancel the main task on an exception.
    Fix: nest_asyncio 1.5.2.
    """
    cleaned_up = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_event_loop().call_soon(interrupt)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.append(True)

    def body(loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            pass
        assert cleaned_up, "the finally block of main() did not run"

    await program(body)


@scenario(
    id="N47",
    title="The patched asyncio.run() leaves the threads of the default executor behind",
    source="https://github.com/run-llama/llama_index/pull/22096",
    present=("nest-asyncio>=1.1.0", "nest-asyncio2"),
    library="nest-asyncio",
    python=">=3.9",
    shown_in=("1.6.0",),
)
async def test_patched_run_ends_the_default_executor() -> None:
    """Symptom: one more set of threads after each asyncio.run().

    Cause: the patched run() never calls shutdown_default_executor().
    Workaround: await loop.shutdown_default_executor() at the end of main().
    """
    started, finished = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        threading.Event().wait(0.3)
        finished.set()

    async def main() -> None:
        asyncio.get_event_loop().run_in_executor(None, job)
        started.wait()

    def body(loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(main())
        except RuntimeError as error:
            raise unittest.SkipTest("asyncio.run() fails here: %s" % error)
        assert finished.is_set(), "a worker thread is left"

    await program(body)


@scenario(
    id="N50",
    title="After the patched asyncio.run() the current loop is a closed one",
    source="https://github.com/pyvista/pyvista/issues/7938",
    present=("nest-asyncio2>=1.6.2,<1.6.3; python_version >= '3.12'",),
    library="nest-asyncio",
    python=">=3.7",
)
async def test_current_loop_is_no_closed_one_after_run() -> None:
    """Symptom: the next get_event_loop().run_until_complete() fails: "Event loop is closed".

    Cause: nest-asyncio2 1.6.2 closed the loop that it had made, and left it the current one.
    Fix: nest-asyncio2 1.6.3.
    """

    def body() -> None:
        nested = asyncio.sleep(0)
        try:
            asyncio.run(nested)
        except RuntimeError as error:
            nested.close()
            raise unittest.SkipTest("no run in a thread here: %s" % error)
        try:
            current = asyncio.get_event_loop()
        except RuntimeError:
            return  # none at all is what asyncio.run() leaves
        assert not current.is_closed()

    await in_thread_without_loop(body)


@scenario(
    id="N61",
    title="Whether the patched asyncio.run() uses the current loop changed from release to release",
    source="https://github.com/erdewit/nest_asyncio/issues/65",
    present=(
        "nest-asyncio<1.1.0",  # 0.9.5 too: no loop of the patched class is made here, N57 hides it
        "nest-asyncio>=1.5.2,<1.5.5",
        "nest-asyncio2<1.6.3; python_version >= '3.12'",
    ),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.5.4", "1.5.5"),
    limit=3,
)
async def test_run_uses_the_current_loop() -> None:
    """Symptom: "attached to a different loop", or a callback that never runs, for whatever was
    made for the current loop.

    Cause: a new loop (0.9.0 to 1.0.0, as asyncio does), the current one (1.1.0 to 1.5.1), a new one
    (1.5.2 to 1.5.4), the current one (1.5.5 on); nest-asyncio2 1.6.1 and 1.6.2 a new one again.
    Fix: nest_asyncio 1.5.5, nest-asyncio2 1.6.3.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        future = loop.create_future()

        async def main() -> int:
            future.get_loop().call_soon(future.set_result, 42)
            return await future

        assert asyncio.run(main()) == 42

    await program(body)


@scenario(
    id="L10n",
    title="The patched asyncio.run() replaces the current loop",
    source="https://github.com/erdewit/nest_asyncio/issues/63",
    present=("nest-asyncio<1.1.0", "nest-asyncio>=1.5.2,<1.5.5"),
    python=">=3.7",
    shown_in=("1.5.4", "1.5.5"),
)
async def test_current_loop_is_the_same_after_the_patched_run() -> None:
    """Symptom: after asyncio.run() get_event_loop() raises, or returns another loop.

    Cause: 0.9.0 to 1.0.0 called asyncio's own run(), which ends with set_event_loop(None); 1.5.2 to
    1.5.4 set a loop of their own.
    Fix: nest_asyncio 1.5.5.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run(asyncio.sleep(0))
        assert asyncio.get_event_loop() is loop

    await program(body)


_made_silently: List[bool] = []


def _ask_the_patched_asyncio_for_a_loop() -> None:
    """Apply nest_asyncio to a loop that is not the current one; then ask for the current one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apply(type("Loop", (asyncio.SelectorEventLoop,), {})())
        try:
            asyncio.get_event_loop().close()
            _made_silently.append(True)
        except RuntimeError:
            pass


@scenario(
    id="N70",
    title="get_event_loop() silently makes a loop where plain asyncio raises",
    source="https://docs.python.org/3.14/library/asyncio-eventloop.html#asyncio.get_event_loop",
    present=(
        "nest-asyncio>=1.5.7; python_version >= '3.14'",
        "nest-asyncio2<1.6.2; python_version >= '3.14'",
    ),
    library="nest-asyncio",
    python=">=3.14",
    prepare=_ask_the_patched_asyncio_for_a_loop,
)
async def test_patched_get_event_loop_raises_as_the_plain_one_does() -> None:
    """Symptom: code that is tested under nest_asyncio fails in a program without it.

    Cause: the patched policy makes a loop; Python 3.14 raises.
    Fix: nest-asyncio2 1.6.2.
    """
    assert not _made_silently, "a loop was made where plain asyncio raises RuntimeError"


@scenario(
    id="N74",
    title="The patched asyncio.run() switches the debug mode of the current loop off",
    source="https://docs.python.org/3/library/asyncio-dev.html#debug-mode",
    present=(
        "nest-asyncio>=1.1.0,<1.5.2",
        "nest-asyncio>=1.5.5",
        "nest-asyncio2; python_version < '3.12'",
        "nest-asyncio2>=1.6.3; python_version >= '3.12'",
    ),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.6.0",),
)
async def test_run_leaves_the_debug_mode_of_the_loop_alone() -> None:
    """Symptom: PYTHONASYNCIODEBUG=1 or set_debug(True) is without effect after asyncio.run().

    Cause: run() calls set_debug(debug), False by default, on a loop that is not its own.
    Workaround: pass debug=True to each asyncio.run().
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        asyncio.run(asyncio.sleep(0))
        assert loop.get_debug(), "debug mode was switched off"

    await program(body)


@scenario(
    id="N77",
    title="The patched asyncio.run() takes what is no coroutine",
    source="https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py",
    present=("nest-asyncio>=1.1.0", "nest-asyncio2"),
    library="nest-asyncio",
    python=">=3.7,<3.14",  # from 3.14 on asyncio.run() itself takes every awaitable
    shown_in=("1.6.0",),
)
async def test_run_refuses_what_is_no_coroutine() -> None:
    """Symptom: "a coroutine was expected" as soon as the program runs without nest_asyncio.

    Cause: the patched run() makes a task by ensure_future(), which takes every awaitable.
    Workaround: give asyncio.run() coroutines only.
    """

    class Awaitable:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    def body(loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(Awaitable())  # type: ignore[arg-type]
        except ValueError:
            return
        raise AssertionError("asyncio.run() ran what is no coroutine")

    await program(body)


@scenario(
    id="N75",
    title="The patched asyncio.run() leaves the loop that it made open",
    source="https://github.com/Chaoses-Ib/nest-asyncio2",
    present=(
        "nest-asyncio>=1.5.2",
        "nest-asyncio2; python_version < '3.12'",
        "nest-asyncio2<1.6.2; python_version >= '3.12'",
        "nest-asyncio2>=1.6.3; python_version >= '3.12'",
    ),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.6.0",),
)
async def test_run_closes_the_loop_that_it_made() -> None:
    """Symptom: "ResourceWarning: unclosed event loop"; three file descriptors leak per thread.

    Cause: the patched run() takes or makes a current loop and never closes it.
    Workaround: nest_asyncio2.apply(run_close_loop=True); or close get_event_loop() yourself.
    """

    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_event_loop()

    def body() -> asyncio.AbstractEventLoop:
        nested = main()
        try:
            return asyncio.run(nested)
        except RuntimeError as error:
            nested.close()
            raise unittest.SkipTest("no run in a thread here: %s" % error)

    made = await in_thread_without_loop(body)
    assert made.is_closed()
