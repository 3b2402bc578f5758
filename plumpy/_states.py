"""The states of a process. Their public home is :mod:`plumpy.process_states`."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import traceback
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Awaitable, Optional, Tuple, Type, Union, cast  # noqa: UP035

from . import exceptions, persistence
from ._public import publish
from .base import state_machine
from .base.utils import extends
from .lang import NULL
from .persistence import auto_persist, decode_exception, encode_exception
from .process_comms import MessageType
from .utils import SAVED_STATE_TYPE

if TYPE_CHECKING:
    from .processes import Process

try:
    import tblib

    _HAS_TBLIB = True
except ImportError:
    _HAS_TBLIB = False


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


class Command(persistence.Savable):
    """What a step returns to say how the process goes on."""

    def _next_state(self, state: Running) -> State:
        """Make the state that follows the one in which the command was given."""
        raise ValueError("Unrecognised command")


@auto_persist("in_state")
class State(state_machine.State, persistence.Savable):
    """A state of a process."""

    __slots__ = ()

    @property
    def process(self) -> state_machine.StateMachine:
        """The process that the state belongs to."""
        return self.state_machine

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
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
        self.state_machine = process
        self.in_state = False
        self.run_fn = run_fn
        self.args = args
        self.kwargs = kwargs

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        out_state[self.RUN_FN] = self.run_fn.__name__

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.run_fn = method_of(load_context, saved_state[self.RUN_FN])

    def execute(self) -> state_machine.State:
        """Start: the next state is RUNNING."""
        return running(self.state_machine, self.run_fn, self.args, self.kwargs)


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
        self.state_machine = process
        self.in_state = False
        self.run_fn = run_fn
        self.args = args
        self.kwargs = kwargs
        self._command: Command | None = None

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        out_state[self.RUN_FN] = self.run_fn.__name__
        if self._command is not None:
            out_state[self.COMMAND] = self._command.save()

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.run_fn = method_of(load_context, saved_state[self.RUN_FN])
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
            return self._command._next_state(self)
        process = cast("Process", self.state_machine)
        return self.next_state(await process._run_task(self.run_fn, *self.args, **self.kwargs))

    def next_state(self, result: Any) -> State:
        """Return the state that the result of the method leads to."""
        successful = True
        if result is not None:
            if isinstance(result, Command):
                self._command = result
                return result._next_state(self)
            if isinstance(result, exceptions.UnsuccessfulResult):
                result = result.result
                successful = False
        return self.state_machine.create_state(  # type: ignore[return-value]
            ProcessState.FINISHED, result, successful
        )


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
        self.state_machine = process
        self.in_state = False
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

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        if self.done_callback is not None:
            out_state[self.DONE_CALLBACK] = self.done_callback.__name__

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        name = saved_state.get(self.DONE_CALLBACK)
        self.done_callback = None if name is None else method_of(load_context, name)
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


def _get_machine(state: Any) -> Any:
    return state._machine()


def _set_machine(state: Any, machine: Any) -> None:
    state._machine = weakref.ref(machine)


#: The machine of a state in which it ends. The state refers weakly to it: a process that has ended
#: and is in use no more goes at once, and does not wait for the garbage collector.
_machine_that_has_ended: Any = property(_get_machine, _set_machine)


class Excepted(State):
    """The process has ended by an exception.

    :param exception: the exception
    :param trace_back: where it came from
    """

    __slots__ = ("_machine", "exception", "traceback")

    state_machine = _machine_that_has_ended
    LABEL = ProcessState.EXCEPTED
    EXC_VALUE = "ex_value"
    TRACEBACK = "traceback"

    def __init__(
        self,
        process: Process,
        exception: Optional[BaseException],  # noqa: UP045
        trace_back: Optional[TracebackType] = None,  # noqa: UP045
    ):
        self.state_machine = process
        self.in_state = False
        self.exception = exception
        self.traceback = trace_back

    def __str__(self) -> str:
        exception = traceback.format_exception_only(
            type(self.exception) if self.exception else None, self.exception
        )[0]
        return f"{super().__str__()}({exception})"

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        if self.exception is not None:
            out_state[self.EXC_VALUE] = encode_exception(self.exception)
        if self.traceback is not None:
            out_state[self.TRACEBACK] = "".join(traceback.format_tb(self.traceback))

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
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

    __slots__ = ("_machine", "result", "successful")

    state_machine = _machine_that_has_ended
    LABEL = ProcessState.FINISHED

    def __init__(self, process: Process, result: Any, successful: bool) -> None:
        self.state_machine = process
        self.in_state = False
        self.result = result
        self.successful = successful


@auto_persist("msg")
class Killed(State):
    """The process was killed.

    :param msg: the message that the kill came with
    """

    __slots__ = ("_machine", "msg")

    state_machine = _machine_that_has_ended
    LABEL = ProcessState.KILLED

    def __init__(self, process: Process, msg: Optional[MessageType]):  # noqa: UP045
        self.state_machine = process
        self.in_state = False
        self.msg = msg


def running(
    machine: state_machine.StateMachine,
    run_fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> State:
    """Make the state in which a process runs a method, by any arguments."""
    state: Any = machine.create_state(ProcessState.RUNNING, run_fn, *args)
    if kwargs:
        # Not through the constructor, whose own parameters have names too.
        state.kwargs = kwargs
    return state  # type: ignore[no-any-return]


def method_of(load_context: persistence.LoadSaveContext, name: str) -> Callable[..., Any]:
    """Return the method of the process that is being loaded which a saved name stands for.

    A name from a checkpoint must not lead anywhere else.
    """
    process = load_context.process
    method = getattr(process, name, None) if isinstance(name, str) else None
    if not callable(method) or not hasattr(type(process), name):
        raise ValueError(f"{type(process).__name__} has no method {name!r} to go on with")
    return cast("Callable[..., Any]", method)


publish(
    "plumpy.process_states",
    Command,
    Created,
    Excepted,
    Finished,
    Killed,
    ProcessState,
    Running,
    State,
    Waiting,
)
