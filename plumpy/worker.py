"""A worker: runs processes from a task queue, on as many machines as one likes.

A task is acknowledged as soon as its process is saved, so that no time limit of the broker applies
to the process. From then on the ledger beside the checkpoints says who runs it. If that worker
dies, its lease expires and another worker goes on from the last checkpoint. A process is run by one
worker at a time, however often its task is delivered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import kiwipy

from plumpy import _codec, _crossing, _outbox, _sending
from plumpy._batches import Batches
from plumpy._intake import Intake
from plumpy._ledger import Caller, Lease, LeaseLost, Ledger
from plumpy._messages import (
    KWARGS_KEY,
    LAUNCH_TASK,
    NOWAIT_KEY,
    PERSIST_KEY,
    PROCESS_CLASS_KEY,
    TASK_ARGS,
    TASK_KEY,
)
from plumpy._rabbitmq import TaskConsumer, TaskMessage
from plumpy._running import Running, running_of
from plumpy.communications import LoopCommunicator
from plumpy.exceptions import PersistenceError
from plumpy.loaders import ObjectLoader, get_object_loader
from plumpy.persistence import Bundle, LoadSaveContext
from plumpy.persistence._codec import dumps, loads
from plumpy.process_spec import ProcessSpec
from plumpy.processes import Process
from plumpy.waiting import ProcessWaiter

__all__ = ["LeaseLost", "Submitted", "Worker", "record", "record_async", "submit"]

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Seconds from one attempt to use a database that fails to the next.
_RETRY = 0.5
#: Seconds that a task waits for a free slot before it is offered to the other workers.
_PATIENCE = 2.0
#: Seconds after which an outcome that nobody was told of is told again.
_UNANSWERED = 10.0


def record(key: str, value: Any, process: Process | None = None) -> bool:
    """Record something that a step did, once for the process however often the step is repeated.

    To be called in a step of a process that a worker runs. The value is stored in the worker's
    database before this returns.

    :param key: what was done; unique within the process
    :param value: anything that can be saved
    :param process: the process; the current one by default
    :return: True if it is new, False if it was recorded before, as by a worker that died
    :raises LeaseLost: if another worker runs the process by now; the step should not go on
    :raises RuntimeError: if no worker runs the process
    """
    running = _running_of(process)
    return running.worker.ledger.record(running.lease, key, dumps(value))


async def record_async(key: str, value: Any, process: Process | None = None) -> bool:
    """Like :func:`record`, for asynchronous steps: the loop goes on while the value is stored."""
    running = _running_of(process)
    text = dumps(value)
    return await running.worker.database(
        lambda: running.worker.ledger.record(running.lease, key, text)
    )


def _running_of(process: Process | None) -> Running:
    process = process if process is not None else Process.current()
    running = None if process is None else running_of(process)
    if running is None:
        raise RuntimeError("only a process that is run by a worker can record what it did")
    return running


def submit(process_class: type[Process], inputs: dict[str, Any] | None = None) -> Process:
    """Have another process run by any worker of the queue, and wait for it in this one.

    To be called in a step of a process that a worker runs. What it returns is a process of this
    program that ends as the other one does, with its outputs; a work chain may wait for it:

    .. code-block:: python

        return ToContext(child=submit(Child, {"a": 1}))

    If the waiting process is taken over by another worker, it waits there; the other process is not
    started a second time. Processes that wait need no slot.

    :raises RuntimeError: if no worker runs the present process
    """
    parent = Process.current()
    if parent is None or _worker_of(parent) is None:
        raise RuntimeError("only a process that is run by a worker can submit others to its queue")
    loader = get_object_loader()
    child: Process = parent.launch(
        Submitted,
        inputs={
            "process_class": loader.identify_object(process_class),
            "process_inputs": inputs,
            "process_pid": str(uuid.uuid4()),
        },
    )
    return child


#: The workers of this program, by the communicator that their processes have.
_workers: weakref.WeakKeyDictionary[LoopCommunicator, Worker] = weakref.WeakKeyDictionary()


def _worker_of(process: Process) -> Worker | None:
    communicator = process._communicator
    return _workers.get(communicator) if isinstance(communicator, LoopCommunicator) else None


class Submitted(Process):
    """Stands for a process that some worker runs; see :func:`submit`."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("process_class", valid_type=str)
        spec.input("process_inputs", required=False)
        spec.input("process_pid", valid_type=str)
        spec.outputs.dynamic = True

    async def run(self) -> None:
        """Send the task, wait for the end, and end in the same way."""
        worker = _worker_of(self)
        if worker is None:
            raise RuntimeError("no worker runs this process any more")
        inputs = self.inputs
        assert inputs is not None
        response = await worker.run_elsewhere(
            inputs.process_class, inputs.get("process_inputs"), inputs.process_pid
        )
        if "result" not in response:
            raise RuntimeError(
                f"process {inputs.process_pid}: {response.get('exception') or 'was cancelled'}"
            )
        for label, value in (response["result"] or {}).items():
            self.out(label, value)


class Worker:
    """Runs processes from a task queue.

    .. code-block:: python

        worker = Worker(communicator, SqlitePersister("processes.db"), slots=10)
        await worker.run()

    Any number of workers, in any number of programs, may share a queue and a database.
    """

    def __init__(
        self,
        communicator: kiwipy.Communicator,
        persister: Any,
        *,
        slots: int = 10,
        queue: str = "kiwipy.tasks",
        allow: Sequence[str] = ("*",),
        lease: float = 30.0,
        poll: float = 1.0,
        stop_limit: float = 30.0,
        name: str | None = None,
        loader: ObjectLoader | None = None,
    ) -> None:
        """
        :param communicator: kiwipy's RabbitMQ communicator
        :param persister: a :class:`~plumpy.persistence.SqlitePersister` or a
            :class:`~plumpy.postgres.PostgresPersister`
        :param slots: how many processes may be in a step at the same time; those that wait or are
            paused do not count
        :param queue: the task queue
        :param allow: patterns, as for file names, of the classes that tasks may start
        :param lease: seconds after which a worker that does not report counts as dead
        :param poll: seconds from one look for processes without a worker to the next
        :param stop_limit: seconds that steps under way get to end when the worker is stopped
        :param name: tells workers apart; made of host and process number by default
        :param loader: finds the classes
        :raises ValueError: if a number is not positive
        """
        for label, value in (("slots", slots), ("lease", lease), ("poll", poll)):
            if not value > 0:
                raise ValueError(f"{label} must be positive, not {value!r}")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.queue = queue
        self.lease_seconds = lease
        self.persister = persister
        self.loader = loader
        self.ledger: Ledger = persister.ledger()
        self.slots = asyncio.Semaphore(slots)
        self.stopping = False
        self.communicator: LoopCommunicator
        self.loop: asyncio.AbstractEventLoop
        self._inner = communicator
        self._slot_count = slots
        self._poll = poll
        self._stop_limit = stop_limit
        self._allow = tuple(allow)
        self._stop = asyncio.Event()
        self._consumer: TaskConsumer
        self._waiter: ProcessWaiter
        self._consuming = True
        self._running: dict[str, Running] = {}
        self._starting: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._save_context = LoadSaveContext(loader=loader)
        # The database is used in one thread: a slow one holds up saving, never the loop.
        self._database = Batches(self.ledger)

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {len(self._running)} processes from {self.queue}>"

    @property
    def processes(self) -> list[Process]:
        """The processes that this worker runs, those that wait included."""
        return [running.process for running in self._running.values()]

    def stop(self) -> None:
        """Stop in good order: take nothing any more, end the steps under way, give the rest back.

        To be called on the thread of the loop; :meth:`run` returns when it is done.
        """
        self._stop.set()

    async def run(self) -> None:
        """Work until :meth:`stop` is called."""
        self.loop = asyncio.get_running_loop()
        self.communicator = LoopCommunicator(self._inner, self.loop)
        _workers[self.communicator] = self
        self._waiter = ProcessWaiter(
            self.communicator, self._final_state, interval=5 * self._poll, loop=self.loop
        )
        intake = Intake(self, self._allow)

        def on_task(message: TaskMessage) -> None:
            _crossing.hop(self.loop, self._take, intake, message)

        self._consumer = TaskConsumer(
            self._inner,
            on_task,
            queue=self.queue,
            prefetch=min(self._slot_count, 20),
            decode=_codec.decode_safely,
        )
        _LOGGER.info("%s takes tasks from %s, %d slots", self.name, self.queue, self._slot_count)
        try:
            self.spawn(self._renew())
            self.spawn(self._save_pauses())
            self.spawn(self._adopt(intake))
            await self._stop.wait()
        finally:
            await self._shut_down()

    # ------------------------------------------------------------------ tasks

    async def _take(self, intake: Intake, message: TaskMessage) -> None:
        if not self.stopping:
            try:
                await asyncio.wait_for(self.slots.acquire(), _PATIENCE)
            except asyncio.TimeoutError:
                # All slots are in use by long steps: let the other workers have it.
                self._consuming = False
                self._consumer.stop()
                message.put_back()
                return
        if self.stopping:
            message.put_back()
            return
        slot_is_free = True
        try:
            slot_is_free = not await intake.begin(message)
        except PersistenceError as exc:
            _LOGGER.error("cannot save a process now, putting its task back: %s", exc)
            await asyncio.sleep(_RETRY)
            message.put_back()
        except Exception as exc:
            _LOGGER.warning("rejecting a task: %s: %s", type(exc).__name__, str(exc)[:500])
            message.respond({"exception": f"{type(exc).__name__}: {str(exc)[:500]}"})
            message.acknowledge()
        finally:
            if slot_is_free:
                self.slots.release()

    def run_process(self, process: Process, lease: Lease) -> None:
        """Run a process that has been leased, in a slot that was acquired for it."""
        running = self._running[lease.pid] = Running(self, process, lease)
        running.start()

    def forget(self, running: Running) -> None:
        """Strike off a process that is not run any more."""
        if self._running.get(running.lease.pid) is running:
            del self._running[running.lease.pid]

    def runs_already(self, pid: str) -> bool:
        """Tell whether this worker runs a process."""
        return pid in self._running

    def starting(self, pid: str) -> None:
        """Note that a process may be leased soon, though it does not run yet."""
        self._starting.add(pid)

    def started(self, pid: str) -> None:
        """Note that a process runs, or does not."""
        self._starting.discard(pid)

    # ------------------------------------------------------------------ the database

    async def database(self, function: Callable[[], _T]) -> _T:
        """Call something that uses the database, without holding up the loop."""
        result: _T = await asyncio.wrap_future(self._database.submit(function))
        return result

    async def persistently(self, function: Callable[[], _T], pid: Any) -> _T:
        """Use the database for a process, again and again until that works.

        :raises LeaseLost: if another worker runs the process by now
        """
        failed = False
        while True:
            try:
                result = await self.database(function)
            except LeaseLost:
                raise
            except PersistenceError as exc:
                if not failed:
                    _LOGGER.error("process %s has to wait for the database: %s", pid, exc)
                failed = True
                await asyncio.sleep(_RETRY)
            else:
                if failed:
                    _LOGGER.info("process %s goes on: the database works again", pid)
                return result

    def bundle_of(self, process: Process) -> str:
        """Return the present state of a process as text.

        :raises PersistenceError: if a value has no such form
        """
        return dumps(dict(Bundle(process, self._save_context)), self.loader)

    async def release(self, lease: Lease) -> None:
        """Give a process back, for any worker to take."""
        try:
            await self.database(lambda: self.ledger.release(lease))
        except PersistenceError as exc:
            _LOGGER.warning("process %s is given back only when its lease ends: %s", lease.pid, exc)

    async def postpone(self, lease: Lease) -> None:
        """Give back a process that cannot be loaded here, not to be tried again at once."""
        try:
            await self.database(lambda: self.ledger.postpone(lease, self.lease_seconds))
        except PersistenceError as exc:
            _LOGGER.warning("process %s is given back only when its lease ends: %s", lease.pid, exc)

    async def answer(self, pid: str, callers: Sequence[Caller], response: dict[str, Any]) -> None:
        """Tell the callers how a process ended."""
        if not callers:
            return
        told = [
            asyncio.wrap_future(
                self._consumer.respond(caller.reply_to, caller.correlation_id, response)
            )
            for caller in callers
        ]
        done, _ = await asyncio.wait(told, timeout=self._consumer.timeout)
        if len(done) == len(told) and all(future.result() for future in done):
            try:
                await self.database(lambda: self.ledger.answered(pid))
            except PersistenceError as exc:
                _LOGGER.warning("the callers of process %s may be told twice: %s", pid, exc)

    async def run_elsewhere(
        self, identifier: str, inputs: dict[str, Any] | None, pid: str
    ) -> dict[str, Any]:
        """Have a process run by any worker, unless that has been done; return its outcome."""
        body = {
            TASK_KEY: LAUNCH_TASK,
            TASK_ARGS: {
                PROCESS_CLASS_KEY: identifier,
                KWARGS_KEY: {"inputs": inputs, "pid": pid},
                NOWAIT_KEY: True,
                PERSIST_KEY: True,
            },
        }
        key = dumps(pid, self.loader)
        if await self.database(lambda: self.ledger.find(key)) is None:
            await self._send(body, pid)
        await self._waiter.wait(pid)
        while True:
            # The broadcast may be faster than the entry in the ledger.
            run = await self.persistently(lambda: self.ledger.find(key), pid)
            if run is not None and run.outcome is not None:
                outcome: dict[str, Any] = loads(run.outcome, self.loader)
                return outcome
            await asyncio.sleep(_RETRY / 10)

    async def _send(self, body: dict[str, Any], pid: str) -> None:
        while True:
            try:
                await _sending.send_task_and_wait(self._inner, body, no_reply=True)
            except (*_outbox.TRANSIENT, kiwipy.DeliveryFailed) as exc:
                _LOGGER.warning("cannot send the task of process %s yet: %r", pid, exc)
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _final_state(self, pid: Any) -> str | None:
        run = await self.database(lambda: self.ledger.find(dumps(pid, self.loader)))
        return None if run is None or run.outcome is None else run.state

    # ------------------------------------------------------------------ housekeeping

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run something beside the processes until the worker stops."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            before = dict(self._running)
            try:
                held = await self.database(lambda: self.ledger.renew(self.name, self.lease_seconds))
            except PersistenceError as exc:
                _LOGGER.error("cannot renew the leases: %s", exc)
                continue
            for pid, running in before.items():
                # One that has ended is given up by the ledger before it is forgotten here.
                current = self._running.get(pid) is running and not running.process.has_terminated()
                if current and held.get(pid) != running.lease.term:
                    _LOGGER.warning("process %s is run by another worker", running.process.pid)
                    running.lose()
            for pid, term in held.items():
                if pid not in self._running and pid not in self._starting:
                    await self.release(Lease(pid, self.name, term))

    async def _save_pauses(self) -> None:
        while True:
            await asyncio.sleep(self._poll / 2)
            for running in list(self._running.values()):
                await running.save_pause()

    async def _adopt(self, intake: Intake) -> None:
        ticks = 0
        while True:
            try:
                free = self._free_slots()
                if free:
                    if not self._consuming:
                        self._consuming = True
                        self._consumer.start()
                    await intake.adopt(free)
                if ticks % max(1, round(_UNANSWERED / self._poll)) == 0:
                    await self._answer_again()
            except PersistenceError as exc:
                _LOGGER.error("cannot look for processes without a worker: %s", exc)
            ticks += 1
            await asyncio.sleep(self._poll)

    def _free_slots(self) -> int:
        return 0 if self.slots.locked() else self.slots._value

    async def _answer_again(self) -> None:
        """Tell outcomes that a worker did not get to tell, because it died in that moment."""
        for run in await self.database(lambda: self.ledger.unanswered(self.queue, _UNANSWERED)):
            await self.answer(run.pid, run.callers, loads(run.outcome or "null", self.loader))

    async def _shut_down(self) -> None:
        # From here on processes leave the table by themselves, when a step of theirs ends.
        left = list(self._running.values())
        self.stopping = True
        _LOGGER.info("%s stops, with %d processes", self.name, len(self._running))
        await asyncio.wait([asyncio.wrap_future(self._consumer.stop())], timeout=_PATIENCE)
        for task in list(self._tasks):
            task.cancel()
        left += [running for running in self._running.values() if running not in left]
        for running in left:
            if not running.stepping:
                running.cancel()
        tasks = [running.task for running in left if running.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._stop_limit)
            for task in late:
                _LOGGER.warning("a step did not end within %g s", self._stop_limit)
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_PATIENCE)
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        for running in left:
            await self.release(running.lease)
        await asyncio.wait([asyncio.wrap_future(self._consumer.flush())], timeout=_PATIENCE)
        self._consumer.close()
        self._waiter.close()
        self._database.close()
        _LOGGER.info("%s has stopped", self.name)
