"""A share of each turn of a loop for work on processes.

However much of it there is, the loop gets round to what else it has to do: calls, timers, the
heartbeats of others.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque

#: Seconds of one turn of a loop after which work of a kind waits for the next turn.
SHARE = 0.003


async def turn() -> None:
    """Wait until a piece of work may begin in this turn of the running loop.

    Those who have to wait are let out in the order they came.
    """
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    waiter = turns.enter(loop)
    if waiter is not None:
        await waiter


class _Turns:
    """What has begun in the present turn of a loop, and who waits for the next."""

    __slots__ = ("begun", "since", "waiting")

    def __init__(self) -> None:
        #: When the first piece of work of this turn began; None if there was none.
        self.since: float | None = None
        self.begun = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def enter(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None] | None:
        if self.since is None:
            self.since = time.monotonic()
            self.begun = 1
            loop.call_soon(self.go_on, loop)
            return None
        if not self.waiting and time.monotonic() - self.since < SHARE:
            self.begun += 1
            return None
        waiter = loop.create_future()
        self.waiting.append(waiter)
        return waiter

    def begin(self) -> None:
        self.since = time.monotonic()

    def go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let out as many as should fit, going by the time that those before have taken."""
        if not self.waiting:
            self.since = None
            return
        assert self.since is not None
        taken = time.monotonic() - self.since
        self.begun = max(1, int(self.begun * min(2.0, SHARE / max(taken, 1e-6))))
        # Ahead of those who are let out, and behind them.
        loop.call_soon(self.begin)
        for _ in range(min(self.begun, len(self.waiting))):
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
        loop.call_soon(self.go_on, loop)


# Beside the loops, which need not take attributes.
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = weakref.WeakKeyDictionary()
