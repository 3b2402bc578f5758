"""The database as the loop of a worker uses it: in one thread, many writes to one commit.

A commit waits for the disk; what is asked for meanwhile goes into the next one together. A slow
database holds up saving, never the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from plumpy._ledger import LeaseLost, Ledger

_T = TypeVar("_T")

#: Functions carried out in one transaction at most.
_LARGEST = 200


class _Request:
    """A function to be carried out, and what came of it."""

    __slots__ = ("error", "function", "future", "value")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.value: Any = None
        self.error: Exception | None = None

    def carry_out(self) -> None:
        """Call the function; note its value, or that it did not have the lease."""
        try:
            self.value, self.error = self.function(), None
        except LeaseLost as exc:
            # A write asks for the lease first, so that there is nothing to be undone.
            self.error = exc

    def answer(self) -> None:
        """Tell who waits, in the loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class Database:
    """Carries out functions that use a ledger in a thread, each as if in its own transaction."""

    def __init__(
        self,
        ledger: Ledger,
        loop: asyncio.AbstractEventLoop,
        beat: Callable[[Database], float] = lambda _: float("inf"),
    ) -> None:
        """
        :param beat: called in the thread now and then, also while a step blocks the loop; returns
            the seconds until the next time, and must not raise
        """
        self._ledger = ledger
        self._loop = loop
        self._beat = beat
        self._next_beat = 0.0
        self._requests: deque[_Request] = deque()
        self._wake = threading.Event()
        self._closed = False
        threading.Thread(target=self._work, name="plumpy database", daemon=True).start()

    async def use(self, function: Callable[[], _T]) -> _T:
        """Have a function carried out; return its value when what it wrote is stored for good.

        To be called in the loop. The function may be called again if it failed.

        :raises PersistenceError: if it was not stored
        """
        request = _Request(function, self._loop.create_future())
        self._requests.append(request)
        self._wake.set()
        value: _T = await request.future
        return value

    def close(self) -> None:
        """End the thread when everything so far is carried out."""
        self._closed = True
        self._wake.set()

    def _work(self) -> None:
        closed = False
        while not closed:
            pause = self._next_beat - time.monotonic()
            self._wake.wait(None if pause == float("inf") else max(pause, 0.0))
            self._wake.clear()
            closed = self._closed
            self._beat_if_due()
            while self._requests:
                size = min(len(self._requests), _LARGEST)
                batch = [self._requests.popleft() for _ in range(size)]
                self._carry_out(batch)
                self.tell(_answer, batch)
                self._beat_if_due()

    def _beat_if_due(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._beat(self)

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Have something called in the loop; may be called in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(function, *args)

    def _carry_out(self, batch: list[_Request]) -> None:
        try:
            with self._ledger.together():
                for request in batch:
                    request.carry_out()
            return
        except Exception as exc:
            # Nothing of it is stored.
            for request in batch:
                request.error = exc
        if len(batch) == 1:
            return
        for index, request in enumerate(batch):
            begun = False
            try:
                with self._ledger.together():
                    begun = True
                    request.carry_out()
            except Exception as exc:
                request.error = exc
                if not begun:
                    # It may take long to find that out, and nothing else would come of the rest.
                    for other in batch[index:]:
                        other.error = exc
                    return


def _answer(batch: list[_Request]) -> None:
    for request in batch:
        request.answer()
