"""What a nested run leaves behind: the running loop, the current loop, the thread id."""

import asyncio
import asyncio.events
import unittest

from harness.scenario import scenario
from scenarios._nesting import nesting, nesting_program, program


@scenario(
    id="N03",
    title="After run_until_complete() asyncio still believes that a loop is running",
    source="https://github.com/erdewit/nest_asyncio/issues/24",
    present=("nest-asyncio>=1.3.0,<1.4.0",),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_no_loop_runs_after_the_run() -> None:
    """Symptom: the "flickering" running loop: in plain synchronous code, after a run has ended,
    code is told that a loop is running.

    Cause: 1.3.0 wrote run_until_complete() anew and never took the running loop back.
    Fix: nest_asyncio 1.4.0.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0))
        assert asyncio._get_running_loop() is None, "a loop is running when none is"

    await program(body)


@scenario(
    id="N04",
    title="A run of loop B inside a coroutine of loop A makes B the running loop of that coroutine",
    source="https://github.com/erdewit/nest_asyncio/issues/25",
    present=("nest-asyncio>=1.3.0,<1.4.0",),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_running_loop_is_set_back_after_a_run_of_another_loop() -> None:
    """Symptom: get_running_loop() flickers; the next await attaches to the wrong loop.

    Cause: 1.3.0 wrote run_until_complete() anew and never took the running loop back, so B stays
    it.
    Fix: nest_asyncio 1.4.0.
    """

    async def main() -> None:
        before = asyncio._get_running_loop()
        done = asyncio.sleep(0)
        try:
            asyncio.new_event_loop().run_until_complete(done)
        except RuntimeError as error:
            done.close()
            raise unittest.SkipTest("this release runs no second loop: %s" % error)
        assert asyncio._get_running_loop() is before

    await nesting(main)


@scenario(
    id="N05",
    title="Running a process loop changes the current event loop of the caller",
    source="https://github.com/erdewit/nest_asyncio/issues/28",
    present=("nest-asyncio>=1.3.0,<1.4.0",),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_current_loop_is_the_same_after_a_run_of_a_new_loop() -> None:
    """Symptom: after running a loop made with new_event_loop(), get_event_loop() returns that loop.

    Cause: get_event_loop() prefers the running loop, which stays set after the run; the loop set
    with set_event_loop() is unchanged.
    Fix: nest_asyncio 1.4.0. Workaround: run the new loop in a thread of its own.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        process_loop = type(loop)()
        try:
            process_loop.run_until_complete(asyncio.sleep(0))
        except AttributeError as error:
            raise unittest.SkipTest("this release serves one loop only: %s" % error)
        assert asyncio.get_event_loop() is loop

    await program(body)


@scenario(
    id="N03e",
    title="A nested run that raises leaves its loop behind as the running one",
    source="https://github.com/erdewit/nest_asyncio/issues/28",
    present=("nest-asyncio>=1.3.0,<1.4.0",),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_running_loop_is_set_back_after_a_run_that_fails() -> None:
    """Symptom: one failing test, and every later test of the process is told that a loop runs.

    Cause: 1.3.0 never took the running loop back; the way out by an exception is a way out too.
    Fix: nest_asyncio 1.4.0 restores in a finally block.
    """

    async def fails() -> None:
        raise KeyError("on purpose")

    def body(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(fails())
        except KeyError:
            pass
        assert asyncio._get_running_loop() is None

    await program(body)


@scenario(
    id="N24",
    title="One test runs a loop, and every later test is told that a loop is running",
    source="https://github.com/erdewit/nest_asyncio/issues/24",
    present=("nest-asyncio>=1.3.0,<1.4.0",),
    shown_in=("1.3.3", "1.4.0"),
)
async def test_second_test_of_a_process_can_run_its_own_loop() -> None:
    """Symptom: tests fail by their order: "Cannot run the event loop while another loop is
    running", and no such loop is to be found.

    Cause: 1.3.0 never took the running loop back; the second test's loop is one that apply() did
    not patch, and it looks.
    Fix: nest_asyncio 1.4.0. Workaround: a process for each test.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0))  # the first test
        nothing = asyncio.sleep(0)
        try:
            asyncio.new_event_loop().run_until_complete(nothing)  # the second test
        finally:
            nothing.close()

    await program(body)


@scenario(
    id="N12",
    title="run_forever() after a finished run: 'Cannot run the event loop while another ...'",
    source="https://github.com/erdewit/nest_asyncio/issues/27",
    present=(
        "nest-asyncio>=1.3.0,<1.4.0; python_version < '3.7'",
        "nest-asyncio>=1.5.0,<1.5.1",
        "nest-asyncio>=1.3.0,<1.3.3; python_version >= '3.7' and python_version < '3.8'",
        "nest-asyncio>=1.3.0,<1.3.1; python_version >= '3.8'",
    ),
    shown_in=("1.3.0", "1.4.0"),
)
async def test_loop_can_run_forever_after_it_ran_until_complete() -> None:
    """Symptom: the second, ordinary run of a program is refused; nothing is nested.

    Cause: the running loop, which stays set after a run, meets asyncio's own check in
    run_forever(), whose name differs by Python release, so that it was silenced in three steps.
    1.5.0 fails for another reason: a context manager in run_forever() lacks its yield.
    Fix: nest_asyncio 1.3.1 (Python 3.8+), 1.3.3 (3.7), 1.4.0 (3.6), and 1.5.1.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(asyncio.sleep(0))
        loop.call_soon(loop.stop)
        loop.run_forever()

    await program(body)


@scenario(
    id="N11",
    title="run_forever() raises 'NoneType object is not an iterator'",
    source="https://github.com/erdewit/nest_asyncio/issues/50",
    present=("nest-asyncio>=1.5.0,<1.5.1",),
    shown_in=("1.5.0", "1.5.1"),
)
async def test_patched_loop_can_run_forever() -> None:
    """Symptom: TypeError as soon as a server program starts its loop.

    Cause: a context manager of 1.5.0 lacked its yield.
    Fix: nest_asyncio 1.5.1.
    """

    def body(loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(loop.stop)
        loop.run_forever()

    await program(body)


@scenario(
    id="N31",
    title="loop.is_running() is False inside run_until_complete()",
    source="https://github.com/erdewit/nest_asyncio/commit/a54ead7",
    present=("nest-asyncio>=1.3.0,<1.4.3",),
    shown_in=("1.4.2", "1.4.3"),
)
async def test_loop_is_running_inside_its_own_run() -> None:
    """Symptom: libraries that ask is_running() start a second run, or close the loop.

    Cause: the new run_until_complete() did not record the thread that runs the loop.
    Fix: nest_asyncio 1.4.3.
    """

    async def main() -> None:
        assert asyncio.get_event_loop().is_running()

    await program(lambda loop: loop.run_until_complete(main()))


@scenario(
    id="N32",
    title="loop.close() succeeds inside a running coroutine",
    source="https://github.com/erdewit/nest_asyncio/commit/a54ead7",
    present=("nest-asyncio>=1.3.0,<1.4.3",),
    shown_in=("1.4.2", "1.4.3"),
)
async def test_running_loop_cannot_be_closed() -> None:
    """Symptom: instead of "Cannot close a running event loop" the loop is closed under its tasks.

    Cause: close() asks is_running(), and the new run_until_complete() did not record the thread
    that runs the loop.
    Fix: nest_asyncio 1.4.3.
    """

    async def main() -> None:
        try:
            asyncio.get_event_loop().close()
        except RuntimeError:
            return
        raise AssertionError("closed while running")

    await program(lambda loop: loop.run_until_complete(main()))


@scenario(
    id="N31n",
    title="loop.is_running() is False inside a nested run, or after it",
    source="https://github.com/erdewit/nest_asyncio/commit/a54ead7",
    present=("nest-asyncio>=1.3.0,<1.4.3",),
    shown_in=("1.4.2", "1.4.3"),
)
async def test_loop_is_running_inside_a_nested_run_and_after_it() -> None:
    """Symptom: libraries that ask is_running() in a nested run start a second loop, or close this.

    Cause: the new run_until_complete() did not record the thread that runs the loop.
    Fix: nest_asyncio 1.4.3.
    """

    async def is_running(loop: asyncio.AbstractEventLoop) -> bool:
        return loop.is_running()

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert loop.run_until_complete(is_running(loop)), "not running inside the nested run"
        assert loop.is_running(), "not running any more, after a nested run"

    await nesting_program(main)


@scenario(
    id="N32n",
    title="loop.close() succeeds inside a nested run, under the outer one",
    source="https://github.com/erdewit/nest_asyncio/commit/a54ead7",
    present=("nest-asyncio>=1.3.0,<1.4.3",),
    shown_in=("1.4.2", "1.4.3"),
)
async def test_loop_cannot_be_closed_inside_a_nested_run() -> None:
    """Symptom: instead of "Cannot close a running event loop" the loop is closed, and the outer run
    breaks.

    Cause: close() asks is_running(), and the new run_until_complete() did not record the thread
    that runs the loop.
    Fix: nest_asyncio 1.4.3.
    """

    async def closes(loop: asyncio.AbstractEventLoop) -> bool:
        try:
            loop.close()
        except RuntimeError:
            return False
        return True

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert not loop.run_until_complete(closes(loop)), "closed while running"

    await nesting_program(main)


@scenario(
    id="N63",
    title="Debug mode does not notice call_soon() from the wrong thread",
    source="https://docs.python.org/3/library/asyncio-dev.html#debug-mode",
    present=("nest-asyncio>=1.3.0,<1.4.3",),
    shown_in=("1.4.2", "1.4.3"),
)
async def test_debug_mode_refuses_call_soon_from_another_thread() -> None:
    """Symptom: no "Non-thread-safe operation" error, and the callback is late.

    Cause: the check needs the id of the thread that runs the loop, which the new
    run_until_complete() did not record.
    Fix: nest_asyncio 1.4.3.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        loop.set_debug(True)
        try:
            await loop.run_in_executor(None, loop.call_soon, print)
        except RuntimeError:
            return
        raise AssertionError("a call from the wrong thread went unnoticed")

    await program(lambda loop: loop.run_until_complete(main()))


@scenario(
    id="N10",
    title="The guard that keeps a second thread from running the same loop is gone",
    source="https://github.com/erdewit/nest_asyncio/issues/29",
    present=("nest-asyncio", "nest-asyncio2"),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_second_thread_cannot_run_a_running_loop() -> None:
    """Symptom: steps of one loop run in two threads; later "KeyError" or "Leaving task ... does not
    match the current task".

    Cause: to allow nesting, the check "This event loop is already running" is patched out, and with
    it the protection against a run from another thread.
    Workaround: hand work over with run_coroutine_threadsafe().
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        done = loop.create_future()
        done.set_result(None)
        try:
            await loop.run_in_executor(None, loop.run_until_complete, done)
        except RuntimeError:
            return
        raise AssertionError("a second thread was let into the running loop")

    await nesting(main)


def _plant_loops_that_set_themselves() -> None:
    """Make every new loop the current one, for good."""
    new_event_loop = asyncio.new_event_loop

    def made_and_set() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        return loop

    asyncio.new_event_loop = made_and_set


@scenario(
    id="N05p",
    title="A nested run of a new loop changes the loop that set_event_loop() had set",
    source="https://github.com/erdewit/nest_asyncio/issues/25",
    library="nest-asyncio",
    planted=_plant_loops_that_set_themselves,
)
async def test_set_loop_is_the_same_after_a_nested_run() -> None:
    """Symptom: none known: a guard for the second of the four things that a nested run must set
    back (running loop, loop of the policy, current task, policy).

    Cause: a run that calls set_event_loop() on its way in and does not undo it.
    """

    # Python 3.14 deprecates the public way to ask for the policy.
    policy = getattr(asyncio.events, "_get_event_loop_policy", asyncio.get_event_loop_policy)

    async def main() -> None:
        before = policy()._local._loop
        done = asyncio.sleep(0)
        try:
            asyncio.new_event_loop().run_until_complete(done)
        except RuntimeError as error:
            done.close()
            raise unittest.SkipTest("this release runs no second loop: %s" % error)
        assert policy()._local._loop is before

    await nesting(main)


def _plant_loops_with_a_policy() -> None:
    """Make every new loop come with a policy of its own."""
    new_event_loop = asyncio.new_event_loop

    def made_with_a_policy() -> asyncio.AbstractEventLoop:
        asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
        return new_event_loop()

    asyncio.new_event_loop = made_with_a_policy


@scenario(
    id="N52n",
    title="A nested run of a new loop changes the event loop policy",
    source="https://github.com/erdewit/nest_asyncio/issues/25",
    library="nest-asyncio",
    planted=_plant_loops_with_a_policy,
)
async def test_policy_is_the_same_after_a_nested_run() -> None:
    """Symptom: none known: a guard for the fourth of the four things that a nested run must set
    back (running loop, loop of the policy, current task, policy).

    Cause: a run that sets a policy on its way in and does not undo it. (apply() itself changes the
    class of the policy; that is another matter.)
    """

    # Python 3.14 deprecates the public way to ask for the policy.
    policy = getattr(asyncio.events, "_get_event_loop_policy", asyncio.get_event_loop_policy)

    async def main() -> None:
        before = policy()
        done = asyncio.sleep(0)
        try:
            asyncio.new_event_loop().run_until_complete(done)
        except RuntimeError as error:
            done.close()
            raise unittest.SkipTest("this release runs no second loop: %s" % error)
        assert policy() is before

    await nesting(main)
