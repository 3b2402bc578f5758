"""Futures that threads wait for, made of those that loops wait for, and answered once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from typing import Any

import kiwipy

#: Both ways of saying that something was called off: asyncio's and the threads'.
CANCELLATIONS = (asyncio.CancelledError, concurrent.futures.CancelledError)


def thread_future(source: asyncio.Future[Any]) -> kiwipy.Future:
    """Return a thread future that gets the outcome of an asyncio future, futures in it converted.

    May be called from any thread.
    """
    target = kiwipy.Future()

    def copy(done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            cancel(target)
            return
        error = done.exception()
        if error is not None:
            fail(target, error)
            return
        result = done.result()
        succeed(target, thread_future(result) if asyncio.isfuture(result) else result)

    loop = source.get_loop()
    if running_loop() is loop:
        source.add_done_callback(copy)
    else:
        # Registering the callback is the loop's business too: from here it could be lost.
        try:
            loop.call_soon_threadsafe(source.add_done_callback, copy)
        except RuntimeError as exc:
            fail(target, exc)
    return target


def flatten(source: kiwipy.Future) -> kiwipy.Future:
    """Return a future for the innermost result of futures that resolve to futures."""
    target = kiwipy.Future()

    def resolve(done: kiwipy.Future) -> None:
        if done.cancelled():
            cancel(target)
            return
        error = done.exception()
        if error is not None:
            fail(target, error)
            return
        result = done.result()
        if asyncio.isfuture(result):
            result = thread_future(result)
        if isinstance(result, kiwipy.Future):
            result.add_done_callback(resolve)
        else:
            succeed(target, result)

    source.add_done_callback(resolve)
    return target


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# A waiting thread may cancel its future at any moment, so an answer can always come too late. It
# is dropped then: the future has its one answer.


def succeed(future: kiwipy.Future, result: Any) -> None:
    """Set a result unless the future is done."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        future.set_result(result)


def fail(future: kiwipy.Future, error: BaseException) -> None:
    """Set an exception unless the future is done."""
    if isinstance(error, CANCELLATIONS):
        cancel(future)
        return
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        future.set_exception(error)


def cancel(future: kiwipy.Future) -> None:
    """Cancel a future unless it is done, and wake those who wait for it."""
    if not future.cancelled() and future.cancel():
        # Another thread may have been faster.
        with contextlib.suppress(RuntimeError):
            future.set_running_or_notify_cancel()
