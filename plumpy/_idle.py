"""Running a coroutine on a loop that is not running and has nothing else to do.

Most processes never wait. To start the loop for them means two turns, with a look at the selector
in each, for one step of one task. Where nobody else has anything on the loop, such a turn could do
nothing but make this step, so it is made here, in the surroundings that the loop would give it. If
the task is not done by then, or has left anything on the loop, the loop itself goes on from there.

What a loop has to do is in private attributes. They are looked at in loops of exactly the class
that asyncio makes on Unix, with the containers that it gives them; all others are simply run.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

_T = TypeVar("_T")

_KNOWN: Any = asyncio.SelectorEventLoop if sys.platform != "win32" else None


def run(loop: Any, coro: Awaitable[_T]) -> _T:
    """Do what ``loop.run_until_complete`` does; no loop is running in this thread."""
    try:
        alone = (
            type(loop) is _KNOWN
            and _has_nothing_to_do(loop)
            and type(loop._ready) is deque
            and type(loop._selector) is selectors.DefaultSelector
            and loop._task_factory is None
            and loop._thread_id is None
            and not loop._debug
            and not hasattr(loop, "_nest_patched")
        )
    except AttributeError:
        alone = False  # another Python, or a loop that is closed
    return cast(_T, _run(loop, coro) if alone else loop.run_until_complete(coro))


def _has_nothing_to_do(loop: Any) -> bool:
    """Return whether a turn of the loop could do nothing at all."""
    return (
        not loop._ready
        and not loop._scheduled
        and not loop._stopping
        and not loop._signal_handlers
        and len(loop._selector._fd_to_key) == loop._internal_fds
    )


def _run(loop: Any, coro: Awaitable[_T]) -> _T:
    task: Any = None
    hooks = sys.get_asyncgen_hooks()
    try:
        loop._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)
        asyncio._set_running_loop(loop)
        try:
            task = loop.create_task(coro)
            # Another thread may have added something since; it comes first then.
            if len(loop._ready) == 1:
                loop._ready.popleft()._run()
        finally:
            loop._thread_id = None
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
        if not task.done() or not _has_nothing_to_do(loop):
            # As for a task of its own: if the loop is stopped it says so itself.
            task._log_destroy_pending = False
            loop.run_until_complete(task)
    except BaseException:
        if task is not None and task.done() and not task.cancelled():
            task.exception()  # raised to the caller, so nobody has to hear of it again
        raise
    return cast(_T, task.result())
