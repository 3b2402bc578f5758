"""Resuming a process, and saving what belongs to a loop."""

import asyncio
import threading
from typing import Any

import plumpy
from harness.scenario import scenario
from scenarios._processes import check_asyncio, waiting_process_and_its_task


@scenario(
    id="P18",
    title="resume() twice: the second one is ignored",
    source="https://github.com/aiidateam/plumpy/issues/285",
    present=("plumpy>=0.16,<0.21.11", "plumpy>=0.22,<0.23"),
    library="plumpy",
    python=">=3.9",
)
async def test_second_resume_is_ignored() -> None:
    """Symptom: asyncio.InvalidStateError at whoever resumes second.

    Cause: resume() set the result of a future that was done.
    Fix: plumpy 0.21.11, and 0.23.
    """
    process, task = await waiting_process_and_its_task()
    process.resume(1)
    process.resume(2)
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
    assert process.result() == (1,)


@scenario(
    id="P18t",
    title="resume() from another thread does not wake the process",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_resume_from_another_thread_wakes_the_process() -> None:
    """Symptom: the process goes on only when its loop wakes up for something else.

    Cause: resume() sets an asyncio future, which is no business of another thread.
    Fix: loop.call_soon_threadsafe(process.resume, value).
    """
    process, task = await waiting_process_and_its_task()
    asleep, loop = threading.Event(), asyncio.get_event_loop()
    select, late = loop._selector.select, []

    def watched(timeout=None):
        if timeout is None:
            asleep.set()
        return select(timeout)

    def elsewhere() -> None:
        asleep.wait()
        process.resume()
        timer = threading.Event()
        timer.wait(0.3)
        late.append(not task.done())
        loop.call_soon_threadsafe(int)

    loop._selector.select = watched
    threading.Thread(target=elsewhere).start()
    await task
    while not late:
        await asyncio.sleep(0.01)
    assert not late[0], "resumed 0.3 s ago, and the loop sleeps on"


@scenario(
    id="P18w",
    title="call_soon_threadsafe(process.resume) from another thread wakes the process",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    library="plumpy",
    planted=lambda: setattr(asyncio.SelectorEventLoop, "_write_to_self", lambda self: None),
    limit=3,
    python=">=3.9",
)
async def test_threadsafe_resume_from_another_thread_wakes_the_process() -> None:
    """Symptom: none: a guard for the way that works. resume() by itself would not wake the loop.

    Cause: the call wakes the loop, and resume() runs in the loop's own thread.
    """
    process, task = await waiting_process_and_its_task()
    loop = asyncio.get_event_loop()
    threading.Timer(0.05, loop.call_soon_threadsafe, (process.resume, 7)).start()
    await task
    assert process.result() == (7,)


def _plant_resume_that_raises_nothing() -> None:
    """Make a resume() that comes too late say nothing."""
    resume = plumpy.Process.resume

    def silent(self: Any, *args: Any) -> None:
        try:
            resume(self, *args)
        except Exception:
            pass

    plumpy.Process.resume = silent


@scenario(
    id="P18l",
    title="resume() of a process that has ended is refused with a clear error",
    source="https://github.com/aiidateam/plumpy/issues/285",
    library="plumpy",
    planted=_plant_resume_that_raises_nothing,
    python=">=3.9",
)
async def test_late_resume_is_refused() -> None:
    """Symptom: none: a guard. A resume that comes too late must not be lost in silence.

    Cause: resume() is an event of the waiting state only.
    """
    process, task = await waiting_process_and_its_task()
    process.resume()
    await asyncio.wait([task], timeout=1)
    assert task.done(), "the task that steps the process waits for ever"
    refused = None
    try:
        process.resume()
    except Exception as error:
        refused = error
    assert type(refused).__name__ == "EventError", refused


class Defaults(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("given")
        spec.input("default", default=2)


@scenario(
    id="P17",
    title="A reloaded process has its raw inputs and its parsed ones",
    source="https://github.com/aiidateam/plumpy/issues/251",
    library="plumpy",
    planted=lambda: setattr(plumpy.Process, "raw_inputs", property(lambda self: self.inputs)),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_reloaded_process_knows_raw_and_parsed_inputs_apart() -> None:
    """Symptom: none: a guard. INPUTS_RAW holds what the caller gave, INPUTS_PARSED what the
    process works with, defaults included.

    Cause: both are saved, as they were.
    """
    process = Defaults({"given": 1})
    loaded = plumpy.Bundle(process).unbundle()
    assert dict(loaded.raw_inputs) == {"given": 1}
    assert dict(loaded.inputs) == {"given": 1, "default": 2}


@scenario(
    id="P17m",
    title="Parsing the inputs writes defaults into what the caller gave",
    source="https://github.com/aiidateam/plumpy/issues/251",
    present=("plumpy>=0.16,<0.21.2", "plumpy>=0.22.0,<0.22.2"),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_given_inputs_are_left_as_they_were() -> None:
    """Symptom: raw inputs that are saved with the process hold defaults nobody gave.

    Cause: defaults of a namespace were filled into the caller's own nested dictionary.
    Fix: plumpy 0.21.2, and 0.22.2.
    """

    class Nested(plumpy.Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.input("namespace.default", default=2)

    given = {"namespace": {}}
    process = Nested(given)
    assert given == {"namespace": {}}
    assert process.inputs.namespace.default == 2


@scenario(
    id="P13",
    title="A saved future that is loaded belongs to the loop it is loaded for",
    source="https://github.com/aiidateam/plumpy/pull/150",
    library="plumpy",
    planted=lambda: setattr(plumpy.SavableFuture, "get_loop", lambda self: None),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_loaded_future_belongs_to_the_loop_of_its_loader() -> None:
    """Symptom: none: a guard. A future cannot keep the loop it was made for across a checkpoint.

    Cause: loading makes a new future; the loop is part of the load context.
    """
    loop = asyncio.get_event_loop()
    saved = plumpy.SavableFuture(loop=asyncio.new_event_loop()).save()
    loaded = plumpy.SavableFuture.recreate_from(saved, plumpy.LoadSaveContext(loop=loop))
    assert loaded.get_loop() is loop
    loop.call_soon(loaded.set_result, 42)
    assert await loaded == 42


@scenario(
    id="P6",
    title="A cancelled future cannot be saved",
    source="https://github.com/aiidateam/plumpy/blob/master/src/plumpy/persistence.py",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_cancelled_future_can_be_saved_and_loaded() -> None:
    """Symptom: CancelledError out of save(), and with it no checkpoint of the process.

    Cause: saving asks the future for its exception, which raises when it was cancelled.
    Fix: look whether it was cancelled first.
    """
    loop = asyncio.get_event_loop()
    future = plumpy.SavableFuture(loop=loop)
    future.cancel()
    context = plumpy.LoadSaveContext(loop=loop)
    loaded = plumpy.SavableFuture.recreate_from(future.save(), context)
    assert loaded.cancelled()
