"""Calls from a foreign thread to a loop, and their answers back."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import kiwipy

from plumpy._crossing._gates import enter
from plumpy._thread_futures import CANCELLATIONS, cancel, fail, succeed, thread_future

#: Calls that have reached their loop. asyncio itself keeps only weak references to tasks.
_under_way: set[asyncio.Task[None]] = set()


def hop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> kiwipy.Future:
    """Call ``function`` on the thread of ``loop`` and return a future that always gets an answer.

    May be called from any thread, also from the loop's own; it never blocks. Coroutine functions
    are awaited; plain callables run where they may use ``run_until_complete`` and friends. The
    answer is the result, the exception, or a cancellation if the call was cancelled; a loop that
    is closed, now or before the call could run, answers :class:`RuntimeError`. A result that is
    itself a future arrives as a thread future; :func:`flatten` resolves such nesting. Cancelling
    the returned future cancels the call.

    :param loop: the loop to run on
    :param function: what to call there
    """
    call = _Call(loop, function, args, kwargs)
    return call.send(call.start, begins_task=True)


def hop_callback(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], /, *args: Any
) -> kiwipy.Future:
    """Like :func:`hop`, for a plain function that returns soon and calls nothing that nests.

    It is run as a callback of the loop, not in a task of its own.
    """
    call = _Call(loop, function, args, {})
    return call.send(call.run)


def _was_interrupted(exc: BaseException) -> bool:
    """Tell whether the present task was cancelled from outside, as at the end of a program.

    Else the cancellation is the outcome of what it did. Where that cannot be told, before Python
    3.11, asyncio's own kind of cancellation counts as an interruption.
    """
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    if cancelling is None:
        return isinstance(exc, asyncio.CancelledError)
    return bool(cancelling())


class _Call:
    """One call on its way to a loop.

    If the loop is closed before the call ran, asyncio drops the callback without a word; this
    object is then collected, and says so to whoever waits.
    """

    __slots__ = ("answer", "args", "function", "kwargs", "loop", "task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.loop = loop
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.task: asyncio.Task[None] | None = None
        self.answer = kiwipy.Future()
        self.answer.interrupted = False

    def send(self, method: Callable[[], None], *, begins_task: bool = False) -> kiwipy.Future:
        """Have one of this object's methods called on the thread of the loop."""
        answer = self.answer
        try:
            enter(self.loop, method, begins_task=begins_task)
        except RuntimeError:
            self.refuse()
        return answer

    def run(self) -> None:
        """Call the function as a callback, on the thread of the loop."""
        if self.answer.done():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except (KeyboardInterrupt, SystemExit) as exc:
            fail(self.answer, exc)
            raise
        except BaseException as exc:
            fail(self.answer, exc)
        else:
            self.conclude(result)

    def conclude(self, result: Any) -> None:
        """Answer with a result."""
        succeed(self.answer, thread_future(result) if asyncio.isfuture(result) else result)

    def start(self) -> None:
        """Begin, on the thread of the loop."""
        if self.answer.done():
            return
        self.task = task = self.loop.create_task(self._run())
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
        self.answer.add_done_callback(self._answered)

    async def _run(self) -> None:
        from plumpy.utils import ensure_coroutine

        try:
            result = await ensure_coroutine(self.function)(*self.args, **self.kwargs)
            if inspect.isawaitable(result) and not asyncio.isfuture(result):
                result = await result
        except CANCELLATIONS as exc:
            self.answer.interrupted = _was_interrupted(exc)
            cancel(self.answer)
        except GeneratorExit:
            self.refuse()
            raise
        except (KeyboardInterrupt, SystemExit) as exc:
            fail(self.answer, exc)
            raise
        except BaseException as exc:  # the caller judges it: it is the caller's call
            fail(self.answer, exc)
        else:
            self.conclude(result)

    def _answered(self, answer: kiwipy.Future) -> None:
        task = self.task
        self.task = None
        if task is not None and answer.cancelled() and not self.loop.is_closed():
            # The loop may be closed in this moment, and its tasks with it.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(task.cancel)

    def refuse(self) -> None:
        """Answer that the loop will never run the call, or not to its end."""
        self.answer.interrupted = True
        fail(
            self.answer,
            RuntimeError(f"the event loop is closed: {_name(self.function)} cannot run on it"),
        )

    def __del__(self) -> None:
        if not self.answer.done():
            self.refuse()


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
