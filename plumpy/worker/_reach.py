"""What others hear of a process, and what they ask of it, while a worker runs it.

Nobody is told what is not stored: neither that the process has ended, nor that it was paused,
played or killed as asked. A worker that was cut off, and lost the process without knowing it, would
tell things that never come true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

import kiwipy

from plumpy import _crossing
from plumpy._ledger import LeaseLost
from plumpy._thread_futures import thread_future

if TYPE_CHECKING:
    from plumpy.processes import Process
    from plumpy.worker._running import Running


class Anteroom:
    """Has calls to a new process wait until it is stored that there is one.

    Else one that came early would be answered, and forgotten if the worker died.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._link = process._link
        self._left = asyncio.Event()
        self._answers: set[asyncio.Task[Any]] = set()
        if self._link is not None:
            self._link.process = cast(_crossing.Attachable, self)

    def leave(self) -> None:
        """Pass on the calls that waited: the process is run now, or it is closed."""
        self._left.set()

    def message_receive(self, *call: Any) -> kiwipy.Future:
        """Have the process answer a call when it is run."""
        return self._later("message_receive", call)

    def broadcast_receive(self, *broadcast: Any) -> kiwipy.Future:
        """Have the process hear a broadcast when it is run."""
        return self._later("broadcast_receive", broadcast)

    def _later(self, method: str, arguments: tuple[Any, ...]) -> kiwipy.Future:
        async def answer() -> Any:
            await self._left.wait()
            receiver: Any = None if self._link is None else self._link.process
            if receiver is None or receiver is self:
                raise LeaseLost(f"process {self._process.pid} is not run here; ask again")
            result = getattr(receiver, method)(*arguments)
            return (
                await asyncio.wrap_future(result) if isinstance(result, kiwipy.Future) else result
            )

        task = self._process.loop.create_task(answer())
        # The loop itself keeps only weak references to tasks.
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return thread_future(task)


class Reach:
    """Stands between a process and its link to the communicator: for each, it is the other."""

    def __init__(self, running: Running, link: _crossing.Link) -> None:
        self._running = running
        self._process = running.process
        self._link = link
        self._communicator = running.process._communicator
        self._end: tuple[Any, Any] | None = None
        self._answers: set[asyncio.Future[Any]] = set()
        link.process = self
        self._process._link = cast(_crossing.Link, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    # ------------------------------------------------------------------ the link, to the process

    def state_changed(self, from_label: Any, to_label: Any) -> None:
        """Broadcast a state change, unless it is the last."""
        if getattr(to_label, "value", to_label) in _crossing.FINAL_STATES:
            self._end = (from_label, to_label)
        else:
            self._link.state_changed(from_label, to_label)

    def tell_end(self) -> None:
        """Broadcast how the process ended."""
        if self._end is not None:
            self._link.state_changed(*self._end)

    # ------------------------------------------------------------------ the process, to the link

    @property
    def pid(self) -> Hashable | None:
        """The pid of the process."""
        return self._process.pid

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the process."""
        return self._process.loop

    def message_receive(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        """Have the process answer a call; the answer waits until what was asked is stored."""
        answer = self._process.message_receive(communicator, msg)
        return self._when_stored(answer) if isinstance(answer, kiwipy.Future) else answer

    def broadcast_receive(
        self,
        communicator: kiwipy.Communicator,
        body: Any,
        sender: Any,
        subject: Any,
        correlation_id: Any,
    ) -> Any:
        """Have the process hear a broadcast."""
        answer = self._process.broadcast_receive(
            communicator, body, sender, subject, correlation_id
        )
        return self._when_stored(answer) if isinstance(answer, kiwipy.Future) else answer

    def _when_stored(self, answer: kiwipy.Future) -> kiwipy.Future:
        # Called where the answer is given, in the loop: what was asked for is done, and the process
        # has not gone on yet.
        answer.add_done_callback(lambda _: self._running.note_pause())

        async def stored() -> Any:
            value = await asyncio.wrap_future(answer)
            await self._running.stored()
            return value

        task = self.loop.create_task(stored())
        # The loop itself keeps only weak references to tasks.
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return thread_future(task)
