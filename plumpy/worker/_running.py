"""One process in the hands of a worker: stepped, saved, given back or brought to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from plumpy._ledger import Caller, Lease, LeaseLost
from plumpy.exceptions import KilledError, PersistenceError
from plumpy.persistence._codec import dumps
from plumpy.process_states import ProcessState
from plumpy.worker._reach import Reach

if TYPE_CHECKING:
    from plumpy.processes import Process
    from plumpy.worker._worker import Worker

_LOGGER = logging.getLogger("plumpy.worker")

#: Seconds from one attempt to use a database that fails to the next.
RETRY = 0.5


_running: dict[int, Running] = {}


def running_of(process: Process) -> Running | None:
    """Return what runs a process here, if a worker does."""
    return _running.get(id(process))


class Running:
    """A process that this worker has the lease of. It begins with a slot of the worker."""

    def __init__(self, worker: Worker, process: Process, lease: Lease) -> None:
        self.worker = worker
        self.process = process
        self.lease = lease
        self.task: asyncio.Task[None] | None = None
        #: The error of the database that a step was told of last.
        self.fault: PersistenceError | None = None
        self._has_slot = True
        self._lost = False
        self._saved: str | None = None
        self._saved_paused = process.paused
        self._save_lock = asyncio.Lock()
        # Whether it is over with the process here, and whether its end is stored.
        self._over = asyncio.Event()
        self._stored = False
        self._reach = Reach(self, process._link) if process._link is not None else None

    def start(self) -> None:
        """Begin to step."""
        self.task = self.worker.loop.create_task(self._run())

    @property
    def stepping(self) -> bool:
        """Whether the process is in a step, and not waiting, paused or looking for a slot."""
        return self._has_slot

    async def _run(self) -> None:
        _running[id(self.process)] = self
        try:
            await self._steps()
            if self.process.has_terminated():
                self._give_up_slot()
                if self._ended_by_fault():
                    assert self.fault is not None
                    raise self.fault
                await self._conclude()
        except LeaseLost as exc:
            _LOGGER.warning("%s; leaving it alone", exc)
        except asyncio.CancelledError:
            if not self._lost:
                raise
        except Exception as exc:
            # A fault of the worker, not of the process: another attempt may do better.
            _LOGGER.error(
                "process %s cannot be run now; giving it back: %s",
                self.process.pid,
                exc,
                exc_info=None if isinstance(exc, PersistenceError) else exc,
            )
            self._drop()
            self._give_up_slot()
            await asyncio.sleep(RETRY)
            await self.worker.release(self.lease)
        finally:
            self._drop()
            self._give_up_slot()
            self._over.set()
            _running.pop(id(self.process), None)
            self.worker.forget(self)

    async def _steps(self) -> None:
        process = self.process
        # When the worker stops, what was reached is saved, and another one goes on from there.
        while not process.has_terminated() and not self.worker.stopping:
            if process.paused or process.state is ProcessState.WAITING:
                self._give_up_slot()
            elif not self._has_slot:
                await self.worker.slots.acquire()
                self._has_slot = True
            created = process.state is ProcessState.CREATED
            await process.step()
            # The first step runs nothing of the process: to repeat it costs nothing.
            if not process.has_terminated() and not created:
                await self.save()

    def _give_up_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self.worker.slots.release()

    def _ended_by_fault(self) -> bool:
        """Tell whether the process excepted because the database failed under one of its steps."""
        if self.fault is None or self.process.state is not ProcessState.EXCEPTED:
            return False
        error = self.process.exception()
        while error is not None and error is not self.fault:
            error = error.__cause__ or error.__context__
        return error is not None

    def lose(self) -> None:
        """Stop because another worker runs the process."""
        self._lost = True
        self.cancel()

    async def save(self) -> None:
        """Store the present state, if it is another than the one stored last.

        :raises LeaseLost: if the lease is another's by now
        """
        async with self._save_lock:
            try:
                bundle = self.worker.bundle_of(self.process)
            except PersistenceError as exc:
                self._cannot_be_saved(exc)
                return
            paused = self.process.paused
            if bundle == self._saved:
                return
            state = label_of(self.process)
            await self.worker.persistently(
                lambda: self.worker.ledger.save(self.lease, state, bundle), self.process.pid
            )
            self._saved, self._saved_paused = bundle, paused

    def _cannot_be_saved(self, exc: PersistenceError) -> None:
        if not self.process.has_terminated():
            _LOGGER.error("process %s cannot be saved and is ended: %s", self.process.pid, exc)
            self.process.fail(exc, exc.__traceback__)

    async def _conclude(self) -> None:
        process, worker = self.process, self.worker
        response = response_of(process)
        try:
            bundle: str | None = worker.bundle_of(process)
        except PersistenceError as exc:
            _LOGGER.warning("the end of process %s cannot be saved in full: %s", process.pid, exc)
            bundle = None
        try:
            outcome = dumps(response)
        except PersistenceError as exc:
            response = {"exception": f"the outputs cannot be stored: {exc}"}
            outcome = json.dumps(response)
        state = label_of(process)
        async with self._save_lock:
            callers: tuple[Caller, ...] = await worker.persistently(
                lambda: worker.ledger.finish(self.lease, state, bundle, outcome), process.pid
            )
        self._stored = True
        self._over.set()
        if self._reach is not None:
            self._reach.tell_end()
        await worker.answer(self.lease.pid, callers, response)

    def _drop(self) -> None:
        """Let go of a process that another worker runs, or will run."""
        if not self.process.has_terminated():
            self.process.close()

    async def save_pause(self) -> None:
        """Store that the process was paused or played: a worker that takes it over should know."""
        if self.process.paused == self._saved_paused or self.process.has_terminated():
            return
        with contextlib.suppress(LeaseLost):
            await self.stored()

    async def stored(self) -> None:
        """Wait until the present state is stored.

        :raises LeaseLost: if it will not be, because the process is not run here any more
        """
        if not self.process.has_terminated():
            try:
                await self.save()
            except LeaseLost:
                self.lose()
                raise
        else:
            await self._over.wait()
            if not self._stored:
                raise LeaseLost(f"process {self.process.pid} is not run here any more; ask again")

    def cancel(self) -> None:
        """Stop stepping."""
        if self.task is not None:
            self.task.cancel()


def label_of(process: Process) -> str:
    """Return the label of the state of a process."""
    return ProcessState(process.state).value


def response_of(process: Process) -> dict[str, Any]:
    """Return the answer for those who want to know the outcome of a process that has ended."""
    future = process.future()
    if process.state is ProcessState.KILLED:
        text = (process.killed_msg() or {}).get("message")
        return {"exception": f"KilledError: {text}" if text else KilledError.__name__}
    if future.cancelled():
        return {"cancelled": None}
    error = future.exception()
    if error is not None:
        text = str(error)
        return {"exception": f"{type(error).__name__}: {text}" if text else type(error).__name__}
    return {"result": future.result()}
