"""Context variables with nest_asyncio: across steps, and into and out of nested runs."""

import asyncio
import unittest

from harness.scenario import scenario
from scenarios._nesting import apply, nesting


@scenario(
    id="N01",
    title="A token cannot be reset after an await: 'Token was created in a different Context'",
    source="https://github.com/erdewit/nest_asyncio/issues/46",
    present=("nest-asyncio>=0.9.3,<1.5.0",),
    python=">=3.7",
    shown_in=("1.4.3", "1.5.0"),
)
async def test_token_can_be_reset_after_an_await() -> None:
    """Symptom: ValueError in code that sets a variable, awaits, and resets it.

    Cause: the patched Handle ran each step of a task in a copy of its context, so a token of an
    earlier step was foreign.
    Fix: nest_asyncio 1.5.0.
    """
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")
    apply()

    async def main() -> None:
        token = who.set("task")
        await asyncio.sleep(0)
        who.reset(token)

    await asyncio.ensure_future(main())


@scenario(
    id="N02",
    title="A context variable that a coroutine set is gone after its next await",
    source="https://github.com/erdewit/nest_asyncio/issues/18",
    present=("nest-asyncio>=0.9.3,<1.3.0",),
    python=">=3.7",
    shown_in=("1.2.3", "1.3.2"),
)
async def test_variable_keeps_its_value_across_an_await() -> None:
    """Symptom: request ids or the current process are back to their defaults after any await.

    Cause: the patched Handle ran each step of a task in a copy of its context, and threw the copy
    away after it.
    Fix: nest_asyncio 1.3.0 copies the values back; a token still cannot be reset before 1.5.0.
    """
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")
    apply()

    async def main() -> None:
        who.set("task")
        await asyncio.sleep(0)
        assert who.get() == "task"

    await asyncio.ensure_future(main())


def _plant_runs_in_an_empty_context() -> None:
    """Make every run start its coroutine in an empty context, as a new thread would."""
    import contextvars

    run = asyncio.BaseEventLoop.create_task

    def create_task(self, coroutine, **options):  # type: ignore[no-untyped-def]
        return contextvars.Context().run(lambda: run(self, coroutine, **options))

    asyncio.BaseEventLoop.create_task = create_task  # type: ignore[method-assign]


@scenario(
    id="N64",
    title="A nested run on the same loop sees the caller's context variables",
    source="https://peps.python.org/pep-0567/",
    library="nest-asyncio",
    python=">=3.7",
    planted=_plant_runs_in_an_empty_context,
)
async def test_nested_run_on_the_same_loop_sees_the_callers_context() -> None:
    """Symptom: none on Python 3.7 and later; the back-ports for 3.6 lose values in nested runs.

    Cause: the nested coroutine becomes a task, and a task starts in a copy of the context.
    """
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")

    async def read() -> str:
        return who.get()

    async def main() -> None:
        who.set("outer")
        assert asyncio.get_event_loop().run_until_complete(read()) == "outer"

    await nesting(main)


@scenario(
    id="N64o",
    title="A nested run on a new loop sees the caller's context variables",
    source="https://peps.python.org/pep-0567/",
    library="nest-asyncio",
    python=">=3.7",
    planted=_plant_runs_in_an_empty_context,
)
async def test_nested_run_on_a_new_loop_sees_the_callers_context() -> None:
    """Symptom: none on Python 3.7 and later; the back-ports for 3.6 lose values in nested runs.

    Cause: the context belongs to the thread's call stack, not to the loop.
    """
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")

    async def read() -> str:
        return who.get()

    async def main() -> None:
        who.set("outer")
        nested = read()
        try:
            assert asyncio.new_event_loop().run_until_complete(nested) == "outer"
        except RuntimeError as error:
            nested.close()
            raise unittest.SkipTest("this release runs no second loop: %s" % error)

    await nesting(main)


@scenario(
    id="N65",
    title="A variable set inside a nested run is not seen by the caller after it",
    source="https://peps.python.org/pep-0567/",
    present=("nest-asyncio", "nest-asyncio2"),
    library="nest-asyncio",
    python=">=3.7",
    shown_in=("1.6.0",),
)
async def test_variable_set_in_a_nested_run_is_seen_after_it() -> None:
    """Symptom: "await coroutine()" shows the new value, run_until_complete(coroutine()) the old.

    Cause: the nested coroutine is wrapped in a task, which changes its copy of the context only.
    Workaround: return the value; plumpy's execute() brings the caller's context in and out.
    """
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")

    async def sets() -> None:
        who.set("nested")

    async def main() -> None:
        asyncio.get_event_loop().run_until_complete(sets())
        assert who.get() == "nested"

    await nesting(main)
