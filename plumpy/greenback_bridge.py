"""Waiting from synchronous code inside a running event loop.

The names are those of the bridge to greenback in earlier releases; it is a bridge to greenlets now,
see :mod:`plumpy._portals`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Awaitable, TypeVar  # noqa: UP035

from . import _nesting, _portals

__all__ = ["ensure_portal", "has_portal", "run_until_complete", "run_with_portal", "sync_await"]

_T = TypeVar("_T")


async def ensure_portal() -> None:
    """Let synchronous code in the current task use :func:`sync_await` from now on.

    Code that a process runs does not need it.
    """
    if not _portals.in_portal():
        await _nesting.open_portal()


def has_portal() -> bool:
    """Return whether :func:`sync_await` works here."""
    return _portals.in_portal()


def sync_await(awaitable: Awaitable[_T]) -> _T:
    """Await something from synchronous code. The event loop serves everything else meanwhile.

    :raises RuntimeError: if there is no portal here, see :func:`has_portal`
    """
    return _portals.sync_await(awaitable)


async def run_with_portal(fn: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call a synchronous function that may use :func:`sync_await`, and return its result."""
    if _portals.in_portal():
        return fn(*args, **kwargs)
    return await _portals.drive(_portals.call(fn, args, kwargs))


def run_until_complete(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[_T]) -> _T:
    """Run an awaitable on ``loop`` and return its result, whether or not a loop is running here.

    - No loop is running in this thread: ``loop`` is run, until the awaitable is done.
    - ``loop`` is the running loop: the caller is suspended, and the loop goes on.
    - Another loop is running: the caller is suspended, and ``loop`` runs beside the running one.
    - ``loop`` is running in another thread: the awaitable runs there, and the caller waits.

    In the second and third case the caller needs a portal, see :func:`has_portal`. Context
    variables that the caller has set are seen inside, and those set inside are seen by the caller.

    :raises RuntimeError: if there is no portal here, or the loop is closed
    """
    return _nesting.run_until_complete(loop, awaitable)
