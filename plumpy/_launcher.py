"""Working on tasks: launching, creating and continuing processes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import kiwipy

from plumpy import _crossing, loaders, persistence
from plumpy._messages import (
    ARGS_KEY,
    CONTINUE_TASK,
    CREATE_TASK,
    KWARGS_KEY,
    LAUNCH_TASK,
    PID_TYPE,
    PROCESS_CLASS_KEY,
    TASK_ARGS,
    TASK_KEY,
    ProcessResult,
)

LOGGER = logging.getLogger("plumpy.process_comms")

#: Seconds that the answer to a task waits until its process can be called.
SETTLING_TIME = 5.0
#: Arguments of processes that no message can have.
_OF_THIS_PROGRAM: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "loop": asyncio.AbstractEventLoop,
    "communicator": kiwipy.Communicator,
    "logger": (logging.Logger, logging.LoggerAdapter),
}


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
        #: The pids of the processes that those tasks step.
        self._pids: set[PID_TYPE] = set()

    async def __call__(
        self, communicator: kiwipy.Communicator, task: dict[str, Any]
    ) -> PID_TYPE | ProcessResult:
        """Work on one task and return the pid or the outputs of its process.

        :raises kiwipy.TaskRejected: if the task is none for a launcher, or needs a persister and
            there is none
        :raises kiwipy.DuplicateSubscriberIdentifier: if the process to be continued is running here
        :raises ValueError: if the task is malformed or names no process class
        """
        if not isinstance(task, Mapping) or not isinstance(task.get(TASK_KEY), str):
            raise kiwipy.TaskRejected(f"this is not a task for processes: {brief(task)}")
        kind = task[TASK_KEY]
        methods: dict[str, Callable[..., Awaitable[Any]]] = {
            LAUNCH_TASK: self._launch,
            CONTINUE_TASK: self._continue,
            CREATE_TASK: self._create,
        }
        work = methods.get(kind)
        if work is None:
            raise kiwipy.TaskRejected(f"unknown task {brief(kind)}")
        arguments = check_arguments(work, task.get(TASK_ARGS, {}))
        await _crossing.turn()
        return await work(communicator, **arguments)

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
        process = self.make(communicator, process_class, init_args, init_kwargs)
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
            raise kiwipy.TaskRejected("cannot continue a process without a persister")
        bundle = self._persister.load_checkpoint(pid, tag)
        if pid in self._pids:
            # What a process that cannot be reached twice raises, too: the task came a second time.
            raise kiwipy.DuplicateSubscriberIdentifier(f"process {pid} is running here already")
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
        # Nobody is to reach this object: whoever continues the process makes another of it.
        self._check_persister(persist)
        process = self.make(None, process_class, init_args, init_kwargs)
        if persist:
            await self._save(process)
        return cast(PID_TYPE, process.pid)

    def _check_persister(self, persist: bool) -> None:
        if persist and self._persister is None:
            raise kiwipy.TaskRejected("cannot save a process without a persister")

    async def _save(self, process: Any) -> None:
        assert self._persister is not None
        self._persister.save_checkpoint(process)

    def make(
        self,
        communicator: kiwipy.Communicator | None,
        identifier: str,
        init_args: Sequence[Any] | None,
        init_kwargs: Mapping[str, Any] | None,
    ) -> Any:
        """Make a process as a task describes it.

        :param communicator: for the process, unless the arguments have one
        :param identifier: names the class
        :raises ValueError: if something about the description is wrong
        """
        process_class = self._find(identifier)
        args = () if init_args is None else init_args
        if init_kwargs is not None and not isinstance(init_kwargs, Mapping):
            raise ValueError(f"{KWARGS_KEY} must be a mapping, not {brief(init_kwargs)}")
        kwargs = dict(init_kwargs or {})
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise ValueError(f"{ARGS_KEY} must be a list, not {brief(args)}")
        if not all(isinstance(key, str) for key in kwargs):
            raise ValueError(f"{KWARGS_KEY} must have names as keys: {brief(kwargs)}")
        try:
            # The class has a metaclass that hides the parameters of its constructor.
            constructor = _signature(process_class.__init__)
            given = constructor.bind_partial(None, *args, **kwargs).arguments
        except (TypeError, ValueError) as exc:
            raise ValueError(f"{identifier} cannot be made with these arguments: {exc}") from exc
        for name, kind in _OF_THIS_PROGRAM.items():
            if given.get(name) is not None and not isinstance(given[name], kind):
                raise ValueError(f"{name} cannot come with a task: {brief(given[name])}")
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
            raise ValueError(f"{PROCESS_CLASS_KEY} must be a string, not {brief(identifier)}")
        if not self.allows(identifier):
            raise ValueError(f"{brief(identifier)} is not among the classes allowed here")
        process_class = self._loader.load_object(identifier)
        if not (isinstance(process_class, type) and issubclass(process_class, Process)):
            raise ValueError(f"{brief(identifier)} is not a class of processes")
        return process_class

    async def _run(self, process: Any, nowait: bool) -> PID_TYPE | ProcessResult:
        stepping = asyncio.ensure_future(process.step_until_terminated())
        self._running.add(stepping)
        self._pids.add(process.pid)
        stepping.add_done_callback(functools.partial(self._forget, process.pid))
        if not nowait:
            await stepping
            return process.future().result()
        stepping.add_done_callback(_report)
        settling = _crossing.settled(str(process.pid))
        if settling is not None:
            # Whoever gets the pid may want to call the process with it.
            await asyncio.wait([asyncio.wrap_future(settling)], timeout=SETTLING_TIME)
        return cast(PID_TYPE, process.pid)

    def _forget(self, pid: PID_TYPE, stepping: asyncio.Task[Any]) -> None:
        self._running.discard(stepping)
        self._pids.discard(pid)


def _report(stepping: asyncio.Task[Any]) -> None:
    if not stepping.cancelled() and stepping.exception() is not None:
        LOGGER.error("a process stopped stepping", exc_info=stepping.exception())


@functools.lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def check_arguments(work: Callable[..., Any], arguments: Any) -> dict[str, Any]:
    """Check the arguments of a task against the parameters of the method that works on it."""
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of a task must be a mapping, not {brief(arguments)}")
    try:
        # What comes first: the object, and the communicator or message.
        _signature(getattr(work, "__func__", work)).bind(None, None, **arguments)
    except TypeError as exc:
        raise ValueError(f"the task has the wrong arguments: {exc}") from None
    return dict(arguments)


def brief(value: Any) -> str:
    """Show a value of a message, without letting its size or its own code into a log."""
    if isinstance(value, str | bytes):
        return repr(value[:80])
    if value is None or isinstance(value, bool | float):
        return repr(value)
    return f"a {type(value).__name__}"
