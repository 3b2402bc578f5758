"""Control messages that meet a process at a bad moment."""

import asyncio
import inspect
import unittest
from typing import Any

import plumpy
from harness.scenario import scenario
from scenarios._processes import check_asyncio, waiting_process_and_its_task


@scenario(
    id="E4",
    title="A forced kill in a step: the process is killed, and then excepted",
    source="https://github.com/aiidateam/plumpy/issues/288",
    present=("plumpy>=0.25,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_process_that_was_killed_by_force_stays_killed() -> None:
    """Symptom: "Cannot transition from KILLED to FINISHED", while the caller was told of a kill.

    Cause: the step goes on after the forced transition, and what it returns is acted upon.
    Fix: the outcome of a step that was cut short is dropped.
    """

    class Steps(plumpy.Process):
        """Is in its only step until it is let go."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.began, self.go = asyncio.Event(), asyncio.Event()

        async def run(self) -> None:
            self.began.set()
            await self.go.wait()

    process = Steps()
    if "force_kill" not in inspect.signature(process.kill).parameters:
        raise unittest.SkipTest("this release knows no forced kill")
    task = asyncio.ensure_future(process.step_until_terminated())
    await process.began.wait()
    process.kill(force_kill=True)
    process.go.set()
    await asyncio.wait([task], timeout=1)
    assert process.state is plumpy.ProcessState.KILLED, process.state


@scenario(
    id="E9",
    title="A kill after a resume in one turn raises InvalidStateError at its caller",
    source="https://github.com/aiidateam/plumpy/issues/285",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_kill_after_resume_in_one_turn_is_no_error() -> None:
    """Symptom: an error answer to a kill that has its effect all the same.

    Cause: the kill interrupts the wait by setting a future that the resume has set already.
    Fix: what has ended the wait is not set again.
    """
    process, task = await waiting_process_and_its_task()
    process.resume()
    process.kill()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
    assert process.killed()


@scenario(
    id="E10",
    title="A pause during the last step: the process is finished and paused",
    source="https://github.com/aiidateam/aiida-core/issues/3694",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_process_that_has_ended_is_not_paused() -> None:
    """Symptom: a finished process that is listed as paused; its pause is answered with True.

    Cause: the pause takes effect between two steps, and after the last one there is none.
    Fix: a process that ends lets go of a pause that did not take effect.
    """

    class PausesInItsLastStep(plumpy.Process):
        def run(self) -> None:
            self.pause()

    process = PausesInItsLastStep()
    task = asyncio.ensure_future(process.step_until_terminated())
    for _ in range(100):
        await asyncio.sleep(0)
    if not process.has_terminated():  # the pause came first: also well
        assert process.paused
        process.play()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
    assert not process.paused


@scenario(
    id="E12",
    title="A work chain whose awaited future is cancelled waits for ever",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_cancelled_future_ends_the_wait_of_a_work_chain() -> None:
    """Symptom: a work chain in WAITING with nothing left to wait for; its slot is lost.

    Cause: the callback of the future catches an Exception, and CancelledError is none.
    Fix: a cancellation is an outcome like any other.
    """
    future = asyncio.get_event_loop().create_future()

    class Chain(plumpy.WorkChain):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.outline(cls.start, cls.end)

        def start(self) -> Any:
            return plumpy.ToContext(value=future)

        def end(self) -> None:
            pass

    process = Chain()
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state is not plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    future.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
