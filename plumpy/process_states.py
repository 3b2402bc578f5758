"""The states of a process, and the commands by which its steps choose the next one."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Awaitable, Optional, Tuple, Type, Union, cast  # noqa: UP035

from yaml.loader import Loader  # noqa: F401 - importable from here

from . import exceptions, futures, persistence, utils  # noqa: F401 - likewise
from .base import state_machine
from .base.utils import direct
from .lang import NULL
from .persistence import auto_persist, decode_exception, encode_exception
from .persistence._savable import load_own_members, save_own_members
from .process_comms import MessageBuilder, MessageType
from .utils import SAVED_STATE_TYPE, ensure_coroutine  # noqa: F401 - likewise

if TYPE_CHECKING:
    from .processes import Process

try:
    import tblib

    _HAS_TBLIB = True
except ImportError:
    _HAS_TBLIB = False

__all__ = [
    "Continue",
    "Created",
    "Excepted",
    "Finished",
    "Interruption",
    "Kill",
    "KillInterruption",
    "Killed",
    "PauseInterruption",
    "ProcessState",
    "Running",
    "Stop",
    "Wait",
    "Waiting",
]


class Interruption(Exception):
    """Takes a process out of what it is doing."""


class KillInterruption(Interruption):
    """Kills the process.

    :param msg_text: why, in words
    :param force_kill: whether to end it at once
    """

    def __init__(self, msg_text: str | None, force_kill: bool = False):
        super().__init__(msg_text)
        self.force_kill = force_kill
        self.msg: MessageType = MessageBuilder.kill(text=msg_text, force_kill=force_kill)


class PauseInterruption(Interruption):
    """Pauses the process.

    :param msg_text: why, in words
    """

    def __init__(self, msg_text: str | None):
        super().__init__(msg_text)
        self.msg: MessageType = MessageBuilder.pause(text=msg_text)


class Command(persistence.Savable):
    """What a step returns to say how the process goes on."""


@auto_persist("msg")
class Kill(Command):
    """Kill the process.

    :param msg: a message made by :meth:`plumpy.MessageBuilder.kill`, or its text
    """

    def __init__(self, msg: Optional[MessageType] = None):  # noqa: UP045
        super().__init__()
        self.msg = MessageBuilder.kill(text=msg) if isinstance(msg, str) else msg


class Pause(Command):
    """Kept for its name; no step can return it."""


@auto_persist("msg", "data")
class Wait(Command):
    """Wait until the process is resumed.

    :param continue_fn: the method to go on with; called with the value of the resume, if it has one
    :param msg: says what the process waits for
    :param data: anything; handed to :meth:`plumpy.Process.on_wait`
    """

    CONTINUE_FN = "continue_fn"

    def __init__(
        self,
        continue_fn: Optional[Callable[..., Any]] = None,  # noqa: UP045
        msg: Optional[Any] = None,  # noqa: UP045
        data: Optional[Any] = None,  # noqa: UP045
    ):
        super().__init__()
        self.continue_fn = continue_fn
        self.msg = msg
        self.data = data

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        if self.continue_fn is not None:
            out_state[self.CONTINUE_FN] = self.continue_fn.__name__

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        name = saved_state.get(self.CONTINUE_FN)
        self.continue_fn = None if name is None else _method(load_context, name)


@auto_persist("result")
class Stop(Command):
    """Finish the process.

    :param result: its result
    :param successful: whether it has done what it was to do
    """

    def __init__(self, result: Any, successful: bool):
        super().__init__()
        self.result = result
        self.successful = successful

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        out_state["successful"] = self.successful

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self.successful = saved_state.get("successful", True)


@auto_persist("args", "kwargs")
class Continue(Command):
    """Go on with another method of the process.

    :param continue_fn: the method; the other arguments are for it
    """

    CONTINUE_FN = "continue_fn"

    def __init__(self, continue_fn: Callable[..., Any], *args: Any, **kwargs: Any):
        super().__init__()
        self.continue_fn = continue_fn
        self.args = args
        self.kwargs = kwargs

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        out_state[self.CONTINUE_FN] = self.continue_fn.__name__

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self.continue_fn = _method(load_context, saved_state[self.CONTINUE_FN])


def _method(load_context: persistence.LoadSaveContext, name: str) -> Callable[..., Any]:
    """Return the method of the process that is being loaded which a saved name stands for.

    A name from a checkpoint must not lead anywhere else.
    """
    process = load_context.process
    method = getattr(process, name, None) if isinstance(name, str) else None
    if not callable(method) or not hasattr(type(process), name):
        raise ValueError(f"{type(process).__name__} has no method {name!r} to go on with")
    return cast("Callable[..., Any]", method)


class ProcessState(enum.Enum):
    """The labels of the states of a process."""

    CREATED = "created"
    RUNNING = "running"
    WAITING = "waiting"
    FINISHED = "finished"
    EXCEPTED = "excepted"
    KILLED = "killed"

    # Members are compared by identity, and looked up often.
    __hash__ = object.__hash__


_ENDS = {ProcessState.FINISHED, ProcessState.KILLED, ProcessState.EXCEPTED}


def _load_state(
    state: State, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
) -> None:
    load_own_members(state, saved_state, load_context)
    state.state_machine = load_context.process


def load_with_rest(
    state: Any, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
) -> None:
    load_own_members(state, saved_state, load_context)
    state.state_machine = load_context.process
    state._load_rest(saved_state, load_context)


def save_with_rest(
    state: Any, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
) -> None:
    save_own_members(state, out_state, save_context)
    state._save_rest(out_state)


@auto_persist("in_state")
class State(state_machine.State, persistence.Savable):
    """A state of a process."""

    __slots__ = ()

    @property
    def process(self) -> state_machine.StateMachine:
        """The process that the state belongs to."""
        return self.state_machine

    @direct(_load_state)
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self.state_machine = load_context.process

    def interrupt(self, reason: Any) -> None:
        """Take the process out of this state, if it can be.

        :param reason: an :class:`Interruption`, to be raised by ``execute``
        """


@auto_persist("args", "kwargs")
class Created(State):
    """The process has been created and was not started yet.

    :param run_fn: the method to start with; the other arguments are for it
    """

    __slots__ = ("args", "kwargs", "run_fn")

    LABEL = ProcessState.CREATED
    ALLOWED = {ProcessState.RUNNING, ProcessState.KILLED, ProcessState.EXCEPTED}  # noqa: RUF012
    RUN_FN = "run_fn"

    def __init__(self, process: Process, run_fn: Callable[..., Any], *args: Any, **kwargs: Any):
        assert run_fn is not None
        super().__init__(process)
        self.run_fn = run_fn
        self.args = args
        self.kwargs = kwargs

    @direct(save_with_rest)
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        self._save_rest(out_state)

    def _save_rest(self, out_state: SAVED_STATE_TYPE) -> None:
        out_state[self.RUN_FN] = self.run_fn.__name__

    @direct(load_with_rest)
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self._load_rest(saved_state, load_context)

    def _load_rest(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.run_fn = _method(load_context, saved_state[self.RUN_FN])

    def execute(self) -> state_machine.State:
        """Start: the next state is RUNNING."""
        state: Any = self.state_machine.create_state(ProcessState.RUNNING, self.run_fn, *self.args)
        if self.kwargs:
            # Not through the constructor, whose own parameters have names too.
            state.kwargs = self.kwargs
        return state  # type: ignore[no-any-return]


@auto_persist("args", "kwargs")
class Running(State):
    """The process is running a method of its own.

    :param run_fn: the method; the other arguments are for it
    """

    __slots__ = ("_command", "args", "kwargs", "run_fn")

    LABEL = ProcessState.RUNNING
    ALLOWED = {ProcessState.RUNNING, ProcessState.WAITING, *_ENDS}  # noqa: RUF012
    RUN_FN = "run_fn"
    COMMAND = "command"

    def __init__(
        self,
        process: Process,
        run_fn: Callable[..., Union[Awaitable[Any], Any]],  # noqa: UP007
        *args: Any,
        **kwargs: Any,
    ) -> None:
        assert run_fn is not None
        super().__init__(process)
        self.run_fn = run_fn
        self.args = args
        self.kwargs = kwargs
        self._command: Command | None = None

    @direct(save_with_rest)
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        self._save_rest(out_state)

    def _save_rest(self, out_state: SAVED_STATE_TYPE) -> None:
        out_state[self.RUN_FN] = self.run_fn.__name__
        if self._command is not None:
            out_state[self.COMMAND] = self._command.save()

    @direct(load_with_rest)
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self._load_rest(saved_state, load_context)

    def _load_rest(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.run_fn = _method(load_context, saved_state[self.RUN_FN])
        self._command = None
        if self.COMMAND in saved_state:
            command = persistence.Savable.load(saved_state[self.COMMAND], load_context)
            if not isinstance(command, Command):
                raise ValueError(f"{command!r} is not a command that a process could go on with")
            self._command = command

    def interrupt(self, reason: Any) -> None:
        """Does nothing: what runs now runs to its end first."""

    async def execute(self) -> State:
        """Run the method; its result decides on the next state."""
        if self._command is not None:
            return self._action_command(self._command)
        process = cast("Process", self.state_machine)
        return self.next_state(await process._run_task(self.run_fn, *self.args, **self.kwargs))

    def next_state(self, result: Any) -> State:
        """Return the state that the result of the method leads to."""
        if isinstance(result, Command):
            self._command = result
            return self._action_command(result)
        successful = True
        if isinstance(result, exceptions.UnsuccessfulResult):
            result = result.result
            successful = False
        return self.state_machine.create_state(  # type: ignore[return-value]
            ProcessState.FINISHED, result, successful
        )

    def _action_command(self, command: Command) -> State:
        state: Any
        if isinstance(command, Continue):
            state = self.create_state(ProcessState.RUNNING, command.continue_fn, *command.args)
            if command.kwargs:
                state.kwargs = command.kwargs
        elif isinstance(command, Wait):
            state = self.create_state(
                ProcessState.WAITING, command.continue_fn, command.msg, command.data
            )
        elif isinstance(command, Stop):
            state = self.create_state(
                ProcessState.FINISHED, result=command.result, successful=command.successful
            )
        elif isinstance(command, Kill):
            state = self.create_state(ProcessState.KILLED, msg=command.msg)
        else:
            raise ValueError("Unrecognised command")
        return state  # type: ignore[no-any-return]


_UNSET = object()


@auto_persist("msg", "data")
class Waiting(State):
    """The process waits until it is resumed.

    :param done_callback: the method to go on with
    :param msg: says what the process waits for
    :param data: anything; handed to :meth:`plumpy.Process.on_wait`
    """

    __slots__ = ("_interruption", "_value", "_waiting_future", "data", "done_callback", "msg")

    LABEL = ProcessState.WAITING
    ALLOWED = {ProcessState.RUNNING, ProcessState.WAITING, *_ENDS}  # noqa: RUF012
    DONE_CALLBACK = "DONE_CALLBACK"

    def __init__(
        self,
        process: Process,
        done_callback: Optional[Callable[..., Any]],  # noqa: UP045
        msg: Optional[str] = None,  # noqa: UP045
        data: Optional[Any] = None,  # noqa: UP045
    ) -> None:
        super().__init__(process)
        self.done_callback = done_callback
        self.msg = msg
        self.data = data
        self._reset()

    def _reset(self) -> None:
        self._interruption: BaseException | None = None
        #: What the process was resumed with, until it goes on.
        self._value: Any = _UNSET
        #: Exists while the state is executed, to wake it. Cancelling the wait harms nothing else.
        self._waiting_future: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.msg})" if self.msg is not None else text

    @direct(save_with_rest)
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        self._save_rest(out_state)

    def _save_rest(self, out_state: SAVED_STATE_TYPE) -> None:
        if self.done_callback is not None:
            out_state[self.DONE_CALLBACK] = self.done_callback.__name__

    @direct(load_with_rest)
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self._load_rest(saved_state, load_context)

    def _load_rest(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        name = saved_state.get(self.DONE_CALLBACK)
        self.done_callback = None if name is None else _method(load_context, name)
        self._reset()

    def interrupt(self, reason: Any) -> None:
        """Stop waiting: ``execute`` raises the reason."""
        self._interruption = reason
        self._wake()

    async def execute(self) -> State:
        """Wait; the next state is RUNNING."""
        while (future := self.must_wait()) is not None:
            await future
        return self.end_wait()

    def must_wait(self) -> asyncio.Future[None] | None:
        """Return a future to wait for before looking again; None if the wait is over.

        Cancelling it harms nothing: it is for this one wait.
        """
        process = cast("Process", self.state_machine)
        if (
            self._value is not _UNSET
            or self._interruption is not None
            or process._state is not self  # the process has ended meanwhile
        ):
            self._waiting_future = None
            return None
        future = self._waiting_future = process._loop.create_future()
        return future

    def end_wait(self) -> State:
        """Return the next state, or raise the reason for an interruption."""
        if self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            try:
                raise interruption
            finally:
                del interruption
        if self._value is _UNSET:
            return self
        args = () if self._value is NULL else (self._value,)
        return cast(State, self.create_state(ProcessState.RUNNING, self.done_callback, *args))

    def resume(self, value: Any = NULL) -> None:
        """Go on. Only the first call counts.

        :param value: argument for the method to go on with; none by default
        """
        if self._value is _UNSET:
            self._value = value
            self._wake()

    def _wake(self) -> None:
        future = self._waiting_future
        if future is not None and not future.done():
            future.set_result(None)


class Excepted(State):
    """The process has ended by an exception.

    :param exception: the exception
    :param trace_back: where it came from
    """

    __slots__ = ("exception", "traceback")

    LABEL = ProcessState.EXCEPTED
    EXC_VALUE = "ex_value"
    TRACEBACK = "traceback"

    def __init__(
        self,
        process: Process,
        exception: Optional[BaseException],  # noqa: UP045
        trace_back: Optional[TracebackType] = None,  # noqa: UP045
    ):
        super().__init__(process)
        self.exception = exception
        self.traceback = trace_back

    def __str__(self) -> str:
        exception = traceback.format_exception_only(
            type(self.exception) if self.exception else None, self.exception
        )[0]
        return f"{super().__str__()}({exception})"

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        if self.exception is not None:
            out_state[self.EXC_VALUE] = encode_exception(self.exception)
        if self.traceback is not None:
            out_state[self.TRACEBACK] = "".join(traceback.format_tb(self.traceback))

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        text = saved_state.get(self.EXC_VALUE)
        self.exception = None if text is None else decode_exception(text)
        self.traceback = None
        if _HAS_TBLIB and self.TRACEBACK in saved_state:
            with contextlib.suppress(tblib.TracebackParseError):
                self.traceback = tblib.Traceback.from_string(
                    saved_state[self.TRACEBACK], strict=False
                ).as_traceback()

    def get_exc_info(
        self,
    ) -> Tuple[  # noqa: UP006
        Optional[Type[BaseException]],  # noqa: UP006, UP045
        Optional[BaseException],  # noqa: UP045
        Optional[TracebackType],  # noqa: UP045
    ]:
        """Return type, exception and traceback, as :func:`sys.exc_info` does."""
        return (
            type(self.exception) if self.exception is not None else None,
            self.exception,
            self.traceback,
        )


@auto_persist("result", "successful")
class Finished(State):
    """The process has finished.

    :param result: what its last step returned
    :param successful: whether it has done what it was to do
    """

    __slots__ = ("result", "successful")

    LABEL = ProcessState.FINISHED

    def __init__(self, process: Process, result: Any, successful: bool) -> None:
        super().__init__(process)
        self.result = result
        self.successful = successful


@auto_persist("msg")
class Killed(State):
    """The process was killed.

    :param msg: the message that the kill came with
    """

    __slots__ = ("msg",)

    LABEL = ProcessState.KILLED

    def __init__(self, process: Process, msg: Optional[MessageType]):  # noqa: UP045
        super().__init__(process)
        self.msg = msg
