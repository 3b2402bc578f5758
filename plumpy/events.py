"""Which event loop is used, and callbacks that belong to a process."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _portals

if TYPE_CHECKING:
    from .processes import Process

__all__ = ["get_or_create_event_loop"]


def get_or_create_event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop to use where none was given.

    That is the running loop, else the one that is set for this thread, unless it is closed, else a
    new one, which is then set. A loop made here is closed when its thread, or the program, ends.
    """
    loop = asyncio._get_running_loop()
    if loop is not None:
        return loop
    loop = _set_loop()
    if loop is None or loop.is_closed():
        loop = asyncio.new_event_loop()
        _own(loop)
        asyncio.set_event_loop(loop)
    return loop


def _set_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that is set for this thread; never makes one, and never warns."""
    policy = _get_policy()
    local = getattr(policy, "_local", None)
    if isinstance(local, threading.local):
        return getattr(local, "_loop", None)
    try:  # a policy of somebody's own
        return policy.get_event_loop()
    except RuntimeError:
        return None


if sys.version_info >= (3, 14):
    _get_policy: Any = asyncio.events._get_event_loop_policy
else:
    _get_policy = asyncio.get_event_loop_policy


class _OwnLoops:
    """The loops that were made for a thread."""

    def __init__(self) -> None:
        self._loops: list[asyncio.AbstractEventLoop] = []

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loops = [other for other in self._loops if not other.is_closed()]
        self._loops.append(loop)

    def close(self) -> None:
        for loop in self._loops:
            if not loop.is_running():
                loop.close()

    __del__ = close  # the thread has ended, and its local variables with it


_thread = threading.local()
_all_own_loops: weakref.WeakSet[_OwnLoops] = weakref.WeakSet()


def _own(loop: asyncio.AbstractEventLoop) -> None:
    try:
        own = _thread.own_loops
    except AttributeError:
        own = _thread.own_loops = _OwnLoops()
        _all_own_loops.add(own)
    own.add(loop)


@atexit.register
def _close_own_loops() -> None:
    for own in tuple(_all_own_loops):
        own.close()


class ProcessCallback:
    """A callback that :meth:`plumpy.Process.call_soon` has scheduled.

    :param process: the process that it belongs to
    :param callback: a function or coroutine function, called with ``args`` and ``kwargs``
    """

    __slots__ = ("__weakref__", "_args", "_callback", "_cancelled", "_kwargs", "_process")

    def __init__(
        self,
        process: Process,
        callback: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:
        self._process: Process | None = process
        self._callback: Callable[..., Any] | None = callback
        self._args: Sequence[Any] | None = args
        self._kwargs: dict[str, Any] | None = kwargs
        self._cancelled: bool = False

    async def run(self) -> None:
        """Call it, in the scope of the process. What it raises ends the process."""
        if self._cancelled or self._process is None:
            return
        process, callback = self._process, self._callback
        args, kwargs = self._args, self._kwargs
        assert callback is not None
        assert args is not None
        assert kwargs is not None
        try:
            await _portals.drive(process._run_task(callback, *args, **kwargs))
        except Exception as exc:
            process.callback_excepted(callback, exc, exc.__traceback__)
        finally:
            del process, callback, args, kwargs
            self._cleanup()

    def cancel(self) -> None:
        """Do not call it, if that has not happened yet."""
        if not self._cancelled:
            self._cancelled = True
            self._done()

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self._cancelled

    def _done(self) -> None:
        self._cleanup()

    def _cleanup(self) -> None:
        self._process = None
        self._callback = None
        self._args = None
        self._kwargs = None
