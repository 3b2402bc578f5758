"""From a task, or from the ledger, to a process that runs in this worker."""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import kiwipy
from kiwipy.rmq import utils

from plumpy import _crossing
from plumpy._launcher import ProcessLauncher, brief, check_arguments
from plumpy._ledger import Caller, Lease, Run
from plumpy._messages import CONTINUE_TASK, CREATE_TASK, LAUNCH_TASK, TASK_ARGS, TASK_KEY
from plumpy._rabbitmq import TaskMessage
from plumpy.exceptions import PersistenceError
from plumpy.loaders import ObjectLoader
from plumpy.persistence import LoadSaveContext
from plumpy.persistence._bundle import restored_bundle
from plumpy.persistence._codec import dumps, loads
from plumpy.persistence._savable import META, META__CLASS_NAME
from plumpy.processes import Process
from plumpy.worker._reach import Anteroom
from plumpy.worker._running import contained, label_of

if TYPE_CHECKING:
    from plumpy.worker._worker import Worker

_LOGGER = logging.getLogger("plumpy.worker")

#: A launch task that is delivered again leads to the same pid.
_NAMESPACE = uuid.UUID("6f1b3f4e-55f1-5d0e-9f43-0d7c4a1f5a11")
#: Seconds that the answer with a pid waits until the process can be called.
_SETTLING_TIME = 5.0


class _Maker(ProcessLauncher):
    """Makes processes of the classes that are allowed."""

    def __init__(
        self, allow: tuple[str, ...], loop: asyncio.AbstractEventLoop, loader: ObjectLoader | None
    ) -> None:
        super().__init__(loop=loop, loader=loader)
        self._allow = allow

    def allows(self, identifier: str) -> bool:
        return any(fnmatch.fnmatchcase(identifier, pattern) for pattern in self._allow)


class Intake:
    """Begins processes for a worker. Methods return whether the slot of the caller is in use."""

    def __init__(self, worker: Worker, allow: tuple[str, ...]) -> None:
        self._worker = worker
        self._maker = _Maker(allow, worker.loop, worker.loader)

    async def begin(self, message: TaskMessage) -> bool:
        """Begin what a task asks for, and answer and acknowledge it.

        :raises PersistenceError: if the database fails; the task is not acknowledged then
        :raises Exception: if the task is at fault; likewise
        """
        task = message.body
        if not isinstance(task, Mapping) or not isinstance(task.get(TASK_KEY), str):
            raise ValueError(f"this is not a task for processes: {brief(task)}")
        methods: dict[str, Callable[..., Awaitable[bool]]] = {
            LAUNCH_TASK: self._launch,
            CREATE_TASK: self._create,
            CONTINUE_TASK: self._continue,
        }
        method = methods.get(task[TASK_KEY])
        if method is None:
            raise ValueError(f"unknown task {brief(task[TASK_KEY])}")
        arguments = check_arguments(method, task.get(TASK_ARGS, {}))
        return await method(message, **arguments)

    async def _launch(
        self,
        message: TaskMessage,
        process_class: str,
        persist: bool = True,
        nowait: bool = False,
        init_args: Any = None,
        init_kwargs: Any = None,
    ) -> bool:
        return await self._new(message, process_class, init_args, init_kwargs, bool(nowait), True)

    async def _create(
        self,
        message: TaskMessage,
        process_class: str,
        persist: bool = True,
        init_args: Any = None,
        init_kwargs: Any = None,
    ) -> bool:
        return await self._new(message, process_class, init_args, init_kwargs, True, False)

    async def _new(
        self,
        message: TaskMessage,
        identifier: str,
        init_args: Any,
        init_kwargs: Any,
        nowait: bool,
        begin: bool,
    ) -> bool:
        worker = self._worker
        kwargs = dict(init_kwargs) if isinstance(init_kwargs, Mapping) else {}
        if "pid" not in kwargs and message.correlation_id:
            kwargs["pid"] = uuid.uuid5(_NAMESPACE, message.correlation_id)
        pid = kwargs.get("pid")
        key = dumps(pid, worker.loader)
        known = None if pid is None else await worker.database(lambda: worker.ledger.find(key))
        if known is not None:
            # Delivered again, or sent again by someone who gave the pid.
            if begin:
                return await self._continue(message, pid, nowait)
            self._answer(message, utils.result_response(pid))
            return False
        worker.starting(key)
        try:
            if init_kwargs is not None and not isinstance(init_kwargs, Mapping):
                kwargs = init_kwargs
            communicator = worker.communicator if begin else None
            with contained():
                process = self._maker.make(communicator, identifier, init_args, kwargs)
            anteroom = Anteroom(process)
            try:
                caller = None if nowait else _caller(message)
                bundle = worker.bundle_of(process)
                # Its first step, into the state RUNNING, is not saved.
                state = "running" if begin and not process.paused else label_of(process)
                lease = await worker.database(
                    lambda: worker.ledger.open(
                        dumps(process.pid, worker.loader),
                        name=str(process.pid),
                        process_class=identifier,
                        queue=worker.queue,
                        state=state,
                        bundle=bundle,
                        worker=worker.name if begin else None,
                        seconds=worker.lease_seconds,
                        caller=caller,
                    )
                )
            except BaseException:
                process.close()
                anteroom.leave()
                raise
            if not begin:
                process.close()
                self._answer(message, utils.result_response(process.pid))
                return False
            if lease is None:  # another worker was faster with the same task
                process.close()
                anteroom.leave()
                return await self._continue(message, process.pid, nowait)
            self._run(message, process, lease, nowait)
            anteroom.leave()
            return True
        finally:
            worker.started(key)

    async def _continue(
        self, message: TaskMessage, pid: Any, nowait: bool = False, tag: str | None = None
    ) -> bool:
        if tag is not None:
            raise ValueError("a worker continues a process from its last checkpoint, not by tag")
        worker = self._worker
        key = dumps(pid, worker.loader)
        caller = None if nowait else _caller(message)
        worker.starting(key)
        try:
            lease, run = await self._claim(key, caller)
            if run is None:
                await self._enter(pid, key)
                lease, run = await self._claim(key, caller)
            if lease is None:
                self._answer(message, _known(pid, run, nowait))
                return False
            try:
                process = await self._load(lease)
            except PersistenceError:
                await worker.release(lease)
                raise
            except Exception as exc:
                await worker.postpone(lease)
                raise ValueError(f"process {pid} cannot be loaded: {exc}") from exc
            self._run(message, process, lease, nowait)
            return True
        finally:
            worker.started(key)

    async def _claim(self, key: str, caller: Caller | None) -> tuple[Lease | None, Run | None]:
        worker = self._worker
        if worker.runs_already(key):
            # Our own lease may be late; nobody shall take it, ourselves least of all.
            run = await worker.database(lambda: worker.ledger.ask(key, caller))
            return None, run
        return await worker.database(
            lambda: worker.ledger.claim(key, worker.name, worker.lease_seconds, caller)
        )

    async def _enter(self, pid: Any, key: str) -> None:
        """Enter a process that was saved by other means than a worker."""
        worker = self._worker
        text = await worker.database(lambda: worker.ledger.load(key))
        if text is None:
            raise ValueError(f"there is no checkpoint of process {pid}")
        identifier = _read(text, worker.loader)[META][META__CLASS_NAME]
        await worker.database(
            lambda: worker.ledger.enter(
                key,
                name=str(pid),
                process_class=identifier,
                queue=worker.queue,
                state="created",
            )
        )

    async def _load(self, lease: Lease) -> Process:
        worker = self._worker
        text = await worker.database(lambda: worker.ledger.load(lease.pid))
        if text is None:
            raise ValueError("its checkpoint is gone")
        bundle = restored_bundle(_read(text, worker.loader))
        identifier = bundle[META][META__CLASS_NAME]
        if not self._maker.allows(identifier):
            raise ValueError(f"{brief(identifier)} is not among the classes allowed here")
        context = LoadSaveContext(
            loader=worker.loader, loop=worker.loop, communicator=worker.communicator
        )
        with contained():
            process = bundle.unbundle(context)
        if not isinstance(process, Process):
            raise ValueError("its checkpoint is not that of a process")
        return process

    def _run(self, message: TaskMessage, process: Process, lease: Lease, nowait: bool) -> None:
        message.acknowledge()
        if not nowait:
            message.respond(utils.pending_response())
        self._worker.run_process(process, lease)
        if nowait and message.reply_to is not None:
            self._worker.spawn(self._answer_when_settled(message, process.pid))

    async def _answer_when_settled(self, message: TaskMessage, pid: Any) -> None:
        settling = _crossing.settled(str(pid))
        if settling is not None:
            await asyncio.wait([asyncio.wrap_future(settling)], timeout=_SETTLING_TIME)
        message.respond(utils.result_response(pid))

    @staticmethod
    def _answer(message: TaskMessage, response: dict[str, Any]) -> None:
        message.acknowledge()
        message.respond(response)

    async def adopt(self, limit: int) -> None:
        """Go on with processes that no worker has, or has any more.

        :raises PersistenceError: if the database fails
        """
        worker = self._worker
        leases = await worker.database(
            lambda: worker.ledger.adopt(worker.queue, worker.name, worker.lease_seconds, limit)
        )
        for lease in leases:
            worker.starting(lease.pid)
        try:
            while leases:
                await self._go_on(leases[0])
                worker.started(leases.pop(0).pid)
        finally:
            for lease in leases:
                worker.started(lease.pid)
                worker.spawn(worker.release(lease))

    async def _go_on(self, lease: Lease) -> None:
        worker = self._worker
        await worker.slots.acquire()
        try:
            process = await self._load(lease)
        except BaseException as exc:
            worker.slots.release()
            if isinstance(exc, PersistenceError) or not isinstance(exc, Exception):
                raise
            if isinstance(exc, kiwipy.DuplicateSubscriberIdentifier):
                # What ran it here before is not quite gone.
                await worker.release(lease)
            else:
                _LOGGER.error("process %s cannot be loaded: %s", lease.pid, exc)
                await worker.postpone(lease)
            return
        _LOGGER.info("going on with process %s", process.pid)
        worker.run_process(process, lease)


def _read(text: str, loader: ObjectLoader | None) -> Any:
    try:
        return loads(text, loader)
    except PersistenceError as exc:
        # It is the text that is at fault, not the database: to try again is of no use.
        raise ValueError(str(exc)) from exc


def _caller(message: TaskMessage) -> Caller | None:
    if message.reply_to is None or message.correlation_id is None:
        return None
    return Caller(message.reply_to, message.correlation_id)


def _known(pid: Any, run: Run | None, nowait: bool) -> dict[str, Any]:
    """Return the answer to someone who asks to continue a process that is run or has ended."""
    if nowait:
        return utils.result_response(pid)  # type: ignore[no-any-return]
    if run is not None and run.outcome is not None:
        outcome: dict[str, Any] = loads(run.outcome)
        return outcome
    return utils.pending_response()  # type: ignore[no-any-return]
