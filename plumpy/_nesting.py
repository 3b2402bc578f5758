"""Running an awaitable to its end from wherever the caller is."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from . import _crossing, _idle, _portals

_T = TypeVar("_T")


def run_until_complete(
    loop: asyncio.AbstractEventLoop, awaitable: Awaitable[_T], drives_itself: bool = False
) -> _T:
    """See :func:`plumpy.run_until_complete`.

    :param drives_itself: it is a coroutine that opens the portals that it needs
    """
    running = asyncio._get_running_loop()
    if running is None:
        if not loop.is_running():
            if drives_itself and not loop.is_closed():
                return _idle.run(loop, awaitable)
            return _run_idle(loop, awaitable)
        return cast(_T, _crossing.hop(loop, _boxed, awaitable).result()[0])
    if _portals.in_portal():
        if running is loop:
            return _portals.sync_await(awaitable)
        if loop.is_running():
            # In another thread, or beside the running loop in this one.
            answer: Any = asyncio.wrap_future(_crossing.hop(loop, _boxed, awaitable))
            return cast(_T, _portals.sync_await(answer)[0])
        from ._guest import run_beside

        return run_beside(running, loop, awaitable)
    if running is loop and hasattr(loop, "_nest_patched"):
        # nest_asyncio has made this loop one that can be entered again.
        return _run_idle(loop, awaitable)
    _portals.discard(awaitable)
    raise _portals.no_portal()


def _run_idle(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[_T]) -> _T:
    if loop.is_closed():
        _portals.discard(awaitable)
        raise RuntimeError("Event loop is closed")
    if asyncio.isfuture(awaitable):
        return cast(_T, loop.run_until_complete(awaitable))
    return _idle.run(loop, _driven(awaitable))


async def _driven(awaitable: Awaitable[_T]) -> _T:
    return cast(_T, await _portals.drive(awaitable))


async def _boxed(awaitable: Awaitable[_T]) -> tuple[_T]:
    # In a box: a result that is a future itself is not to be resolved on the way.
    return (await _portals.drive(awaitable),)


def copy_back(context: contextvars.Context) -> None:
    """Set the variables of the current context to the values that they have in another one."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


_UNSET = object()


async def open_portal() -> None:
    """Have all further steps of the current task run in portals.

    The task gets another coroutine to step: a driver that steps the one it had.
    """
    task = _portals.current_task()
    if task is None:
        raise RuntimeError("only a coroutine that runs in a task can have a portal")
    coro: Any = task.get_coro()
    driver: Any = _driven(coro)
    driver.__name__, driver.__qualname__ = coro.__name__, coro.__qualname__
    try:
        _set_coroutine(task, coro, driver)
    except BaseException:
        driver.close()
        raise
    # The step that runs now was started without a portal; the next one has it.
    await asyncio.sleep(0)


def _set_coroutine(task: asyncio.Task[Any], old: Any, new: Any) -> None:
    try:
        task._coro = new  # type: ignore[attr-defined]
    except AttributeError:
        pass  # a task written in C
    else:
        return
    word = ctypes.sizeof(ctypes.c_void_p)
    address = id(task)
    for offset in range(object.__basicsize__, type(task).__basicsize__, word):
        slot = ctypes.c_void_p.from_address(address + offset)
        if slot.value == id(old):
            # The reference that the slot held passes from the old coroutine to the new one.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
            slot.value = id(new)
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(old))
            if task.get_coro() is not new:
                raise RuntimeError(f"the layout of {type(task)} is unknown")
            return
    raise RuntimeError(
        f"a portal cannot be opened in a {type(task)}; "
        "use `await plumpy.run_with_portal(function, ...)`"
    )
