"""Waiting for the end of processes that run elsewhere.

The end of a process is broadcast. A broadcast can be missed (the connection is lost, the worker is
killed between the end and the broadcast), so that a look at the process itself backs it up.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any

import kiwipy

from plumpy import _crossing, events, loaders, persistence
from plumpy._messages import PID_TYPE
from plumpy.persistence._savable import META, META__CLASS_NAME
from plumpy.process_states import ProcessState

__all__ = ["ProcessWaiter", "state_in_persister"]

_LOGGER = logging.getLogger(__name__)

#: Returns the final state of a process, or None while it has not ended; may be a coroutine
#: function, else it is called in a thread.
Poll = Callable[[PID_TYPE], "Any | Awaitable[Any]"]


class ProcessWaiter:
    """Waits for processes that run elsewhere, by broadcast and by polling, for one loop.

    Any number of coroutines may wait for the same process; it is polled once for all of them.

    .. code-block:: python

        async with ProcessWaiter(communicator, state_in_persister(persister)) as waiter:
            state = await waiter.wait(pid)
    """

    def __init__(
        self,
        communicator: kiwipy.Communicator | None = None,
        poll: Poll | None = None,
        *,
        interval: float = 10.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """
        :param communicator: hears the broadcasts; None to rely on polling
        :param poll: tells the final state of a process; None to rely on broadcasts
        :param interval: seconds from one look at a process to the next; the first one is at once
        :param loop: the loop of those who wait; the current one by default
        :raises ValueError: if there is neither a communicator nor a poll, or the interval is not
            positive
        """
        if communicator is None and poll is None:
            raise ValueError("a waiter needs a communicator, a poll function, or both")
        if not interval > 0:
            raise ValueError(f"the polling interval must be positive, not {interval!r}")
        self._loop = loop if loop is not None else events.get_or_create_event_loop()
        self._communicator = communicator
        self._poll = poll
        self._interval = interval
        self._waiting: dict[str, _Waiting] = {}
        self._listening: asyncio.Future[Any] | None = None
        self._closed = False

    async def wait(self, pid: PID_TYPE) -> ProcessState:
        """Wait until a process has ended and return its final state.

        :param pid: the process; without a poll function it must not have ended yet
        :raises RuntimeError: if the waiter is or gets closed
        """
        if self._closed:
            raise RuntimeError("the waiter is closed")
        key = str(pid)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(self._loop.create_future())
            waiting.task = self._loop.create_task(self._watch(pid, waiting.ended))
        waiting.count += 1
        try:
            # The others still wait if one gives up.
            return await asyncio.shield(waiting.ended)
        finally:
            waiting.count -= 1
            if waiting.count == 0 and self._waiting.get(key) is waiting:
                del self._waiting[key]
                waiting.stop()

    def close(self) -> None:
        """Stop listening and polling; those who still wait get a :class:`RuntimeError`."""
        if self._closed:
            return
        self._closed = True
        if self._communicator is not None and self._listening is not None:
            _crossing.unwatch(self._communicator, self._on_end)
        for waiting in self._waiting.values():
            if not waiting.ended.done():
                waiting.ended.set_exception(RuntimeError("the waiter was closed"))
            waiting.stop()
        self._waiting.clear()

    async def __aenter__(self) -> ProcessWaiter:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _watch(self, pid: PID_TYPE, ended: asyncio.Future[ProcessState]) -> None:
        # Who listens before looking for the first time cannot miss an end in between.
        if self._communicator is not None:
            if self._listening is None:
                self._listening = asyncio.wrap_future(
                    _crossing.watch(self._communicator, self._on_end), loop=self._loop
                )
            # A broker that is away must not keep anyone from polling.
            timeout = None if self._poll is None else min(1.0, self._interval)
            await asyncio.wait([self._listening], timeout=timeout)
        while self._poll is not None and not ended.done():
            state = await self._look(pid)
            if state is not None:
                _end(ended, state)
                return
            await asyncio.sleep(self._interval)

    async def _look(self, pid: PID_TYPE) -> ProcessState | None:
        assert self._poll is not None
        try:
            if inspect.iscoroutinefunction(self._poll):
                found = await self._poll(pid)
            else:
                found = await asyncio.to_thread(self._poll, pid)
            return None if found is None else ProcessState(found)
        except Exception:
            _LOGGER.exception("cannot see whether process %s has ended; looking again", pid)
            return None

    def _on_end(self, sender: Any, label: str) -> None:
        # In the thread of the communicator: most ends are none of ours.
        if str(sender) in self._waiting:
            _crossing.hop_callback(self._loop, self._on_own_end, str(sender), label)

    def _on_own_end(self, key: str, label: str) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            _end(waiting.ended, ProcessState(label))
            waiting.stop()


class _Waiting:
    """Those who wait for one process."""

    __slots__ = ("count", "ended", "task")

    def __init__(self, ended: asyncio.Future[ProcessState]) -> None:
        self.ended = ended
        self.count = 0
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


def _end(ended: asyncio.Future[ProcessState], state: ProcessState) -> None:
    if not ended.done():
        ended.set_result(state)


def state_in_persister(
    persister: persistence.Persister,
    tag: str | None = None,
    loader: loaders.ObjectLoader | None = None,
) -> Callable[[Hashable], ProcessState | None]:
    """Return a poll function that looks at the checkpoint of a process.

    :param persister: keeps the checkpoints; a process counts as running while there is none
    :param tag: the tag of the checkpoints
    :param loader: finds the classes of states; the default loader otherwise
    """
    loader = loader or loaders.get_object_loader()

    def poll(pid: Hashable) -> ProcessState | None:
        try:
            bundle = persister.load_checkpoint(pid, tag)
        except (LookupError, FileNotFoundError):
            return None
        # The class of the state is enough; loading the process would run its code.
        name = bundle["_state"][META][META__CLASS_NAME]
        label: Any = loader.load_object(name).LABEL
        return ProcessState(label) if label.value in _crossing.FINAL_STATES else None

    return poll
