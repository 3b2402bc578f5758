"""The worker itself: its tasks, its processes, its leases, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import kiwipy

from plumpy import _codec, _crossing, _outbox, _sending
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
from plumpy.communications import LoopCommunicator
from plumpy.exceptions import PersistenceError
from plumpy.loaders import ObjectLoader
from plumpy.persistence import Bundle, LoadSaveContext
from plumpy.persistence._codec import dumps, loads
from plumpy.processes import Process
from plumpy.waiting import ProcessWaiter
from plumpy.worker._database import Database
from plumpy.worker._fork import end_forks_of
from plumpy.worker._intake import Intake
from plumpy.worker._running import RETRY, Running
from plumpy.worker._steps import workers

_LOGGER = logging.getLogger("plumpy.worker")
_T = TypeVar("_T")

#: Seconds that a task waits for a free slot before it is offered to the other workers.
_PATIENCE = 2.0
#: Seconds after which an outcome that nobody was told of is told again.
_UNANSWERED = 10.0
#: Seconds after which it is said again that the database fails.
_REMINDER = 60.0


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
        self._hurry = asyncio.Event()
        self._consumer: TaskConsumer
        self._intake: Intake
        self._waiter: ProcessWaiter
        self._consuming = True
        self._running: dict[str, Running] = {}
        self._starting: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._save_context = LoadSaveContext(loader=loader)
        self._database: Database
        # What is wrong with the database, and when that was said.
        self._trouble = "", 0.0

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {len(self._running)} processes from {self.queue}>"

    @property
    def processes(self) -> list[Process]:
        """The processes that this worker runs, those that wait included."""
        return [running.process for running in self._running.values()]

    def stop(self) -> None:
        """Stop in good order: take nothing any more, end the steps under way, give the rest back.

        To be called on the thread of the loop; :meth:`run` returns when it is done. Called again,
        the steps under way are not waited for.
        """
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        """Work until :meth:`stop` is called."""
        self.loop = asyncio.get_running_loop()
        self.communicator = LoopCommunicator(self._inner, self.loop)
        workers[self.communicator] = self
        end_forks_of(self.loop)
        self._database = Database(self.ledger, self.loop, self._renew)
        self._waiter = ProcessWaiter(
            self.communicator, self._final_state, interval=5 * self._poll, loop=self.loop
        )
        self._intake = Intake(self, self._allow)

        def on_task(message: TaskMessage) -> None:
            _crossing.hop(self.loop, self._take, message)

        self._consumer = TaskConsumer(
            self._inner,
            on_task,
            queue=self.queue,
            prefetch=min(self._slot_count, 20),
            decode=_codec.decode_safely,
        )
        _LOGGER.info("%s takes tasks from %s, %d slots", self.name, self.queue, self._slot_count)
        try:
            poll = self._poll
            self.spawn(self._every(poll / 2, "save pauses", self._save_pauses))
            self.spawn(self._every(poll, "look for processes without a worker", self._adopt))
            self.spawn(self._every(_UNANSWERED, "tell outcomes again", self._answer_again))
            await self._stop.wait()
        finally:
            await self._shut_down()

    # ------------------------------------------------------------------ tasks

    async def _take(self, message: TaskMessage) -> None:
        if not self.stopping and not await self._slot():
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
            slot_is_free = not await self._intake.begin(message)
            if not slot_is_free:
                self._database_works()
        except PersistenceError as exc:
            self.database_fails(exc)
            await asyncio.sleep(RETRY)
            message.put_back()
        except Exception as exc:
            _LOGGER.warning("rejecting a task: %s: %s", type(exc).__name__, str(exc)[:500])
            message.respond({"exception": f"{type(exc).__name__}: {str(exc)[:500]}"})
            message.acknowledge()
        finally:
            if slot_is_free:
                self.slots.release()

    async def _slot(self) -> bool:
        """Acquire a slot; False if none gets free for some time."""
        if not self.slots.locked():
            return await self.slots.acquire()
        try:
            return await asyncio.wait_for(self.slots.acquire(), _PATIENCE)
        except asyncio.TimeoutError:
            return False

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
        """Call something that uses the database, without holding up the loop.

        :raises PersistenceError: if the database fails; nothing is stored then
        """
        return await self._database.use(function)

    async def persistently(self, function: Callable[[], _T]) -> _T:
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
                failed = True
                self.database_fails(exc)
                await asyncio.sleep(RETRY)
            else:
                if failed:
                    self._database_works()
                return result

    def database_fails(self, exc: PersistenceError) -> None:
        """Say that the database fails: once, however many processes and tasks wait for it."""
        now = self.loop.time()
        text, said = self._trouble
        if text != str(exc) or now - said > _REMINDER:
            self._trouble = str(exc), now
            _LOGGER.error("processes and tasks have to wait: %s", exc)

    def _database_works(self) -> None:
        if self._trouble[0]:
            self._trouble = "", 0.0
            _LOGGER.info("the database works again")

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
        if await self.persistently(lambda: self.ledger.find(key)) is None:
            await self._send(body, pid)
        await self._waiter.wait(pid)
        while True:
            run = await self.persistently(lambda: self.ledger.find(key))
            if run is not None and run.outcome is not None:
                outcome: dict[str, Any] = loads(run.outcome, self.loader)
                return outcome
            # Who broadcast its end was no worker.
            await asyncio.sleep(RETRY)

    async def _send(self, body: dict[str, Any], pid: str) -> None:
        while True:
            try:
                await _sending.send_task_and_wait(self._inner, body, no_reply=True)
            except (*_outbox.TRANSIENT, kiwipy.DeliveryFailed) as exc:
                _LOGGER.warning("cannot send the task of process %s yet: %r", pid, exc)
                await asyncio.sleep(RETRY)
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

    async def _every(self, seconds: float, what: str, work: Callable[[], Any]) -> None:
        """Do something now and then, whatever becomes of it."""
        while True:
            pause = seconds
            try:
                await work()
            except PersistenceError as exc:
                self.database_fails(exc)
                pause = min(seconds, RETRY)
            except Exception:
                _LOGGER.exception("cannot %s", what)
            await asyncio.sleep(pause)

    def _renew(self, database: Database) -> float:
        """Prolong the leases, in the thread of the database: a step may block the loop for long."""
        pause = self.lease_seconds / 3
        before = self._running.copy()
        try:
            held = self.ledger.renew(self.name, self.lease_seconds)
        except PersistenceError as exc:
            database.tell(self.database_fails, exc)
            return min(pause, RETRY)
        except Exception:
            _LOGGER.exception("cannot renew the leases")
            return pause
        database.tell(self._on_renewed, before, held)
        return pause

    def _on_renewed(self, before: dict[str, Running], held: dict[str, int]) -> None:
        if not self.stopping:
            # In a task, which comes after those that wait for a lease of the same moment.
            self.spawn(self._compare(before, held))

    async def _compare(self, before: dict[str, Running], held: dict[str, int]) -> None:
        """Let go of what was lost, and give back what is held and not run."""
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
        for running in list(self._running.values()):
            await running.save_pause()

    async def _adopt(self) -> None:
        free = self._free_slots()
        if free:
            if not self._consuming:
                self._consuming = True
                self._consumer.start()
            await self._intake.adopt(free)

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
        await _bounded(self._save_pauses())
        for running in left:
            if not running.stepping:
                running.cancel()
        tasks = [running.task for running in left if running.task is not None]
        if tasks:
            late = await self._end_of(tasks)
            if late:
                _LOGGER.warning(
                    "%d steps have not ended and are to be repeated by other workers", len(late)
                )
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_PATIENCE)
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        await _bounded(self._release_all())
        await asyncio.wait([asyncio.wrap_future(self._consumer.flush())], timeout=_PATIENCE)
        self._consumer.close()
        self._waiter.close()
        self._database.close()
        _LOGGER.info("%s has stopped", self.name)

    async def _release_all(self) -> None:
        """Give back what was run here, and what was leased but did not get that far."""
        try:
            await self.database(lambda: self.ledger.release_all(self.name))
        except PersistenceError as exc:
            _LOGGER.warning("processes are given back only when their leases end: %s", exc)

    async def _end_of(self, tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
        """Wait for tasks until the limit, or until there is a hurry; return those that go on."""
        everything = asyncio.ensure_future(asyncio.wait(tasks))
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait(
            [everything, hurry],
            timeout=self._stop_limit,
            return_when=asyncio.FIRST_COMPLETED,
        )
        everything.cancel()
        hurry.cancel()
        return [task for task in tasks if not task.done()]


async def _bounded(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Do things at once, and give up what takes too long."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_PATIENCE)
        for task in late:
            task.cancel()
