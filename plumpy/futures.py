"""Futures, and what the runtime does with them."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any, Optional

import kiwipy

from . import events

__all__ = ["CancelledError", "Future", "chain", "copy_future", "create_task", "gather"]

CancelledError = concurrent.futures.CancelledError
Future = asyncio.Future
gather = asyncio.gather
chain = kiwipy.chain
copy_future = kiwipy.copy_future


class InvalidStateError(Exception):
    """The action has been run already, or cancelled."""


class CancellableAction(Future):  # type: ignore[type-arg]
    """A request that is carried out later; its result tells how it went.

    :param action: what to call; its result becomes that of the future
    :param cookie: anything, to recognise the request by
    """

    def __init__(self, action: Callable[..., Any], cookie: Any = None):
        super().__init__(loop=events.get_or_create_event_loop())
        self._action: Callable[..., Any] | None = action
        self._cookie = cookie

    @classmethod
    def on_loop(
        cls, loop: asyncio.AbstractEventLoop, action: Callable[..., Any], cookie: Any = None
    ) -> CancellableAction:
        """Make an action that belongs to a given loop."""
        self = cls.__new__(cls)
        Future.__init__(self, loop=loop)
        self._action = action
        self._cookie = cookie
        return self

    @property
    def cookie(self) -> Any:
        """What the request is recognised by."""
        return self._cookie

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Carry it out.

        :raises InvalidStateError: if that has been done already, or it was cancelled
        """
        if self.done():
            raise InvalidStateError("Action has already been ran")
        action, self._action = self._action, None
        assert action is not None
        try:
            result = action(*args, **kwargs)
        except Exception as exc:
            if not self.done():
                self.set_exception(exc)
        else:
            if not self.done():
                self.set_result(result)


def create_task(
    coro: Callable[[], Awaitable[Any]],
    loop: Optional[asyncio.AbstractEventLoop] = None,  # noqa: UP045
) -> asyncio.Future[Any]:
    """Run a coroutine function on a loop, from any thread.

    :param loop: the loop, by default the one of the caller
    :return: a future of that loop for the result; it is cancelled if the call was
    """
    from ._crossing import hop
    from .utils import ensure_coroutine

    loop = loop or events.get_or_create_event_loop()
    future = loop.create_future()

    async def run() -> None:
        try:
            result = await ensure_coroutine(coro)()
        except asyncio.CancelledError:
            future.cancel()
        except Exception as exc:
            if not future.done():
                future.set_exception(exc)
        else:
            if not future.done():
                future.set_result(result)

    hop(loop, run)
    return future


def unwrap_kiwi_future(future: kiwipy.Future) -> kiwipy.Future:
    """Return a future for what a future resolves to when that is a future again, and so on."""
    from ._crossing import flatten

    return flatten(future)
