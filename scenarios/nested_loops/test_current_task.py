"""Nested runs and asyncio's idea of the current task."""

import asyncio
import threading
import unittest
from typing import Any, Dict, List

from harness.scenario import scenario
from scenarios._nesting import apply, check_nesting, nesting


@scenario(
    id="N15",
    title="After a nested run current_task() of the outer coroutine is None",
    source="https://github.com/erdewit/nest_asyncio/issues/64",
    present=(
        "nest-asyncio>=1.5.2,<1.5.4; python_version >= '3.7' and python_version < '3.14'",
        "nest-asyncio>=1.6.0; python_version >= '3.14'",
    ),
    shown_in=("1.5.2", "1.5.4"),
)
async def test_current_task_is_the_same_after_a_nested_run() -> None:
    """Symptom: sniffio and anyio say "not in async context", asyncio.timeout "should be used inside
    a task".

    Cause: 1.5.2 no longer patched the task's step but kept a leave_task() that drops the outer
    task. On Python 3.14 the patched tasks are never seen at all.
    Fix: nest_asyncio 1.5.4; on Python 3.14 nest-asyncio2.
    """

    async def main() -> None:
        current_task = getattr(asyncio, "current_task", None) or asyncio.Task.current_task
        before = current_task()
        asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))
        assert before is not None
        assert current_task() is before

    await nesting(main)


@scenario(
    id="N48",
    title="In a nested run a plain callback sees the interrupted outer task as the current one",
    source="https://github.com/erdewit/nest_asyncio/pull/80",
    present=("nest-asyncio<1.6.0",),
    shown_in=("1.5.9", "1.6.0"),
)
async def test_callback_in_a_nested_run_has_no_current_task() -> None:
    """Symptom: cancel scopes, time-outs and loggers attach to the wrong task.

    Cause: the outer task stayed the current one while the nested run executed its callbacks.
    Fix: nest_asyncio 1.6.0.
    """

    async def main() -> None:
        loop, seen = asyncio.get_event_loop(), []
        current_task = getattr(asyncio, "current_task", None) or asyncio.Task.current_task
        loop.call_soon(lambda: seen.append(current_task()))
        loop.run_until_complete(asyncio.sleep(0))
        assert seen == [None]

    await nesting(main)


@scenario(
    id="N09",
    title="Two threads that run tasks of one loop break its current-task bookkeeping",
    source="https://github.com/erdewit/nest_asyncio/issues/29",
    present=(
        "nest-asyncio>=1.1.0; python_version < '3.7'",
        "nest-asyncio>=1.3.0,<1.5.2; python_version >= '3.7'",
        "nest-asyncio>=1.5.4; python_version >= '3.7'",
        "nest-asyncio2; python_version < '3.14'",
    ),
    library="nest-asyncio",
    shown_in=("1.3.3", "1.6.0"),
    limit=3,
)
async def test_steps_in_two_threads_do_not_break_each_other() -> None:
    """Symptom: "KeyError" in leave_task, or "Leaving task ... does not match the current task".

    Cause: apply() takes the guard away that keeps a second thread out, and each saves and restores
    the other's current task. Where nothing is raised a stale task stays the current one, and the
    next C task cannot be entered: a hang.
    Workaround: hand work over with run_coroutine_threadsafe().
    """
    errors: List[Dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_event_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        entered, leave = threading.Event(), threading.Event()
        ended = loop.create_future()

        async def intruder() -> None:
            entered.set()
            leave.wait()

        def second_run() -> None:
            step, refused = intruder(), None
            try:
                loop.run_until_complete(step)
            except RuntimeError as error:
                step.close()
                entered.set()
                refused = error
            loop.call_soon_threadsafe(ended.set_result, refused)

        threading.Thread(target=second_run).start()
        entered.wait()
        loop.call_soon(leave.set)  # when this step has ended, in the middle of the other thread's
        if await ended:
            raise unittest.SkipTest("a second thread is refused here: %s" % ended.result())

    await nesting(main)
    assert not errors, errors[0]


@scenario(
    id="N18",
    title="apply() when tasks already exist: 'Cannot enter into task ...', the step is lost",
    source="https://github.com/erdewit/nest_asyncio/issues/22",
    present=(
        "nest-asyncio>=0.9.3; python_version < '3.7'",
        "nest-asyncio>=0.9.3,<1.6.0; python_version >= '3.7'",
        "nest-asyncio>=1.6.0; python_version >= '3.14'",
        "nest-asyncio2; python_version < '3.7'",
    ),
    library="nest-asyncio",
    shown_in=("1.5.9", "1.6.0"),
)
async def test_task_made_before_apply_runs_in_a_nested_run() -> None:
    """Symptom: "Cannot enter into task ... while another task ... is being executed", then a hang.

    Cause: tasks made before apply() are C tasks, and their enter_task() refuses while another task
    is current. On Python 3.6 a KeyError instead, in every release.
    Fix: nest_asyncio 1.6.0; before, call apply() before anything else.
    """
    loop, errors = asyncio.get_event_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    early = asyncio.ensure_future(asyncio.sleep(0))

    async def nests() -> None:
        later = loop.create_future()
        loop.call_later(0.1, later.set_result, None)
        try:
            apply(loop)
            loop.run_until_complete(later)
        except (AttributeError, RuntimeError) as error:
            raise unittest.SkipTest("this release cannot nest here: %s" % error)

    await asyncio.ensure_future(nests())
    assert early.done(), "the task made before apply() made no step"
    assert not errors, errors


@scenario(
    id="N55",
    title="Eager tasks die in a nested run: 'Cannot enter into task'",
    source="https://github.com/erdewit/nest_asyncio/issues/80",
    present=(
        "nest-asyncio>=0.9.3,<1.5.2; python_version < '3.14'",
        "nest-asyncio>=1.5.4,<1.6.0; python_version < '3.14'",
        "nest-asyncio>=0.9.3; python_version >= '3.14'",
    ),
    python=">=3.12",
    shown_in=("1.5.9", "1.6.0"),
    limit=3,
)
async def test_eager_task_runs_in_a_nested_run() -> None:
    """Symptom: with asyncio.eager_task_factory every nested run hangs.

    Cause: eager_task_factory was bound to the C Task at import, and a C task cannot be entered
    while another task is the current one.
    Fix: nest_asyncio 1.6.0; on Python 3.14 nest-asyncio2.
    """
    apply()
    await check_nesting()
    loop = asyncio.get_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(asyncio.sleep(0, result=42)) == 42


@scenario(
    id="N67",
    title="asyncio.timeout(): 'Timeout should be used inside a task' inside a task",
    source="https://github.com/ib-api-reloaded/ib_async/issues/200",
    present=("nest-asyncio>=0.9.3; python_version >= '3.14'",),
    python=">=3.11",
)
async def test_timeout_can_be_used_in_a_task() -> None:
    """Symptom: asyncio.timeout() and wait_for() raise in every task, once apply() was called.

    Cause: from Python 3.14 on current_task() does not see the pure-Python tasks that apply()
    puts in place.
    Fix: nest-asyncio2 1.6.1.
    """
    apply()

    async def main() -> None:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)

    await asyncio.ensure_future(main())
