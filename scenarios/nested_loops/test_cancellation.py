"""Cancelling or timing out a task that is blocked in a nested run."""

import asyncio
import unittest

from harness.scenario import scenario
from scenarios._nesting import nesting


@scenario(
    id="N40",
    title="Cancelling a task does not interrupt the nested run it is blocked in",
    source="https://github.com/erdewit/nest_asyncio/issues/36",
    present=(
        "nest-asyncio",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
)
async def test_cancellation_interrupts_a_nested_run() -> None:
    """Symptom: a cancelled task goes on until its nested run ends by itself.

    Cause: cancel() can only mark a task whose frame is suspended; this one is in the middle of a
    call, under the nested run.
    Workaround: cancel the nested coroutine itself; await instead of nesting.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        ends_by_itself = loop.create_future()

        async def blocked() -> None:
            loop.run_until_complete(ends_by_itself)

        def end(rounds: int) -> None:  # so that the cancellation always comes first
            loop.call_soon(end, rounds - 1) if rounds else ends_by_itself.set_result(None)

        task = asyncio.ensure_future(blocked())
        loop.call_later(0.01, task.cancel)
        loop.call_later(0.02, end, 20)
        await asyncio.wait([task])
        assert not ends_by_itself.done(), "the cancellation came when the nested run was over"

    await nesting(main)


@scenario(
    id="N41",
    title="A time-out around code that nests fires only after the nested run",
    source="https://github.com/erdewit/nest_asyncio/issues/36",
    present=(
        "nest-asyncio",
        "nest-asyncio2",
    ),
    library="nest-asyncio",
    shown_in=("1.6.0",),
    python=">=3.7",
)
async def test_timeout_interrupts_a_nested_run() -> None:
    """Symptom: the limit is not kept. On 3.7 to 3.11 TimeoutError comes late, on 3.12 the outer
    task is cancelled instead, from 3.13 on nothing is raised at all. (On 3.6 it comes in time:
    wait_for() did not wait for the task it cancelled.)

    Cause: a time-out is a cancellation, and that can only mark a task whose frame is suspended;
    this one is in the middle of a call, under the nested run.
    Workaround: put the time-out inside, around the nested coroutine.
    """

    async def main() -> None:
        loop = asyncio.get_event_loop()
        ends_by_itself = loop.create_future()

        async def blocked() -> None:
            loop.run_until_complete(ends_by_itself)

        def end(rounds: int) -> None:  # so that the cancellation always comes first
            loop.call_soon(end, rounds - 1) if rounds else ends_by_itself.set_result(None)

        loop.call_later(0.02, end, 20)
        try:
            await asyncio.wait_for(blocked(), timeout=0.01)
        except asyncio.TimeoutError:
            assert not ends_by_itself.done(), "the time-out came when the nested run was over"
            return
        except RuntimeError as error:
            raise unittest.SkipTest("no time-outs here: %s" % error)
        raise AssertionError("no time-out at all")

    await nesting(main)
