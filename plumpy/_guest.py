"""Running one event loop beside another in the same thread.

A process may be bound to a loop that does not run while code on another loop executes it. That loop
is then run as a *guest*: by its own ``run_until_complete``, in a greenlet, with the seam at its
selector. Where it would block, it switches back to the *host*, the loop that really blocks in this
thread, which watches the guest's file descriptors and its next timer among its own. asyncio runs
one handle at a time in either loop, so each finds the thread as it left it: running loop and
asynchronous generator hooks are swapped with every switch.

Guests of guests are all guests of the same host: kernels limit how deep selectors may be nested.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from . import _nesting, _portals

_T = TypeVar("_T")


class _Hosts(threading.local):
    def __init__(self) -> None:
        #: The host of each guest loop of the thread.
        self.of: dict[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop] = {}


_hosts = _Hosts()


def is_guest(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop is being run beside another one in this thread."""
    return loop in _hosts.of


def run_beside(
    running: asyncio.AbstractEventLoop,
    loop: asyncio.AbstractEventLoop,
    awaitable: Awaitable[_T],
) -> _T:
    """Run an awaitable on a loop that is not running, from a portal on one that is.

    :raises RuntimeError: if the loop is closed, or of a kind that cannot be a guest
    """
    try:
        guest = _Guest(loop, _hosts.of.get(running, running))
    except RuntimeError:
        _portals.discard(awaitable)
        raise
    if asyncio.isfuture(awaitable):
        task: asyncio.Future[_T] = awaitable
    else:
        task = loop.create_task(guest.watch_context(awaitable))
    finished = running.create_future()

    def tell(_: object) -> None:
        running.call_soon_threadsafe(_set, finished)

    guest.start(task, tell)
    cancelled = False
    while not finished.done():
        try:
            _portals.sync_await(_done(finished))
        except asyncio.CancelledError:
            cancelled = True
            loop.call_soon_threadsafe(task.cancel)
    if guest.context is not None:
        _nesting.copy_back(guest.context)
    if guest.error is not None:
        # The loop was stopped, or something that ends loops has come through it.
        try:
            raise guest.error
        finally:
            guest.error = None
    if cancelled and task.cancelled():
        raise asyncio.CancelledError
    return task.result()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _done(future: asyncio.Future[None]) -> None:
    # Cancelling the wait must not cancel what is waited for.
    await asyncio.wait([future])


class _Guest:
    """One run of a guest loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: asyncio.AbstractEventLoop) -> None:
        selector = getattr(loop, "_selector", None)
        if loop.is_closed():
            raise RuntimeError("Event loop is closed")
        if not hasattr(selector, "fileno"):
            raise RuntimeError(
                f"{type(loop).__name__} cannot run beside a running loop: there is no selector "
                "to share. Give the process the running loop, or execute it in another thread."
            )
        self.loop = loop
        self.host = host
        self.selector: Any = selector
        self.error: BaseException | None = None
        self.context: contextvars.Context | None = None
        self._greenlet = greenlet(self._run)
        self._greenlet.gr_context = contextvars.Context()
        self._hub: greenlet | None = None
        self._running_loop: asyncio.AbstractEventLoop | None = None
        self._hooks: tuple[Any, Any] = (None, None)
        self._wake_up: asyncio.Handle | None = None

    async def watch_context(self, awaitable: Awaitable[_T]) -> _T:
        """Await something, and remember the context variables at its end."""
        try:
            return await _portals.drive(awaitable)
        finally:
            self.context = contextvars.copy_context()

    def start(self, task: asyncio.Future[Any], tell: Any) -> None:
        """Have the guest run until ``task`` is done, then call ``tell``."""
        self._task = task
        self._tell = tell
        _hosts.of[self.loop] = self.host
        self._wake_up = self.host.call_soon(self._switch_in)

    # In the host.

    def _switch_in(self, *_: object) -> None:
        """Let the guest go on until it would block."""
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        running_loop = asyncio._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self._running_loop)
        sys.set_asyncgen_hooks(*self._hooks)
        # The parent is where a greenlet goes when it ends.
        self._hub = self._greenlet.parent = getcurrent()
        try:
            self._greenlet.switch()
        finally:
            self._hub = None
            self._running_loop = asyncio._get_running_loop()
            self._hooks = tuple(sys.get_asyncgen_hooks())  # type: ignore[assignment]
            asyncio._set_running_loop(running_loop)
            sys.set_asyncgen_hooks(*hooks)

    # In the guest.

    def _run(self) -> None:
        self.loop._selector = _Seam(self)  # type: ignore[attr-defined]
        try:
            self.loop.run_until_complete(self._task)
        except BaseException as exc:
            if not self._task.done() or isinstance(exc, KeyboardInterrupt | SystemExit):
                self.error = exc
        finally:
            self.loop._selector = self.selector  # type: ignore[attr-defined]
            _hosts.of.pop(self.loop, None)
            self._tell(None)

    def select(self, timeout: float | None) -> Any:
        """Wait for events: the host does, among its own."""
        events = self.selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            self._wake_up = self.host.call_soon(self._switch_in)
            self._switch_out()
            return events
        self.host.add_reader(self.selector.fileno(), self._switch_in)
        if timeout is not None:
            self._wake_up = self.host.call_later(timeout, self._switch_in)
        try:
            self._switch_out()
        finally:
            self.host.remove_reader(self.selector.fileno())
        return self.selector.select(0)

    def _switch_out(self) -> None:
        assert self._hub is not None
        self._hub.switch()


class _Seam:
    """The selector of a guest loop, as far as the loop can tell."""

    def __init__(self, guest: _Guest) -> None:
        self._guest = guest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest.selector, name)

    def select(self, timeout: float | None = None) -> Any:
        return self._guest.select(timeout)
