"""How synchronous code waits inside a running loop: it runs in a greenlet, and switches out.

:func:`drive` stands between an asyncio task and a coroutine. It runs every step of the coroutine in
a greenlet, a *portal*. Code in there, however deep and however synchronous, can hand an awaitable
to the driver (:func:`sync_await`) and be suspended; the driver awaits it in the same task, and
switches back with the outcome. To asyncio the task simply awaits, so cancellation, context
variables and ``current_task`` need nothing special.

What is handed over runs in a portal of its own, one level up, and not in a call of the level below:
neither the stack nor the cost of a wake-up grows with the number of levels.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

_T = TypeVar("_T")

# What a portal has to say when it switches back to its driver.
_YIELDED, _RETURNED, _RAISED, _AWAITS = range(4)

#: Portals kept for the next step, per thread. A fresh one costs ten times a used one.
_POOL_SIZE = 128
#: A portal counts recursion from where it was first entered, so one from far down is not kept.
_DEEP = 200


class Portal(greenlet):  # type: ignore[misc]
    """A greenlet that runs steps of coroutines, one after the other.

    Values go in and out by attributes: the arguments of a switch would stay referenced by the frame
    of the portal for as long as it waits in the pool.
    """

    __slots__ = ("argument", "back", "kind", "method", "payload", "reusable", "task")

    argument: Any
    back: greenlet
    kind: int
    method: Callable[[Any], Any] | None
    payload: Any
    reusable: bool
    #: The task whose driver this portal works for: code of another task that happens to run on top
    #: of it (a re-entered loop) must not use it.
    task: asyncio.Task[Any] | None


def _work() -> None:
    me = getcurrent()
    assert isinstance(me, Portal)
    while True:
        try:
            me.payload = me.method(me.argument)  # type: ignore[misc]
            me.kind = _YIELDED
        except StopIteration as stop:
            me.payload = stop.value
            me.kind = _RETURNED
        except BaseException as exc:
            me.payload = exc
            me.kind = _RAISED
        me.method = me.argument = None
        me.back.switch()


class _Pool(threading.local):
    def __init__(self) -> None:
        self.idle: list[Portal] = []


_pool = _Pool()


def _new_portal() -> Portal:
    portal = Portal(_work)
    depth = 0
    frame = sys._getframe()
    while frame.f_back is not None and depth <= _DEEP:
        frame = frame.f_back
        depth += 1
    portal.reusable = depth <= _DEEP
    return portal


if sys.version_info >= (3, 12):
    # From 3.14 on, tasks written in Python, as nest_asyncio has all tasks be, are known to it only.
    _python_current_task: Callable[[], asyncio.Task[Any] | None]
    _python_current_task = asyncio.tasks._py_current_task  # type: ignore[attr-defined]

    def current_task() -> asyncio.Task[Any] | None:
        """Return the current task; None also if no loop is running."""
        try:
            return asyncio.current_task() or _python_current_task()
        except RuntimeError:
            return None
else:
    # asyncio.current_task() is several times slower, and asked for in every step.
    _current_tasks: dict[Any, asyncio.Task[Any]] = asyncio.tasks._current_tasks  # type: ignore[attr-defined]

    def current_task() -> asyncio.Task[Any] | None:
        """Return the current task; None also if no loop is running."""
        return _current_tasks.get(asyncio._get_running_loop())


def drive(awaitable: Awaitable[_T]) -> Awaitable[_T]:
    """Await something whose synchronous parts may use :func:`sync_await`."""
    return drive_steps(steps_of(awaitable), current_task())


@types.coroutine
def drive_steps(level: Any, task: asyncio.Task[Any] | None) -> Generator[Any, Any, Any]:
    """See :func:`drive`.

    :param level: what :func:`steps_of` returns
    :param task: the current task
    """
    idle = _pool.idle
    method: Callable[[Any], Any] = level.send
    argument: Any = None
    below: list[tuple[Portal, Any]] | None = None
    while True:
        portal = idle.pop() if idle else _new_portal()
        portal.task = task
        portal.method = method
        portal.argument = argument
        while True:
            portal.back = here = getcurrent()
            portal.gr_context = here.gr_context
            method = argument = None  # type: ignore[assignment]
            portal.switch()
            kind = portal.kind
            payload = portal.payload
            portal.payload = None
            if kind is _AWAITS:
                if below is None:
                    below = []
                below.append((portal, level))
                level = payload
                method = level.send
                payload = None
                break
            portal.task = None
            del portal.back
            if portal.reusable and len(idle) < _POOL_SIZE:
                idle.append(portal)
            if kind is _YIELDED:
                try:
                    argument = yield payload
                    method = level.send
                except BaseException as exc:
                    argument = exc
                    method = level.throw
                payload = None
                break
            if not below:
                if kind is _RETURNED:
                    return payload
                try:
                    raise payload
                finally:
                    del payload
            portal, level = below.pop()
            portal.kind = kind
            portal.payload = payload
            payload = None


def steps_of(awaitable: Any) -> Any:
    """Return an object with ``send`` and ``throw`` that awaits ``awaitable``.

    :raises TypeError: if it is not awaitable
    """
    if type(awaitable) is types.CoroutineType:
        return awaitable
    if isinstance(awaitable, types.GeneratorType) and inspect.isawaitable(awaitable):
        return awaitable
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"object {awaitable!r} can't be awaited")
    return _await(awaitable)


async def _await(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


async def call(function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _T:
    """A plain call as a coroutine."""
    return function(*args, **kwargs)


def in_portal() -> bool:
    """Return whether the code that runs now can be suspended by :func:`sync_await`."""
    return type(getcurrent()) is Portal and in_portal_of(current_task())


def in_portal_of(task: asyncio.Task[Any] | None) -> bool:
    """Return whether this is a portal of the task, which is the current one."""
    portal = getcurrent()
    return type(portal) is Portal and portal.task is task


def sync_await(awaitable: Awaitable[_T]) -> _T:
    """Await something from synchronous code, in the task that the code runs in."""
    portal = getcurrent()
    if type(portal) is not Portal or portal.task is not current_task():
        discard(awaitable)
        raise no_portal()
    portal.payload = steps_of(awaitable)
    portal.kind = _AWAITS
    del awaitable
    portal.back.switch()
    payload = portal.payload
    portal.payload = None
    if portal.kind is _RAISED:
        try:
            raise payload
        finally:
            del payload
    return payload  # type: ignore[no-any-return]


def discard(awaitable: Any) -> None:
    """Close a coroutine that will not be awaited after all."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def no_portal() -> RuntimeError:
    """Return the error for synchronous code that would have to wait where it cannot."""
    return RuntimeError(
        "Cannot run awaitable: event loop is running but no greenback portal is available. "
        "Code that a process runs always has one. From a coroutine or a notebook cell, use "
        "`await process.step_until_terminated()`, `await plumpy.run_with_portal(function, ...)`, "
        "or `await plumpy.ensure_portal()` once in the task."
    )
