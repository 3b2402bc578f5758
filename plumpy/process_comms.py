"""Messages that control processes, the controllers that send them, and the launcher for tasks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import kiwipy

from plumpy import _crossing, communications, loaders, persistence

__all__ = [
    "MessageBuilder",
    "ProcessLauncher",
    "RemoteProcessController",
    "RemoteProcessThreadController",
    "create_continue_body",
    "create_launch_body",
]

LOGGER = logging.getLogger(__name__)

INTENT_KEY = "intent"
MESSAGE_TEXT_KEY = "message"
FORCE_KILL_KEY = "force_kill"

TASK_KEY = "task"
TASK_ARGS = "args"
LAUNCH_TASK = "launch"
CONTINUE_TASK = "continue"
CREATE_TASK = "create"

PROCESS_CLASS_KEY = "process_class"
ARGS_KEY = "init_args"
KWARGS_KEY = "init_kwargs"
PERSIST_KEY = "persist"
NOWAIT_KEY = "nowait"
PID_KEY = "pid"
TAG_KEY = "tag"

PID_TYPE = Hashable
MessageType = dict[str, Any]
ProcessResult = Any
ProcessStatus = Any

#: Seconds that a call waits for a process of this program to become reachable before it is sent.
SETTLING_TIME = 5.0


class Intent:
    """What a message to a process asks for."""

    PLAY: str = "play"
    PAUSE: str = "pause"
    KILL: str = "kill"
    STATUS: str = "status"


class MessageBuilder:
    """The bodies of messages to a process."""

    @classmethod
    def play(cls, text: str | None = None) -> MessageType:
        """Return the message that lets a paused process go on."""
        return {INTENT_KEY: Intent.PLAY, MESSAGE_TEXT_KEY: text}

    @classmethod
    def pause(cls, text: str | None = None) -> MessageType:
        """Return the message that pauses a process; ``text`` becomes its status."""
        return {INTENT_KEY: Intent.PAUSE, MESSAGE_TEXT_KEY: text}

    @classmethod
    def kill(cls, text: str | None = None, force_kill: bool = False) -> MessageType:
        """Return the message that kills a process.

        :param text: the reason, to be found in :class:`~plumpy.exceptions.KilledError`
        :param force_kill: do not wait for the step under way
        """
        return {INTENT_KEY: Intent.KILL, MESSAGE_TEXT_KEY: text, FORCE_KILL_KEY: force_kill}

    @classmethod
    def status(cls, text: str | None = None) -> MessageType:
        """Return the message that asks a process for its status."""
        return {INTENT_KEY: Intent.STATUS, MESSAGE_TEXT_KEY: text}


def create_launch_body(
    process_class: Any,
    init_args: Sequence[Any] | None = None,
    init_kwargs: dict[str, Any] | None = None,
    persist: bool = False,
    loader: loaders.ObjectLoader | None = None,
    nowait: bool = True,
) -> dict[str, Any]:
    """Return the task that starts a new process.

    :param process_class: the class
    :param init_args: positional arguments of the class
    :param init_kwargs: keyword arguments of the class
    :param persist: save a checkpoint before the start
    :param loader: turns the class into an identifier; the default loader otherwise
    :param nowait: answer with the pid at once, not with the outputs at the end
    """
    return {
        TASK_KEY: LAUNCH_TASK,
        TASK_ARGS: {
            **_new_process(process_class, init_args, init_kwargs, persist, loader),
            NOWAIT_KEY: nowait,
        },
    }


def create_continue_body(
    pid: PID_TYPE, tag: str | None = None, nowait: bool = False
) -> dict[str, Any]:
    """Return the task that continues a process from its checkpoint.

    :param pid: the process
    :param tag: the tag of the checkpoint
    :param nowait: answer with the pid at once, not with the outputs at the end
    """
    return {
        TASK_KEY: CONTINUE_TASK,
        TASK_ARGS: {PID_KEY: pid, NOWAIT_KEY: nowait, TAG_KEY: tag},
    }


def create_create_body(
    process_class: Any,
    init_args: Sequence[Any] | None = None,
    init_kwargs: dict[str, Any] | None = None,
    persist: bool = False,
    loader: loaders.ObjectLoader | None = None,
) -> dict[str, Any]:
    """Return the task that creates a process without starting it; parameters as for launching."""
    return {
        TASK_KEY: CREATE_TASK,
        TASK_ARGS: _new_process(process_class, init_args, init_kwargs, persist, loader),
    }


def _new_process(
    process_class: Any,
    init_args: Sequence[Any] | None,
    init_kwargs: dict[str, Any] | None,
    persist: bool,
    loader: loaders.ObjectLoader | None,
) -> dict[str, Any]:
    if loader is None:
        loader = loaders.get_object_loader()
    return {
        PROCESS_CLASS_KEY: loader.identify_object(process_class),
        PERSIST_KEY: persist,
        ARGS_KEY: init_args,
        KWARGS_KEY: init_kwargs,
    }


class RemoteProcessController:
    """Controls processes that run elsewhere, for coroutines.

    Every method waits for the final answer and never blocks the loop. They raise
    :class:`kiwipy.UnroutableError` if nobody answers for the process,
    :class:`kiwipy.RemoteException` if the other side failed, and :class:`kiwipy.TimeoutError` or
    an error of the connection if the message could not be sent.
    """

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        """
        :param communicator: sends the messages; may be wrapped for a loop
        """
        self._communicator = communicator

    async def get_status(self, pid: PID_TYPE) -> ProcessStatus:
        """Return the status of a process."""
        return await self._call(pid, MessageBuilder.status())

    async def pause_process(self, pid: PID_TYPE, msg_text: str | None = None) -> ProcessResult:
        """Pause a process and return whether it is paused.

        :param msg_text: its status while it is paused
        """
        return await self._call(pid, MessageBuilder.pause(msg_text))

    async def play_process(self, pid: PID_TYPE) -> ProcessResult:
        """Let a paused process go on and return whether it does."""
        return await self._call(pid, MessageBuilder.play())

    async def kill_process(
        self, pid: PID_TYPE, msg_text: str | None = None, force_kill: bool = False
    ) -> ProcessResult:
        """Kill a process and return whether it is killed.

        :param msg_text: the reason
        :param force_kill: do not wait for the step under way
        """
        return await self._call(pid, MessageBuilder.kill(msg_text, force_kill))

    async def launch_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        persist: bool = False,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> ProcessResult:
        """Start a new process on a worker; parameters as for :func:`create_launch_body`.

        :param no_reply: return None as soon as the task is sent
        :return: the outputs of the process, or its pid if ``nowait``
        """
        body = create_launch_body(process_class, init_args, init_kwargs, persist, loader, nowait)
        return await self._task(body, no_reply)

    async def continue_process(
        self, pid: PID_TYPE, tag: str | None = None, nowait: bool = False, no_reply: bool = False
    ) -> ProcessResult | None:
        """Continue a process from its checkpoint on a worker.

        :param tag: the tag of the checkpoint
        :param nowait: do not wait for the end of the process
        :param no_reply: return None as soon as the task is sent
        :return: the outputs of the process, or its pid if ``nowait``
        """
        return await self._task(create_continue_body(pid, tag, nowait), no_reply)

    async def execute_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> ProcessResult:
        """Create and save a process on a worker, then continue it there or on another.

        Parameters and result as for :meth:`launch_process`.
        """
        body = create_create_body(process_class, init_args, init_kwargs, True, loader)
        pid = await self._task(body, False)
        return await self.continue_process(pid, nowait=nowait, no_reply=no_reply)

    async def _call(self, pid: PID_TYPE, msg: MessageType) -> Any:
        identifier = str(pid)
        settling = _crossing.settled(identifier)
        if settling is not None:
            await asyncio.wait([asyncio.wrap_future(settling)], timeout=SETTLING_TIME)
        return await self._answer(self._communicator.rpc_send, identifier, msg)

    async def _task(self, body: dict[str, Any], no_reply: bool) -> Any:
        return await self._answer(self._communicator.task_send, body, no_reply)

    async def _answer(self, send: Callable[..., Any], *args: Any) -> Any:
        if _crossing.blocks(self._communicator):
            first = await asyncio.to_thread(send, *args)
        else:
            first = send(*args)
        if asyncio.isfuture(first):
            first = _crossing.thread_future(first)
        if not isinstance(first, kiwipy.Future):
            return first
        return await asyncio.wrap_future(_crossing.flatten(first))


class RemoteProcessThreadController:
    """Controls processes that run elsewhere, for programs without a loop.

    Methods return thread futures. The result of such a future may be a future again: the first one
    tells that the process got the message, the next that it has done what it was asked to;
    :func:`plumpy.futures.unwrap_kiwi_future` leads to the final answer. Sending raises
    :class:`kiwipy.UnroutableError` if nobody answers for the process.
    """

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        """
        :param communicator: sends the messages; may be wrapped for a loop
        """
        self._communicator = communicator

    def get_status(self, pid: PID_TYPE) -> kiwipy.Future:
        """Ask for the status of a process."""
        return self._call(pid, MessageBuilder.status())

    def pause_process(self, pid: PID_TYPE, msg_text: str | None = None) -> kiwipy.Future:
        """Pause a process.

        :param msg_text: its status while it is paused
        """
        return self._call(pid, MessageBuilder.pause(msg_text))

    def pause_all(self, msg_text: str | None) -> None:
        """Pause every process of every worker.

        :param msg_text: their status while they are paused
        """
        self._communicator.broadcast_send(MessageBuilder.pause(msg_text), subject=Intent.PAUSE)

    def play_process(self, pid: PID_TYPE) -> kiwipy.Future:
        """Let a paused process go on."""
        return self._call(pid, MessageBuilder.play())

    def play_all(self) -> None:
        """Let every paused process of every worker go on."""
        self._communicator.broadcast_send(None, subject=Intent.PLAY)

    def kill_process(
        self, pid: PID_TYPE, msg_text: str | None = None, force_kill: bool = False
    ) -> kiwipy.Future:
        """Kill a process.

        :param msg_text: the reason
        :param force_kill: do not wait for the step under way
        """
        return self._call(pid, MessageBuilder.kill(msg_text, force_kill))

    def kill_all(self, msg_text: str | None) -> None:
        """Kill every process of every worker.

        :param msg_text: the reason
        """
        self._communicator.broadcast_send(MessageBuilder.kill(msg_text), subject=Intent.KILL)

    def launch_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        persist: bool = False,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> PID_TYPE | ProcessResult | None:
        """Start a new process on a worker; parameters as for :func:`create_launch_body`.

        :param no_reply: return None
        :return: a future for the outputs of the process, or for its pid if ``nowait``
        """
        body = create_launch_body(process_class, init_args, init_kwargs, persist, loader, nowait)
        return self.task_send(body, no_reply=no_reply)

    def continue_process(
        self, pid: PID_TYPE, tag: str | None = None, nowait: bool = False, no_reply: bool = False
    ) -> PID_TYPE | ProcessResult | None:
        """Continue a process from its checkpoint on a worker.

        :param tag: the tag of the checkpoint
        :param nowait: do not wait for the end of the process
        :param no_reply: return None
        :return: a future for the outputs of the process, or for its pid if ``nowait``
        """
        return self.task_send(create_continue_body(pid, tag, nowait), no_reply=no_reply)

    def execute_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> PID_TYPE | ProcessResult | None:
        """Create and save a process on a worker, then continue it there or on another.

        Parameters as for :meth:`launch_process`.

        :return: a future for what :meth:`continue_process` returns
        """
        body = create_create_body(process_class, init_args, init_kwargs, True, loader)
        created = _crossing.flatten(self.task_send(body))
        execution = kiwipy.Future()

        def go_on(done: kiwipy.Future) -> None:
            if done.cancelled():
                _crossing.cancel(execution)
                return
            try:
                pid = done.result()
                result = self.continue_process(pid, nowait=nowait, no_reply=no_reply)
            except Exception as exc:
                _crossing.fail(execution, exc)
            else:
                _crossing.succeed(execution, result)

        # Sending may block, and a communicator that answers from its own thread would block itself.
        created.add_done_callback(
            lambda done: _crossing.call_aside(self._communicator, go_on, done)
        )
        return execution

    def task_send(self, message: Any, no_reply: bool = False) -> Any | None:
        """Send a task.

        :param message: the body
        :param no_reply: ask for no answer
        :return: a future for the answer, or None if ``no_reply``
        """
        return self._communicator.task_send(message, no_reply=no_reply)

    def _call(self, pid: PID_TYPE, msg: MessageType) -> kiwipy.Future:
        identifier = str(pid)
        settling = _crossing.settled(identifier)
        if settling is not None:
            try:
                settling.result(SETTLING_TIME)
            except kiwipy.TimeoutError:
                LOGGER.warning("process %s is not subscribed yet; calling it anyhow", identifier)
        return self._communicator.rpc_send(identifier, msg)


class ProcessLauncher:
    """Works on tasks that launch, create or continue processes; a task subscriber.

    Only subclasses of :class:`plumpy.Process <plumpy.processes.Process>` are started: a task comes
    from whoever may write to the queue. Override :meth:`allows` to narrow that down further.

    .. code-block:: python

        communicator.add_task_subscriber(ProcessLauncher(persister=persister))

    where the communicator is a :class:`~plumpy.communications.LoopCommunicator`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        persister: persistence.Persister | None = None,
        load_context: persistence.LoadSaveContext | None = None,
        loader: loaders.ObjectLoader | None = None,
    ) -> None:
        """
        :param loop: the loop for the processes; the one that runs the launcher by default
        :param persister: holds the checkpoints; tasks that need it are rejected without one
        :param load_context: what continued processes are loaded with
        :param loader: turns identifiers into classes; the one of ``load_context`` or the default
            loader otherwise
        """
        self._loop = loop
        self._persister = persister
        self._load_context = (
            load_context if load_context is not None else persistence.LoadSaveContext()
        )
        if loader is not None:
            self._loader = loader
            self._load_context = self._load_context.copyextend(loader=loader)
        else:
            self._loader = self._load_context.loader or loaders.get_object_loader()
        # asyncio itself keeps only weak references to tasks.
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(
        self, communicator: kiwipy.Communicator, task: dict[str, Any]
    ) -> PID_TYPE | ProcessResult:
        """Work on one task and return the pid or the outputs of its process.

        :raises kiwipy.TaskRejected: if the task is none for a launcher, or needs a persister and
            there is none
        :raises ValueError: if the task is malformed or names no process class
        """
        if not isinstance(task, Mapping) or not isinstance(task.get(TASK_KEY), str):
            raise communications.TaskRejected(f"this is not a task for processes: {_brief(task)}")
        kind = task[TASK_KEY]
        work = {
            LAUNCH_TASK: self._launch,
            CONTINUE_TASK: self._continue,
            CREATE_TASK: self._create,
        }.get(kind)
        if work is None:
            raise communications.TaskRejected(f"unknown task {_brief(kind)}")
        return await work(communicator, **_arguments(work, task.get(TASK_ARGS, {})))

    def allows(self, identifier: str) -> bool:
        """Tell whether tasks may start processes of a class; asked before it is imported.

        Allows every class; a subclass may know better.

        :param identifier: names the class, ``module:name`` for the default loader
        """
        return True

    async def _launch(
        self,
        communicator: kiwipy.Communicator,
        process_class: str,
        persist: bool = False,
        nowait: bool = False,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> PID_TYPE | ProcessResult:
        self._check_persister(persist)
        process = self._new(communicator, process_class, init_args, init_kwargs)
        if persist:
            await self._save(process)
        return await self._run(process, nowait)

    async def _continue(
        self,
        communicator: kiwipy.Communicator,
        pid: PID_TYPE,
        nowait: bool = False,
        tag: str | None = None,
    ) -> PID_TYPE | ProcessResult:
        if self._persister is None:
            LOGGER.warning("rejecting the task to continue process %s: no persister", pid)
            raise communications.TaskRejected("cannot continue a process without a persister")
        bundle = self._persister.load_checkpoint(pid, tag)
        context = self._load_context
        if "loop" not in context and self._loop is not None:
            context = context.copyextend(loop=self._loop)
        if "communicator" not in context and isinstance(communicator, kiwipy.Communicator):
            context = context.copyextend(communicator=communicator)
        return await self._run(bundle.unbundle(context), nowait)

    async def _create(
        self,
        communicator: kiwipy.Communicator,
        process_class: str,
        persist: bool = False,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> PID_TYPE:
        self._check_persister(persist)
        process = self._new(communicator, process_class, init_args, init_kwargs)
        if persist:
            await self._save(process)
        return cast(PID_TYPE, process.pid)

    def _check_persister(self, persist: bool) -> None:
        if persist and self._persister is None:
            raise communications.TaskRejected("cannot save a process without a persister")

    async def _save(self, process: Any) -> None:
        assert self._persister is not None
        self._persister.save_checkpoint(process)

    def _new(
        self,
        communicator: kiwipy.Communicator,
        identifier: str,
        init_args: Sequence[Any] | None,
        init_kwargs: Mapping[str, Any] | None,
    ) -> Any:
        process_class = self._find(identifier)
        args = () if init_args is None else init_args
        kwargs = {} if init_kwargs is None else dict(init_kwargs)
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise ValueError(f"{ARGS_KEY} must be a list, not {_brief(args)}")
        if not all(isinstance(key, str) for key in kwargs):
            raise ValueError(f"{KWARGS_KEY} must have names as keys: {_brief(kwargs)}")
        try:
            # The class has a metaclass that hides the parameters of its constructor.
            constructor = inspect.signature(process_class.__init__)
            given = constructor.bind_partial(None, *args, **kwargs).arguments
        except (TypeError, ValueError) as exc:
            raise ValueError(f"{identifier} cannot be made with these arguments: {exc}") from exc
        if "loop" in constructor.parameters and "loop" not in given and self._loop is not None:
            kwargs["loop"] = self._loop
        if (
            "communicator" in constructor.parameters
            and "communicator" not in given
            and isinstance(communicator, kiwipy.Communicator)
        ):
            kwargs["communicator"] = communicator
        return process_class(*args, **kwargs)

    def _find(self, identifier: Any) -> type[Any]:
        from plumpy.processes import Process

        if not isinstance(identifier, str):
            raise ValueError(f"{PROCESS_CLASS_KEY} must be a string, not {_brief(identifier)}")
        if not self.allows(identifier):
            raise ValueError(f"{_brief(identifier)} is not among the classes allowed here")
        process_class = self._loader.load_object(identifier)
        if not (isinstance(process_class, type) and issubclass(process_class, Process)):
            raise ValueError(f"{_brief(identifier)} is not a class of processes")
        return process_class

    async def _run(self, process: Any, nowait: bool) -> PID_TYPE | ProcessResult:
        stepping = asyncio.ensure_future(process.step_until_terminated())
        self._running.add(stepping)
        stepping.add_done_callback(self._running.discard)
        if not nowait:
            await stepping
            return process.future().result()
        stepping.add_done_callback(_report)
        settling = _crossing.settled(str(process.pid))
        if settling is not None:
            # Whoever gets the pid may want to call the process with it.
            await asyncio.wait([asyncio.wrap_future(settling)], timeout=SETTLING_TIME)
        return cast(PID_TYPE, process.pid)


def _report(stepping: asyncio.Task[Any]) -> None:
    if not stepping.cancelled() and stepping.exception() is not None:
        LOGGER.error("a process stopped stepping", exc_info=stepping.exception())


def _arguments(work: Callable[..., Any], arguments: Any) -> dict[str, Any]:
    """Check the arguments of a task against the parameters of the method that works on it."""
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of a task must be a mapping, not {_brief(arguments)}")
    try:
        inspect.signature(work).bind(None, **arguments)
    except TypeError as exc:
        raise ValueError(f"the task has the wrong arguments: {exc}") from None
    return dict(arguments)


def _brief(value: Any) -> str:
    """Show a value of a message, without letting its size or its own code into a log."""
    if isinstance(value, str | bytes):
        return repr(value[:80])
    if value is None or isinstance(value, bool | float):
        return repr(value)
    return f"a {type(value).__name__}"
