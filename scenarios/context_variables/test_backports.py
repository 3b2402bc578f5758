"""The back-ports of contextvars for Python 3.6."""

import asyncio

from harness.scenario import scenario


def _import_aiocontextvars() -> None:
    """The back-port patches asyncio.new_event_loop() when it is imported."""
    import aiocontextvars  # noqa: F401


@scenario(
    id="C01",
    title="aiocontextvars: a value set outside is not seen in a nested run on a new loop",
    source="https://github.com/aiidateam/plumpy/commit/1b6ecb8",
    present=("aiocontextvars; python_version < '3.7'",),
    shown_in=("0.2.0",),
    python=">=3.6,<3.7",
    prepare=_import_aiocontextvars,
)
async def test_backport_carries_a_value_into_a_new_loop() -> None:
    """Symptom: the process stack of the outer process is empty in the inner one, on Python 3.6.

    Cause: the back-port looks the context up by the current task of the running loop; while the
    inner run starts, the loop that is running (or about to) has no current task.
    Fix: Python 3.7. Workaround: nest on the same loop.
    """
    from aiocontextvars import ContextVar

    who, outer, inner = ContextVar("who"), asyncio.get_event_loop(), asyncio.new_event_loop()
    who.set("outer")

    async def read() -> str:
        return who.get(None)

    asyncio._set_running_loop(None)  # what every way to run a second loop in a thread does
    seen = inner.run_until_complete(read())
    asyncio._set_running_loop(outer)
    assert seen == "outer"


@scenario(
    id="C01s",
    title="aiocontextvars: a value set outside is seen by a new task of the same loop",
    source="https://github.com/fantix/aiocontextvars",
    present=("aiocontextvars<0.2; python_version < '3.7'",),
    shown_in=("0.1.2", "0.2.0"),
    python=">=3.6,<3.7",
    prepare=_import_aiocontextvars,
)
async def test_backport_carries_a_value_into_a_task_of_the_same_loop() -> None:
    """Symptom: a value is lost in the first task that is made; in a nested run on a new loop it is
    lost in every release.

    Cause: in the same loop the current task is the outer one, but before 0.2 its context is not the
    one that the back-port reads.
    Fix: aiocontextvars 0.2.
    """
    from aiocontextvars import ContextVar

    who = ContextVar("who")
    who.set("outer")

    async def read() -> str:
        return who.get(None)

    assert await asyncio.get_event_loop().create_task(read()) == "outer"


@scenario(
    id="C02",
    title="contextvars 2.4 on Python 3.6: a value set in one task is seen by every other",
    source="https://github.com/MagicStack/contextvars/issues/13",
    present=("contextvars>=2.0; python_version < '3.7'",),
    shown_in=("2.4",),
    python=">=3.6,<3.7",
)
async def test_backport_keeps_tasks_apart() -> None:
    """Symptom: one request's id shows up in another's log.

    Cause: the plain back-port is thread-local storage; asyncio does not know it.
    Fix: Python 3.7; aiocontextvars for tasks of one loop (it loses nested runs on a new one).
    """
    from contextvars import ContextVar

    who = ContextVar("who")

    async def sets() -> None:
        who.set("another task")

    await asyncio.ensure_future(sets())
    assert who.get(None) is None


@scenario(
    id="C04",
    title="aiocontextvars: nest_asyncio.apply() inside a task wipes every value set so far",
    source="https://github.com/erdewit/nest_asyncio",
    present=("aiocontextvars>=0.2; python_version < '3.7'",),
    shown_in=("0.2.0",),
    python=">=3.6,<3.7",
    prepare=_import_aiocontextvars,
)
async def test_backport_keeps_values_when_the_task_class_is_swapped() -> None:
    """Symptom: all context variables are unset after apply() in a running task.

    Cause: apply() swaps asyncio.Task (the one line below), and the new class does not know the
    running C task, by which the back-port finds the context.
    Fix: Python 3.7. Workaround: apply() before any task.
    """
    from aiocontextvars import ContextVar

    who = ContextVar("who")
    who.set("task")
    asyncio.Task = asyncio.tasks._PyTask
    assert who.get(None) == "task"
