"""What becomes of a child that a step has forked: it must not go on as a second worker.

It has the loop, the sockets and the processes of its parent. As long as the step is what runs in
it, that is nobody's business; it ends when control returns to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections import deque
from typing import Any

_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def end_forks_of(loop: asyncio.AbstractEventLoop) -> None:
    """Have children that are forked in the thread of a loop end when they return to it.

    :param loop: a loop of the standard library; others are left as they are
    """
    if not _loops:
        os.register_at_fork(after_in_child=_in_child)
    _loops.add(loop)


def _in_child() -> None:
    for loop in _loops:
        if hasattr(loop, "_ready") and hasattr(loop, "_selector"):
            # The parent's own are shared with it, or full of its callbacks.
            loop._ready = _Ready(loop._ready)
            loop._selector = _Selector()


def _end() -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"plumpy: a step returned in a child that it forked: the child ends here\n")
    os._exit(1)


class _Ready(deque[Any]):
    def popleft(self) -> Any:
        _end()


class _Selector:
    def select(self, *_: Any) -> Any:
        _end()

    def __getattr__(self, name: str) -> Any:
        # What the child does away with on its way must not reach what it shares with its parent.
        return lambda *_: None
