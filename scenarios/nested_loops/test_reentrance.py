"""The loop is not re-entrant, and what nest_asyncio changes about that."""

import asyncio
import unittest

from harness.scenario import scenario
from scenarios._nesting import apply


def run_nested(coroutine):
    try:
        return asyncio.get_event_loop().run_until_complete(coroutine)
    except (AttributeError, RuntimeError) as error:
        coroutine.close()
        raise unittest.SkipTest("this release cannot nest here: %s" % error)


@scenario(
    id="L01",
    title="run_until_complete() inside a running loop is refused",
    source="https://github.com/python/cpython/issues/77704",
    present=("python_version >= '3.6'",),
)
async def test_loop_is_reentrant() -> None:
    """Symptom: "RuntimeError: This event loop is already running".

    Cause: asyncio's loop is not re-entrant, by design (bpo-33523).
    Workaround: await instead of running; where the caller is synchronous, run the coroutine in the
    loop of another thread, or switch stacks with a greenlet as plumpy's ``execute()`` does.
    """
    loop = asyncio.get_event_loop()
    nested = asyncio.sleep(0, result=42)
    try:
        assert loop.run_until_complete(nested) == 42
    finally:
        nested.close()


@scenario(
    id="L01n",
    title="nest_asyncio.apply() is there to allow nested runs, and this release does not",
    source="https://github.com/erdewit/nest_asyncio/issues/20",
    present=(
        "nest-asyncio>=1.1.0,<1.3.0; python_version >= '3.7'",
        "nest-asyncio<1.6.0; python_version >= '3.14'",
    ),
)
async def test_patched_loop_is_reentrant() -> None:
    """Symptom: "This event loop is already running" although apply() was called.

    Cause: 1.1.0 to 1.2.3 patched only run_forever(); Python 3.7.7 and 3.8.2 gave
    run_until_complete() a check of its own. On 3.14 the patched tasks of all releases before 1.6.0
    no longer agree with asyncio about the current task.
    Fix: nest_asyncio 1.3.0; on Python 3.14 nest_asyncio 1.6.0 or nest-asyncio2.
    """
    apply()

    async def main() -> int:
        nested = asyncio.sleep(0, result=42)
        try:
            return asyncio.get_event_loop().run_until_complete(nested)
        except AttributeError as error:
            raise unittest.SkipTest("this release cannot nest here: %s" % error)
        finally:
            nested.close()

    assert await asyncio.ensure_future(main()) == 42


@scenario(
    id="L02",
    title="A refused run_until_complete() has its coroutine run all the same",
    source="https://github.com/erdewit/nest_asyncio/issues/20",
    present=("python_version < '3.7'",),
)
async def test_refused_coroutine_never_runs() -> None:
    """Symptom: after "This event loop is already running" the refused work happens anyway, later.

    Cause: the coroutine became a task before the check.
    Fix: Python 3.7.7 and 3.8.2 check first.
    """
    ran = []

    async def work() -> None:
        ran.append(True)

    refused = work()
    try:
        asyncio.get_event_loop().run_until_complete(refused)
    except RuntimeError:
        pass
    await asyncio.sleep(0)
    try:
        assert not ran, "the refused coroutine ran"
    finally:
        refused.close()


@scenario(
    id="L16",
    title="asyncio.run() inside a running loop is refused",
    source="https://github.com/python/cpython/issues/66435",
    present=("python_version >= '3.7'",),
    python=">=3.7",
)
async def test_run_is_reentrant() -> None:
    """Symptom: "asyncio.run() cannot be called from a running event loop" (Jupyter's usual error).

    Cause: by design; a notebook cell already runs inside a loop.
    Workaround: await the coroutine; in synchronous code give it to a thread of its own.
    """
    nested = asyncio.sleep(0, result=42)
    try:
        assert asyncio.run(nested) == 42
    finally:
        nested.close()


@scenario(
    id="L16n",
    title="asyncio.run() inside a running loop is refused although nest_asyncio was applied",
    source="https://github.com/python/cpython/issues/66435",
    present=(
        "nest-asyncio>=1.1.0,<1.3.0; python_version >= '3.7'",
        "nest-asyncio<1.6.0; python_version >= '3.14'",
    ),
)
async def test_patched_run_is_reentrant() -> None:
    """Symptom: "asyncio.run() cannot be called from a running event loop", or "This event loop is
    already running", although apply() was called.

    Cause: the patched run() only calls run_until_complete() of the current loop.
    Fix: nest_asyncio 1.3.0; on Python 3.14 nest_asyncio 1.6.0 or nest-asyncio2.
    """
    apply()

    async def main() -> int:
        nested = asyncio.sleep(0, result=42)
        try:
            return asyncio.run(nested)
        except AttributeError as error:
            raise unittest.SkipTest("this release cannot nest here: %s" % error)
        finally:
            nested.close()

    assert await asyncio.ensure_future(main()) == 42


@scenario(
    id="N39",
    title="asyncio.Runner refuses to nest although nest_asyncio was applied",
    source="https://github.com/agronholm/anyio/pull/590",
    present=("nest-asyncio", "nest-asyncio2"),
    library="nest-asyncio",
    python=">=3.11",
)
async def test_runner_is_reentrant() -> None:
    """Symptom: "Runner.run() cannot be called from a running event loop", out of anyio.run(),
    pytest-asyncio or uvicorn, in a program where asyncio.run() nests.

    Cause: apply() replaces asyncio.run only; Runner.run() asks for the running loop itself.
    Workaround: none inside the loop; use the Runner in another thread.
    """
    apply()
    with asyncio.Runner() as runner:
        nested = asyncio.sleep(0, result=42)
        try:
            assert runner.run(nested) == 42
        finally:
            nested.close()


@scenario(
    id="N57",
    title="Only the one loop that was given to apply() can nest",
    source="https://github.com/erdewit/nest_asyncio/pull/5",
    present=("nest-asyncio>=0.9.3,<0.9.8",),
    python=">=3.6,<3.14",  # from 3.14 on L01n hides it
)
async def test_every_loop_of_the_class_can_nest() -> None:
    """Symptom: AttributeError (_num_handles_todo, _nesting_level) in every loop but the first.

    Cause: apply() patched the class but kept its counter on the instance.
    Fix: nest_asyncio 0.9.8; before, call apply() for one loop only and use no other.
    """
    apply()
    run_nested(asyncio.sleep(0))

    def in_thread() -> None:
        loop = asyncio.new_event_loop()
        nested = asyncio.sleep(0)

        async def nests() -> None:
            loop.run_until_complete(nested)

        try:
            loop.run_until_complete(nests())
        finally:
            nested.close()

    await asyncio.get_event_loop().run_in_executor(None, in_thread)


@scenario(
    id="N58",
    title="Nesting uses Task.all_tasks(), which Python 3.9 removed",
    source="https://docs.python.org/3/whatsnew/3.9.html",
    present=("nest-asyncio>=0.9.2,<0.9.3; python_version >= '3.9'",),
    python=">=3.6,<3.14",  # from 3.14 on L01n hides it
)
async def test_nested_run_uses_no_removed_api() -> None:
    """Symptom: "AttributeError: type object '_asyncio.Task' has no attribute 'all_tasks'".

    Cause: 0.9.2 asked Task.all_tasks(), deprecated since 3.7.
    Fix: nest_asyncio 0.9.3.
    """
    apply()
    nested = asyncio.sleep(0)
    try:
        asyncio.get_event_loop().run_until_complete(nested)
    except RuntimeError as error:
        raise unittest.SkipTest("this release cannot nest here: %s" % error)
    finally:
        nested.close()


@scenario(
    id="N59",
    title="A nested run that waits for a task submitted before never executes it",
    source="https://github.com/erdewit/nest_asyncio/issues/3",
    present=("nest-asyncio<0.9.3",),
    limit=3,
)
async def test_nested_run_executes_a_task_submitted_before() -> None:
    """Symptom: the nested run waits for ever.

    Cause: the ready queue was emptied for the nested run, and the task's first step was in it.
    Fix: nest_asyncio 0.9.2 for the awaited task itself, 0.9.3 for what that task waits for.
    """
    apply()
    submitted = asyncio.ensure_future(asyncio.sleep(0))

    async def waits_for_submitted() -> None:
        await submitted

    run_nested(waits_for_submitted())
    assert submitted.done()
