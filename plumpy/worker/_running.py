"""One process in the hands of a worker: stepped, saved, given back or brought to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
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


class Escape(RuntimeError):
    """Code of a process raised what ends a program or a task, which is the worker's."""

    def __init__(self, exc: BaseException) -> None:
        super().__init__(f"{exc!r} was raised, which ends the process and not its worker")


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Have nothing escape from a call of user code but what is an error.

    :raises Escape: instead of SystemExit and the like
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as exc:
        raise Escape(exc) from exc


@dataclass(frozen=True)
class _Checkpoint:
    """A state of a process, as it is stored."""

    state: str
    bundle: str
    paused: bool


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
        self._cancelled = False
        self._saved: str | None = None
        self._saved_paused = process.paused
        self._noted: _Checkpoint | None = None
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
            if isinstance(exc, PersistenceError):
                self.worker.database_fails(exc)
            else:
                _LOGGER.error(
                    "process %s cannot be run now; giving it back", self.process.pid, exc_info=exc
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
            try:
                await process.step()
            except Exception:
                raise
            except BaseException as exc:
                if self._is_ended_by(exc):
                    raise
                process.fail(Escape(exc), exc.__traceback__)
            # The first step runs nothing of the process: to repeat it costs nothing.
            if not process.has_terminated() and not created:
                await self.save()

    def _is_ended_by(self, exc: BaseException) -> bool:
        """Tell whether an exception is meant for the task that steps, not raised by the step."""
        if isinstance(exc, asyncio.CancelledError):
            # Python 3.10 does not know whether others than the worker cancelled it.
            others = getattr(self.task, "cancelling", int)()
            return self._cancelled or self.worker.stopping or others > 0
        # The coroutine of a task that is thrown away is closed from elsewhere.
        return isinstance(exc, GeneratorExit) and asyncio.current_task() is not self.task

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
            self.note()
            await self._write_noted()

    def note(self) -> None:
        """Take down the present state, to be stored soon."""
        try:
            bundle = self.worker.bundle_of(self.process)
        except PersistenceError as exc:
            self._noted = None
            self._cannot_be_saved(exc)
        else:
            self._noted = _Checkpoint(label_of(self.process), bundle, self.process.paused)

    def note_pause(self) -> None:
        """Take down that the process was paused or played, before it goes on.

        What is stored in mid-step would be found changed when the step is repeated.
        """
        process = self.process
        in_step = process._stepping and process.state is ProcessState.RUNNING
        if process.paused != self._saved_paused and not in_step and not process.has_terminated():
            self.note()

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, None
        if noted is None or noted.bundle == self._saved:
            return
        await self.worker.persistently(
            lambda: self.worker.ledger.save(self.lease, noted.state, noted.bundle)
        )
        self._saved, self._saved_paused = noted.bundle, noted.paused

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
                lambda: worker.ledger.finish(self.lease, state, bundle, outcome)
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
        self.note_pause()
        if self._noted is not None:
            with contextlib.suppress(LeaseLost):
                await self.stored()

    async def stored(self) -> None:
        """Wait until what was noted is stored, or how the process ended.

        :raises LeaseLost: if it will not be, because the process is not run here any more
        """
        if not self.process.has_terminated():
            try:
                async with self._save_lock:
                    await self._write_noted()
            except LeaseLost:
                self.lose()
            stored = not self._lost
        else:
            await self._over.wait()
            stored = self._stored
        if not stored:
            raise LeaseLost(f"process {self.process.pid} is not run here any more; ask again")

    def cancel(self) -> None:
        """Stop stepping."""
        if self.task is not None:
            self._cancelled = True
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
