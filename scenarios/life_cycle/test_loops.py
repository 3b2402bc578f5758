"""When a loop is made, set, stopped and closed, and what each leaves behind."""

import asyncio
import gc
import subprocess
import sys
import threading
import warnings

from harness.scenario import scenario
from scenarios._nesting import apply


async def in_thread(function):
    """Call a function in a fresh thread: no running loop there, and no current one."""
    return await asyncio.get_event_loop().run_in_executor(None, function)


@scenario(
    id="L07",
    title="get_event_loop() in a worker thread: 'There is no current event loop in thread'",
    source="https://github.com/erdewit/nest_asyncio/issues/52",
    present=("python_version >= '3.6'",),
)
async def test_worker_thread_gets_a_loop() -> None:
    """Symptom: library code that works in the main thread fails in a thread.

    Cause: the default policy makes a loop for the main thread only (and for no thread from 3.14).
    Fix: in a thread, new_event_loop() and then set_event_loop().
    """
    assert isinstance(await in_thread(asyncio.get_event_loop), asyncio.AbstractEventLoop)


@scenario(
    id="L07n",
    title="With nest_asyncio applied, get_event_loop() in a worker thread differs by release",
    source="https://github.com/erdewit/nest_asyncio/issues/52",
    present=("nest-asyncio<1.5.7", "nest-asyncio2>=1.6.2; python_version >= '3.14'"),
    library="nest-asyncio",
    shown_in=("1.5.6",),
)
async def test_worker_thread_gets_a_loop_under_nest_asyncio() -> None:
    """Symptom: what works with 1.5.7 fails with any other, and in a program without nest_asyncio.

    Cause: from 1.5.7 on, the patched policy makes a loop in every thread.
    Workaround: new_event_loop() and set_event_loop() in each thread; do not rely on the patch.
    """
    loop = asyncio.get_event_loop()
    apply(loop)
    found = await loop.run_in_executor(None, asyncio.get_event_loop)
    assert isinstance(found, asyncio.AbstractEventLoop)


@scenario(
    id="L07w",
    title="new_event_loop() and set_event_loop() give a worker thread a loop of its own",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.set_event_loop",
    planted=lambda: setattr(asyncio, "set_event_loop", lambda loop: None),
)
async def test_worker_thread_has_the_loop_that_it_set() -> None:
    """Symptom: none; this is the way that works, where get_event_loop() alone raises.

    Cause: the current loop is kept for each thread on its own.
    """

    def worker() -> bool:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return asyncio.get_event_loop() is loop

    assert await in_thread(worker)


@scenario(
    id="L10",
    title="After asyncio.run() the loop that was current before is not current any more",
    source="https://docs.python.org/3/library/asyncio-runner.html#asyncio.run",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_current_loop_is_the_same_after_run() -> None:
    """Symptom: a later get_event_loop() raises, although the program had set a loop.

    Cause: asyncio.run() ends with set_event_loop(None).
    Workaround: set the loop again, or use one asyncio.run() for the whole program.
    """

    def program() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncio.run(asyncio.sleep(0))
        assert asyncio.get_event_loop() is loop

    await in_thread(program)


def _ask_for_a_loop() -> None:
    """Call get_event_loop() before any loop exists, and keep what it said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            asyncio.get_event_loop().close()
        except RuntimeError as error:
            _said.append(str(error))
    _said.extend(str(warning.message) for warning in caught)


@scenario(
    id="L11",
    title="get_event_loop() without a current loop: silent, a warning or an error, by release",
    source="https://github.com/python/cpython/issues/127949",
    present=("python_full_version >= '3.12.1'",),
    prepare=_ask_for_a_loop,
)
async def test_main_thread_gets_a_loop_without_a_word() -> None:
    """Symptom: DeprecationWarning (3.12.1 to 3.13; an error under -W error), RuntimeError (3.14).

    Cause: the implicit creation of a loop is being removed.
    Fix: asyncio.run(), or new_event_loop() and set_event_loop().
    """
    assert not _said, _said[0]


_said = []


@scenario(
    id="L20",
    title="loop.close() abandons pending tasks: their clean-up cannot await",
    source="https://github.com/pytest-dev/pytest-asyncio/issues/222",
    present=("python_version >= '3.6'",),
)
async def test_close_lets_pending_tasks_clean_up() -> None:
    """Symptom: "Task was destroyed but it is pending!", and half of a finally block never runs.

    Cause: close() does not cancel; a collected coroutine gets GeneratorExit and may not await.
    Fix: cancel the tasks and run the loop until they are done; asyncio.run() does.
    """
    cleaned_up = []

    def program() -> None:
        loop = asyncio.new_event_loop()

        async def work() -> None:
            try:
                await loop.create_future()
            finally:
                await asyncio.sleep(0)
                cleaned_up.append(True)

        loop.create_task(work())
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        loop.close()

    await in_thread(program)
    gc.collect()
    assert cleaned_up


def _plant_close_without_cancel() -> None:
    """Make asyncio.run() a bare run_until_complete() and close()."""

    def run(main):  # type: ignore[no-untyped-def]
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main)
        loop.close()

    asyncio.run = run  # type: ignore[assignment]


@scenario(
    id="L20w",
    title="asyncio.run() cancels what is left and lets it clean up",
    source="https://docs.python.org/3/library/asyncio-runner.html#asyncio.run",
    planted=_plant_close_without_cancel,
    python=">=3.7",
)
async def test_run_lets_pending_tasks_clean_up() -> None:
    """Symptom: none; this is the way that works, where loop.close() alone abandons them.

    Cause: asyncio.run() cancels every task and runs the loop until they have ended.
    """
    cleaned_up = []

    async def work() -> None:
        try:
            await asyncio.get_event_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(True)

    async def main() -> None:
        asyncio.ensure_future(work())
        await asyncio.sleep(0)

    await in_thread(lambda: asyncio.run(main()))
    assert cleaned_up


@scenario(
    id="S09",
    title="loop.close() drops callbacks that are scheduled already, without a word",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.close",
    present=("python_version >= '3.6'",),
)
async def test_close_runs_what_is_scheduled() -> None:
    """Symptom: a callback, or the first step of a task, never runs, and nothing says so.

    Cause: close() empties the queue of ready callbacks and the heap of timers.
    Fix: one more round before close(): loop.call_soon(loop.stop), loop.run_forever().
    """
    ran = []

    def program() -> None:
        loop = asyncio.new_event_loop()
        loop.call_soon(ran.append, True)
        loop.close()

    await in_thread(program)
    assert ran


@scenario(
    id="S10",
    title="loop.close() abandons async generators: their clean-up cannot await",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.shutdown_asyncgens",
    present=("python_version >= '3.6'",),
)
async def test_close_lets_async_generators_clean_up() -> None:
    """Symptom: "async generator ignored GeneratorExit", and half of a finally block never runs.

    Cause: only a running loop can await what a generator's clean-up awaits; close() does not ask.
    Fix: loop.run_until_complete(loop.shutdown_asyncgens()) before close(); asyncio.run() does.
    """
    ended = []

    async def generator():  # type: ignore[no-untyped-def]
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    def program() -> None:
        loop, suspended = asyncio.new_event_loop(), generator()
        loop.run_until_complete(suspended.__anext__())
        loop.close()

    await in_thread(program)
    gc.collect()
    assert ended


def _plant_runs_that_close_their_loop() -> None:
    """Make run_forever() close the loop when it was stopped."""
    run = asyncio.BaseEventLoop.run_forever

    def run_forever(self):  # type: ignore[no-untyped-def]
        run(self)
        self.close()

    asyncio.BaseEventLoop.run_forever = run_forever  # type: ignore[method-assign]


@scenario(
    id="S01",
    title="After loop.stop() the loop can run again; after loop.close() it cannot",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.close",
    planted=_plant_runs_that_close_their_loop,
)
async def test_stopped_loop_can_run_again() -> None:
    """Symptom: none in asyncio: a guard. stop() ends the current run_forever() and keeps tasks,
    timers and sockets; close() is for good.

    Cause: stop() only sets a flag that this run reads.
    """

    def program() -> int:
        loop = asyncio.new_event_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        return loop.run_until_complete(asyncio.sleep(0, result=42))

    assert await in_thread(program) == 42


@scenario(
    id="S02",
    title="loop.stop() inside run_until_complete() makes it fail",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.stop",
    present=("python_version >= '3.6'",),
)
async def test_stop_ends_run_until_complete_quietly() -> None:
    """Symptom: "RuntimeError: Event loop stopped before Future completed."

    Cause: stop() belongs to run_forever(); run_until_complete() promises a result.
    Fix: end run_until_complete() by setting the future that it waits for.
    """

    async def main() -> None:
        asyncio.get_event_loop().stop()
        await asyncio.sleep(1)

    def program() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        finally:
            task.cancel()

    await in_thread(program)


@scenario(
    id="S03",
    title="A closed loop stays the current one: 'Event loop is closed' somewhere else",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.close",
    present=("python_version >= '3.6'",),
)
async def test_current_loop_is_usable_after_a_loop_was_closed() -> None:
    """Symptom: one test closes its loop; the next fails with "Event loop is closed".

    Cause: close() does not take the loop out of the policy.
    Fix: set_event_loop(None), or another loop, after close().
    """

    def program() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        asyncio.get_event_loop().close()  # the first test
        nothing = asyncio.sleep(0)
        try:
            asyncio.get_event_loop().run_until_complete(nothing)  # the next test
        finally:
            nothing.close()

    await in_thread(program)


@scenario(
    id="S04",
    title="stop() before run_forever() ends the next run at once",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.stop",
    present=("python_version >= '3.6'",),
)
async def test_stop_of_an_idle_loop_does_not_end_the_next_run() -> None:
    """Symptom: a loop that was stopped twice runs one round only the next time.

    Cause: the stop flag of an idle loop waits for the next run.
    Workaround: stop a loop only from its own callbacks, while it runs.
    """
    rounds = []

    def program() -> None:
        loop = asyncio.new_event_loop()
        loop.stop()  # too late: the loop is idle already
        loop.call_soon(loop.call_soon, rounds.append, True)
        loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
        loop.run_forever()

    await in_thread(program)
    assert rounds


@scenario(
    id="S07",
    title="new_event_loop() makes a loop, and does not make it the current one",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.new_event_loop",
    present=("python_version >= '3.6'",),
)
async def test_loop_that_was_made_is_the_current_one() -> None:
    """Symptom: a loop was made, and get_event_loop() raises or returns another one.

    Cause: making, setting and running a loop are three steps; only set_event_loop() changes what
    get_event_loop() returns outside of coroutines.
    Fix: set_event_loop(loop) where code asks for the current loop; else pass the loop around.
    """

    def program() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        made = asyncio.new_event_loop()
        assert asyncio.get_event_loop() is made

    await in_thread(program)


@scenario(
    id="S08",
    title="Asking for the event loop policy, or setting one, warns from Python 3.14 on",
    source="https://docs.python.org/3.14/library/asyncio-policy.html",
    present=("python_version >= '3.14'",),
)
async def test_policy_is_set_without_a_word() -> None:
    """Symptom: "'asyncio.get_event_loop_policy' is deprecated and slated for removal in Python
    3.16", an error under -W error.

    Cause: which loop is made is decided where the loop is run, and no longer by a policy.
    Fix: asyncio.run(main(), loop_factory=...) (3.12+), asyncio.Runner(loop_factory=...) (3.11+).
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.set_event_loop_policy(asyncio.get_event_loop_policy())
    assert not caught, caught[0].message


def _plant_runner_without_a_factory() -> None:
    """Make asyncio.Runner take a loop_factory and not use it."""
    runner = asyncio.Runner
    asyncio.Runner = lambda loop_factory: runner()  # type: ignore[assignment, misc]


@scenario(
    id="S08w",
    title="asyncio.Runner(loop_factory=...) runs the loop that the factory makes",
    source="https://docs.python.org/3/library/asyncio-runner.html#asyncio.Runner",
    python=">=3.11",
    planted=_plant_runner_without_a_factory,
)
async def test_runner_uses_the_loop_of_its_factory() -> None:
    """Symptom: none; this is the way that works, where a policy is deprecated.

    Cause: the factory makes the loop of this one runner, in whatever thread.
    """

    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def program() -> None:
        made = asyncio.new_event_loop()
        with asyncio.Runner(loop_factory=lambda: made) as runner:
            assert runner.run(running()) is made

    await in_thread(program)


@scenario(
    id="S05",
    title="set_event_loop() inside a coroutine does not change get_event_loop()",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.get_event_loop",
    present=("python_version >= '3.6'",),
)
async def test_loop_that_was_set_is_current_inside_a_coroutine() -> None:
    """Symptom: code sets the process's loop as current, and get_event_loop() returns another.

    Cause: inside a coroutine or callback get_event_loop() is the running loop, whatever was set.
    Fix: pass the loop as an argument; do not steer by the current loop.
    """
    running, other = asyncio.get_event_loop(), asyncio.new_event_loop()
    asyncio.set_event_loop(other)
    current = asyncio.get_event_loop()
    asyncio.set_event_loop(running)
    assert current is other


def _plant_runs_that_set_their_loop() -> None:
    """Make every run set its loop as the current one, for good."""
    run = asyncio.BaseEventLoop.run_until_complete

    def run_until_complete(self, future):  # type: ignore[no-untyped-def]
        asyncio.set_event_loop(self)
        return run(self, future)

    asyncio.BaseEventLoop.run_until_complete = run_until_complete  # type: ignore[method-assign]


@scenario(
    id="S06",
    title="Without nest_asyncio, running a new loop leaves the current loop as it is",
    source="https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.set_event_loop",
    planted=_plant_runs_that_set_their_loop,
)
async def test_current_loop_is_the_same_after_a_plain_run_of_a_new_loop() -> None:
    """Symptom: none; this is how plain asyncio does it, and nest_asyncio 1.3 did not.

    Cause: run_until_complete() makes its loop the running one while it runs, and sets nothing.
    """

    def program() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncio.new_event_loop().run_until_complete(asyncio.sleep(0))
        assert asyncio.get_event_loop() is loop

    await in_thread(program)


@scenario(
    id="L23",
    title="A refused run_forever() of another loop clears the running loop of the caller",
    source="https://github.com/python/cpython/issues/130145",
    # Told of for 3.12 too; 3.12.1 is healthy.
    present=("python_full_version >= '3.13.0' and python_full_version < '3.13.3'",),
)
async def test_refused_run_leaves_the_running_loop_alone() -> None:
    """Symptom: get_running_loop() says "no running event loop" inside a running coroutine.

    Cause: the clean-up of the refused run resets the running loop of the thread.
    Fix: Python 3.13.3.
    """
    before = asyncio._get_running_loop()
    try:
        asyncio.new_event_loop().run_forever()
    except RuntimeError:
        pass
    after = asyncio._get_running_loop()
    asyncio._set_running_loop(before)
    assert after is before


@scenario(
    id="L30",
    title="asyncio.run() leaves the threads of the default executor behind",
    source="https://github.com/python/cpython/issues/78218",
    present=("python_version == '3.7' or python_version == '3.8'",),
    python=">=3.7",
)
async def test_run_ends_the_default_executor() -> None:
    """Symptom: a thread more after each asyncio.run(); a stuck job outlives the program's end.

    Cause: asyncio.run() did not shut the default executor down.
    Fix: Python 3.9 joins it (and then waits for a stuck job; with a time limit since 3.12).
    """
    started, finished = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        threading.Event().wait(0.3)
        finished.set()

    async def main() -> None:
        asyncio.get_event_loop().run_in_executor(None, job)
        started.wait()

    await in_thread(lambda: asyncio.run(main()))
    assert finished.is_set(), "a worker thread was left behind"


@scenario(
    id="L31",
    title="A subprocess in a loop of a worker thread: no event of its end",
    source="https://docs.python.org/3.8/library/asyncio-policy.html#process-watchers",
    present=("python_version < '3.8'",),
    limit=3,
)
async def test_loop_of_a_worker_thread_can_run_a_subprocess() -> None:
    """Symptom: "Cannot add child handler, the child watcher does not have a loop attached".

    Cause: up to 3.7 the child watcher lives in the main thread's loop.
    Fix: Python 3.8 (ThreadedChildWatcher).
    """

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "")
        return await process.wait()

    def worker() -> int:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())

    asyncio.set_event_loop(None)
    assert await in_thread(worker) == 0


_exit_codes = []


def _run_a_child_on_a_loop_that_is_not_current() -> None:
    """Run a subprocess in the main thread, on a new loop, while another one is the current loop."""

    async def child() -> int:
        command = (sys.executable, "-S", "-c", "input()")
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
        process.stdin.write(b"\n")  # it must not end before anybody could listen for that
        return await process.wait()

    asyncio.set_event_loop(asyncio.new_event_loop())
    _exit_codes.append(asyncio.new_event_loop().run_until_complete(child()))


@scenario(
    id="L32",
    title="A subprocess on a new loop that is not the current one: no event of its end",
    source="https://docs.python.org/3.8/library/asyncio-policy.html#process-watchers",
    present=("python_version < '3.8'",),
    prepare=_run_a_child_on_a_loop_that_is_not_current,
    limit=3,
)
async def test_new_loop_in_the_main_thread_hears_of_the_end_of_its_child() -> None:
    """Symptom: process.wait() never returns, although the child ended long ago.

    Cause: up to 3.7 the child watcher is attached to the current loop, which does not run, and
    that is where the signal of the child's end is delivered.
    Fix: Python 3.8 (ThreadedChildWatcher). Workaround: set_event_loop() the loop before it runs.
    """
    assert _exit_codes == [0]
