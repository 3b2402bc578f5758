"""greenback: synchronous code that waits without a nested run, and what that takes."""

import asyncio
import contextvars
import unittest
from typing import Any

from harness.scenario import scenario
from scenarios._nesting import apply


async def open_portal() -> None:
    """Open a portal in this task; skip where this release cannot, with the greenlet of today."""
    import greenback

    try:
        await asyncio.ensure_future(greenback.ensure_portal())  # in a task that may break
    except RuntimeError as error:
        raise unittest.SkipTest("no portal here: %s" % error)
    await greenback.ensure_portal()


@scenario(
    id="G01",
    title="greenback.has_portal() raises outside of async code",
    source="https://github.com/oremanj/greenback/issues/12",
    present=("greenback>=1.0,<1.1",),
    shown_in=("1.0.0", "1.1.0"),
    python=">=3.8",
)
async def test_there_is_no_portal_outside_of_async_code() -> None:
    """Symptom: AsyncLibraryNotFoundError, where False is the answer.

    Cause: has_portal() asked sniffio which library runs, and sniffio raises where none does.
    Fix: greenback 1.1.0.
    """
    import greenback

    if not hasattr(greenback, "has_portal"):
        raise unittest.SkipTest("this release has no has_portal()")
    # A thread of the executor runs no loop.
    found = await asyncio.get_event_loop().run_in_executor(None, greenback.has_portal)
    assert found is False


@scenario(
    id="G02",
    title="greenback.has_portal() raises in a callback of the loop",
    source="https://github.com/oremanj/greenback/issues/16",
    present=("greenback>=1.0,<1.1",),
    shown_in=("1.0.0", "1.1.0"),
    python=">=3.8",
)
async def test_there_is_no_portal_in_a_callback() -> None:
    """Symptom: AsyncLibraryNotFoundError, where False is the answer.

    Cause: has_portal() asked sniffio which library runs, and sniffio knows it in tasks only.
    Fix: greenback 1.1.0 (the report was closed with 1.1.1).
    """
    import greenback

    if not hasattr(greenback, "has_portal"):
        raise unittest.SkipTest("this release has no has_portal()")
    loop = asyncio.get_event_loop()
    answered = loop.create_future()

    def callback() -> None:
        try:
            answered.set_result(greenback.has_portal())
        except Exception as error:
            answered.set_exception(error)

    loop.call_soon(callback)
    assert await answered is False


@scenario(
    id="G04",
    title="greenback.await_() works only in a task that opened a portal",
    source="https://greenback.readthedocs.io/en/latest/principle.html",
    present=("greenback",),
    shown_in=("1.3.0",),
    python=">=3.8",
)
async def test_synchronous_code_can_wait_in_every_task() -> None:
    """Symptom: "You must create a greenback portal for this task", in a task that the same program
    started.

    Cause: a portal runs one task in a greenlet of its own; the tasks that this one starts are none
    of its business.
    Workaround: ensure_portal() at the beginning of each task, or bestow_portal(task).
    """
    import greenback

    def synchronous() -> Any:
        nested = asyncio.sleep(0, result=42)
        try:
            return greenback.await_(nested)
        finally:
            nested.close()

    async def other_task() -> Any:
        return synchronous()

    await open_portal()
    assert synchronous() == 42
    assert await asyncio.ensure_future(other_task()) == 42


def _plant_nested_runs() -> None:
    """Let synchronous code wait in a nested run of the loop, as with nest_asyncio."""
    import greenback

    apply(asyncio.new_event_loop())
    greenback.await_ = lambda nested: asyncio.get_event_loop().run_until_complete(nested)


@scenario(
    id="G05",
    title="With greenback 200 siblings wait for each other in any order",
    source="https://greenback.readthedocs.io/en/latest/principle.html",
    library="greenback",
    shown_in=("1.3.0",),
    python=">=3.8",
    planted=_plant_nested_runs,
    limit=3,
)
async def test_siblings_with_portals_wait_in_any_order() -> None:
    """Symptom: none; this is the way that works, where nested runs end in a RecursionError, or
    deadlock because the run that was entered first cannot return first.

    Cause: every task has a greenlet, and with it a stack, of its own.
    """
    import greenback

    await open_portal()
    turns = [asyncio.Event() for _ in range(201)]
    order = []

    async def sibling(number: int) -> None:
        await greenback.ensure_portal()
        greenback.await_(turns[number].wait())
        order.append(number)
        turns[number + 1].set()

    tasks = [asyncio.ensure_future(sibling(number)) for number in range(200)]
    asyncio.get_event_loop().call_later(0.01, turns[0].set)
    await asyncio.gather(*tasks)
    assert order == list(range(200))


@scenario(
    id="G05c",
    title="With greenback a cancellation and context variables reach synchronous code",
    source="https://greenback.readthedocs.io/en/latest/principle.html",
    library="greenback",
    shown_in=("1.3.0",),
    python=">=3.8",
    planted=_plant_nested_runs,
    limit=3,
)
async def test_cancellation_and_context_reach_through_a_portal() -> None:
    """Symptom: none; this is the way that works. A nested run ends before the cancellation arrives,
    and what it sets in a context variable is lost.

    Cause: await_() hands its awaitable to the task itself, which awaits it as its own.
    """
    import greenback

    await open_portal()
    who, seen = contextvars.ContextVar("who", default="nobody"), []

    async def sets() -> None:
        who.set("nested")

    async def waits() -> None:
        await greenback.ensure_portal()
        greenback.await_(sets())
        seen.append(who.get())
        asyncio.get_event_loop().call_soon(task.cancel)
        greenback.await_(asyncio.sleep(0.5))
        seen.append("not cancelled")

    task = asyncio.ensure_future(waits())
    await asyncio.wait([task])
    assert (seen, task.cancelled()) == (["nested"], True)
