"""plumpy's processes on one loop: failing, pausing, killing, being collected."""

import asyncio
import gc
import inspect
import unittest
import weakref
from typing import Any

import plumpy
from harness.scenario import scenario
from scenarios._processes import check_asyncio, waiting_process_and_its_task


@scenario(
    id="E2",
    title="A waiting process that fails: the task that steps it hangs",
    source="https://github.com/aiidateam/aiida-workgraph/issues/631",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_failure_of_a_waiting_process_ends_its_task() -> None:
    """Symptom: the process is EXCEPTED, its worker's task goes on waiting: a slot is lost for good.

    Cause: the failing transition leaves the future of the waiting state as it is.
    Fix: leaving the state ends the wait.
    """
    process, task = await waiting_process_and_its_task()
    process.fail(ValueError("on purpose"), None)
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"


@scenario(
    id="E3",
    title="A forced kill of a waiting process: the task that steps it hangs",
    source="https://github.com/aiidateam/plumpy/issues/288",
    present=("plumpy>=0.25,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_forced_kill_of_a_waiting_process_ends_its_task() -> None:
    """Symptom: the process is KILLED; the broker's task is never acknowledged.

    Cause: the forced transition leaves the future of the waiting state as it is.
    Fix: leaving the state ends the wait.
    """
    process, task = await waiting_process_and_its_task()
    if "force_kill" not in inspect.signature(process.kill).parameters:
        raise unittest.SkipTest("this release knows no forced kill")
    process.kill(force_kill=True)
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
    assert process.killed()


@scenario(
    id="E5",
    title="A kill of a paused process: the task that steps it hangs",
    source="https://github.com/aiidateam/aiida-core/issues/1522",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_kill_of_a_paused_process_ends_its_task() -> None:
    """Symptom: the process is KILLED; the task that steps it is never done, and its slot is lost.

    Cause: the stepping task waits for the end of the pause, which the kill does not bring.
    Fix: a kill ends the pause.
    """
    process = plumpy.Process()
    process.pause()
    task = asyncio.ensure_future(process.step_until_terminated())
    await asyncio.sleep(0)
    process.kill()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"


@scenario(
    id="E6",
    title="Pause and play in one turn: play() answers True and the process pauses",
    source="https://github.com/aiidateam/aiida-core/issues/3694",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_play_after_pause_in_one_turn_leaves_the_process_playing() -> None:
    """Symptom: a process that everybody believes to be playing is paused.

    Cause: play() sees that nothing is paused yet, and does not take the pending pause back.
    Fix: play() cancels a pending pause.
    """
    process, task = await waiting_process_and_its_task()
    process.pause()
    process.play()
    for _ in range(5):
        await asyncio.sleep(0)
    paused = process.paused
    task.cancel()
    assert not paused


@scenario(
    id="E7",
    title="A second kill in one turn raises InvalidStateError at its caller",
    source="https://github.com/aiidateam/plumpy/issues/285",
    present=("plumpy>=0.25,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_second_kill_in_one_turn_is_answered() -> None:
    """Symptom: over RPC an error reply, although the process is killed.

    Cause: the second request cancels the first one's action, whose future is done already.
    Fix: both share one action.
    """
    process, task = await waiting_process_and_its_task()
    process.kill()
    await process.kill()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"


@scenario(
    id="E8",
    title="Kill after pause in one turn raises, and the kill is lost",
    source="https://github.com/aiidateam/aiida-core/issues/6524",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_kill_after_pause_in_one_turn_kills() -> None:
    """Symptom: InvalidStateError at the caller, and the process lives.

    Cause: one interruption takes the place of another that has been delivered already.
    Fix: the stronger request wins.
    """
    process, task = await waiting_process_and_its_task()
    process.pause()
    try:
        await process.kill()
        assert process.killed()
    finally:
        task.cancel()


@scenario(
    id="E11",
    title="Cancelling the task that steps a waiting process breaks the process",
    source="https://github.com/aiidateam/aiida-core/issues/4648",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_process_can_be_stepped_again_after_a_cancellation() -> None:
    """Symptom: after a worker's shutdown every further step raises CancelledError.

    Cause: the cancellation reaches the future of the waiting state, which stays cancelled.
    Fix: the task waits for a future of its own.
    """
    process, task = await waiting_process_and_its_task()
    task.cancel()
    await asyncio.wait([task])
    again = asyncio.ensure_future(process.step_until_terminated())
    await asyncio.sleep(0)
    process.resume(7)
    await again
    assert process.result() == (7,)


@scenario(
    id="E13",
    title="A launched process is garbage collected while it waits",
    source="https://github.com/python/cpython/issues/91887",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_launched_process_lives_while_it_waits() -> None:
    """Symptom: a child process vanishes without a trace.

    Cause: launch() keeps no reference to its task, and the loop keeps weak ones only.
    Fix: the process owns its task.
    """

    class Child(plumpy.Process):
        def run(self) -> plumpy.Wait:
            return plumpy.Wait()

    class Parent(plumpy.Process):
        def run(self) -> Any:
            return weakref.ref(self.launch(Child))

    parent = Parent()
    await parent.step_until_terminated()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert parent.result()() is not None


@scenario(
    id="E14",
    title="Cancelling a process's future excepts the process, or does nothing to it",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_cancelled_future_kills_its_process() -> None:
    """Symptom: EXCEPTED by an InvalidStateError, where KILLED was meant; in older releases the
    process waits on.

    Cause: the killed process sets an exception on the future that is cancelled already.
    Fix: look at the future first.
    """
    process, task = await waiting_process_and_its_task()
    process.future().cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    assert process.killed(), process.exception()


@scenario(
    id="E15",
    title="A scheduled coroutine that is cancelled leaves its future pending for ever",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_future_of_a_cancelled_coroutine_is_done() -> None:
    """Symptom: a remote caller waits for ever.

    Cause: create_task() captures Exception, and CancelledError is a BaseException since 3.8.
    Fix: the cancellation is carried over.
    """

    async def cancelled() -> None:
        raise asyncio.CancelledError

    future = plumpy.create_task(cancelled)
    await asyncio.wait([future], timeout=0.5)
    assert future.done()
