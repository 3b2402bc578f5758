"""A thread that uses the database, many writes to one commit.

A commit waits for the disk; what is asked for meanwhile goes into the next one together.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

import kiwipy

from plumpy._ledger import Ledger
from plumpy._thread_futures import fail, succeed
from plumpy.exceptions import PersistenceError

#: Functions carried out in one transaction at most.
_LARGEST = 200


class Batches:
    """Carries out functions that use a ledger in one thread; each as if in its own transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], kiwipy.Future] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._work, name="plumpy database", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], Any]) -> kiwipy.Future:
        """Have a function carried out; the future is done when what it wrote is stored for good.

        :raises PersistenceError: in the future, if it was not
        """
        future = kiwipy.Future()
        self._queue.put((function, future))
        return future

    def close(self) -> None:
        """End the thread when everything so far is carried out."""
        self._queue.put(None)

    def _work(self) -> None:
        while True:
            work = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(work) < _LARGEST:
                    work.append(self._queue.get_nowait())
            batch = [entry for entry in work if entry is not None]
            if len(batch) == 1:
                _carry_out(*batch[0])
            elif batch:
                self._carry_out_together(batch)
            if len(batch) < len(work):
                return

    def _carry_out_together(self, batch: list[tuple[Callable[[], Any], kiwipy.Future]]) -> None:
        outcomes: list[tuple[kiwipy.Future, bool, Any]] = []
        try:
            with self._ledger.together():
                for function, future in batch:
                    try:
                        outcomes.append((future, True, function()))
                    except Exception as exc:
                        outcomes.append((future, False, exc))
        except PersistenceError as exc:
            # Nothing of it is stored.
            for _, future in batch:
                fail(future, exc)
            return
        for future, succeeded, value in outcomes:
            if succeeded:
                succeed(future, value)
            else:
                fail(future, value)


def _carry_out(function: Callable[[], Any], future: kiwipy.Future) -> None:
    try:
        value = function()
    except Exception as exc:
        fail(future, exc)
    else:
        succeed(future, value)
