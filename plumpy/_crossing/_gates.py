"""The way into a loop from other threads: a few calls at a time, so that nothing waits long."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from plumpy._crossing._turns import SHARE

#: How many tasks a loop begins in one turn at most: what they do comes on top of :data:`SHARE`.
_MOST_TASKS = 8

_Entry = tuple[contextvars.Context, Callable[[], None], bool]


class _Gate:
    """Calls on their way into one loop, in order.

    Only the loop keeps it, by the callback that is to come: what the loop drops when it is closed
    is collected with it.
    """

    __slots__ = ("__weakref__", "entries", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.entries: deque[_Entry] = deque()

    def let_in(self) -> None:
        """Begin some of the calls, on the thread of the loop, and come back for the others."""
        end = time.monotonic() + SHARE
        tasks = 0
        try:
            while self.entries:
                context, function, begins_task = self.entries.popleft()
                context.run(function)
                tasks += begins_task
                if tasks >= _MOST_TASKS or time.monotonic() > end:
                    break
        finally:
            with _lock:
                more = bool(self.entries)
                if not more:
                    _forget(self)
            if more:
                self.loop.call_soon(self.let_in)


_gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_Gate]] = (
    weakref.WeakKeyDictionary()
)
# What is collected while it is held may enter too.
_lock = threading.RLock()


def enter(
    loop: asyncio.AbstractEventLoop, function: Callable[[], None], *, begins_task: bool = False
) -> None:
    """Have a function called on the thread of a loop, as soon as its turn comes.

    May be called from any thread. The function is called with the context variables of the caller.
    If the loop is closed before that, the function is dropped.

    :param begins_task: whether what the function begins goes on in a task
    :raises RuntimeError: if the loop is closed
    """
    entry = (contextvars.copy_context(), function, begins_task)
    with _lock:
        reference = _gates.get(loop)
        gate = None if reference is None else reference()
        if gate is not None and not loop.is_closed():
            gate.entries.append(entry)
            return
        gate = _Gate(loop)
        gate.entries.append(entry)
        _gates[loop] = weakref.ref(gate)
    try:
        loop.call_soon_threadsafe(gate.let_in)
    except BaseException:
        with _lock:
            _forget(gate)
        raise


def _forget(gate: _Gate) -> None:
    reference = _gates.get(gate.loop)
    if reference is not None and reference() is gate:
        del _gates[gate.loop]
