"""The process."""

from __future__ import annotations

import abc
import asyncio
import functools
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import kiwipy

from .. import (
    _crossing,
    events,
    exceptions,
    persistence,
    process_states,
    utils,
)
from ..base.state_machine import StateMachine, StateMachineMeta
from ..base.utils import direct, run_hook, unchecked
from ..event_helper import EventHelper
from ..futures import CancellableAction
from ..persistence._context import ProcessContext
from ..persistence._savable import loader_of
from ..process_comms import MessageType
from ..process_listener import ProcessListener
from ..process_spec import ProcessSpec
from ..process_states import ProcessState
from ..utils import PID_TYPE, SAVED_STATE_TYPE, protected
from . import (
    _control,
    _execution,
    _hooks,
    _members,
    _messages,
    _outcome,
    _requests,
    _saving,
    _transitions,
)
from . import _stepping as stepping
from ._outputs import emit
from ._scope import PROCESS_STACK
from ._watching import Watcher

T = TypeVar("T")

_LOGGER = logging.getLogger("plumpy.processes")

_CREATED = ProcessState.CREATED
_RUNNING = ProcessState.RUNNING
_WAITING = ProcessState.WAITING
_FINISHED = ProcessState.FINISHED
_EXCEPTED = ProcessState.EXCEPTED
_KILLED = ProcessState.KILLED


class ProcessStateMachineMeta(abc.ABCMeta, StateMachineMeta):
    """Makes processes: construct, enter CREATED, ``init``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # Not super().__call__: the listeners hear of a process once it is complete.
        process: Process = type.__call__(cls, *args, **kwargs)
        try:
            process.transition_to(process.create_initial_state())
            if type(process).init is not _hooks.init or process._communicator is not None:
                run_hook(process, "init")
        except BaseException:
            # What the caller never gets must not stay subscribed.
            process._abandon()
            raise
        if process._lazy_event_helper is not None:
            process._fire_event(ProcessListener.on_process_created)
        return process


def ensure_not_closed(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for methods of a process that raise ClosedError once it is closed."""

    @functools.wraps(func)
    def func_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise exceptions.ClosedError("Process is closed")
        return func(self, *args, **kwargs)

    return func_wrapper


@persistence.auto_persist(
    "_pid",
    "_creation_time",
    "_future",
    "_paused",
    "_status",
    "_pre_paused_status",
    "_event_helper",
)
class Process(StateMachine, persistence.Savable, metaclass=ProcessStateMachineMeta):
    """A unit of work that can be paused, killed, saved and continued.

    Subclasses declare inputs and outputs in :meth:`define` and do their work in :meth:`run`, which
    may be ``async def`` or plain. All work happens on one event loop.

    Another thread may call :meth:`kill`, :meth:`pause`, :meth:`play`, :meth:`resume`, :meth:`fail`
    and :meth:`call_soon` while the loop runs: the request is carried out on the loop, and where an
    answer is due the caller gets a :class:`~plumpy.futures.CancellableAction` for it at once.
    Everything else belongs to the thread of the loop.

    :param inputs: the inputs, checked against the spec
    :param pid: identifies the process; a new UUID by default
    :param logger: where the process logs
    :param loop: the event loop to run on, see :func:`plumpy.get_or_create_event_loop`
    :param communicator: makes the process reachable for others
    :raises ValueError: if the inputs do not fit the spec
    """

    _usual_attributes = (
        "_loop",
        "_raw_inputs",
        "_transitioning",
        "_creation_time",
        "_lazy_inputs",
        "_state",
        "_stepping_task",
        "_executed",
        "_stepping",
        "_own_transition",
        "_lazy_outputs",
        "_closed",
    )
    # What most instances never need is set on the instance only when it is.
    _spec_class = ProcessSpec
    _communicator: kiwipy.Communicator | None = None
    _logger: logging.Logger | None = None
    _link: _crossing.Link | None = None
    _lazy_pid: Any = None
    _lazy_uuid: UUID | None = None
    _creation_time: float | None = None
    _raw_inputs: utils.AttributesFrozendict | None = None
    _lazy_inputs: utils.AttributesFrozendict | None = None
    _lazy_outputs: dict[str, Any] | None = None
    _lazy_future: persistence.SavableFuture | None = None
    _lazy_event_helper: EventHelper | None = None
    _status: str | None = None
    _pre_paused_status: str | None = None
    _paused: persistence.SavableFuture | None = None
    #: What the stepping task waits for during a pause.
    _pause_waiter: asyncio.Future[None] | None = None
    _pausing: CancellableAction | None = None
    _killing: CancellableAction | None = None
    _interrupt_action: CancellableAction | None = None
    _stepping = False
    #: The task that steps the process, during a step.
    # not `_stepper`: work chains, those of AiiDA too, keep theirs under that name
    _stepping_task: asyncio.Task[Any] | None = None
    #: What is being stepped is to take one step only.
    _one_step = False
    #: The state that the step under way executes.
    _executed: process_states.State | None = None
    #: The step is entering the state that its execution led to.
    _own_transition = False
    #: The stepping task was cancelled because the process has ended without it.
    _step_cancelled = False
    _closed = False
    _bare = _hooks.Bare(None, 0, False, False)
    _cleanups: list[Callable[[], None]] | None = None
    #: To be called when the outcome is known.
    _watchers: list[Watcher] | None = None
    __called = False

    _uuid = _members.uuid_member
    _pid = _members.pid_member
    _parsed_inputs = _members.parsed_inputs
    _outputs = _members.outputs
    _event_helper = _members.event_helper
    _future = _members.future
    _lazy_members = {  # noqa: RUF012
        "_event_helper": _members.event_helper,
        "_future": _members.future,
    }

    @classmethod
    def current(cls) -> Process | None:
        """Return the process that the calling code belongs to, or None."""
        return PROCESS_STACK.get().top

    @classmethod
    def get_states(cls) -> Sequence[type[process_states.State]]:
        """Return the classes of the states, CREATED first."""
        classes = cls.get_state_classes()
        return (
            classes[_CREATED],
            *(state for label, state in classes.items() if label is not _CREATED),
        )

    @classmethod
    def get_state_classes(cls) -> dict[Hashable, type[process_states.State]]:
        """Return the classes of the states by label. Override to replace some."""
        return {
            _CREATED: process_states.Created,
            _RUNNING: process_states.Running,
            _WAITING: process_states.Waiting,
            _FINISHED: process_states.Finished,
            _EXCEPTED: process_states.Excepted,
            _KILLED: process_states.Killed,
        }

    @classmethod
    def spec(cls) -> ProcessSpec:
        """Return the specification of the process: its inputs and outputs."""
        spec = cls.__dict__.get("_spec")
        if spec is not None:
            return spec  # type: ignore[no-any-return]
        try:
            cls._spec = cls._spec_class()  # type: ignore[attr-defined]
            cls.__called = False
            cls.define(cls._spec)  # type: ignore[attr-defined]
            assert cls.__called, (
                f"Process.define() was not called by {cls}\n"
                "Hint: Did you forget to call the superclass method in your define? "
                "Try: super().define(spec)"
            )
        except Exception:
            del cls._spec  # type: ignore[attr-defined]
            raise
        finally:
            cls.__called = False
        return cls._spec  # type: ignore[attr-defined,no-any-return]

    @classmethod
    def define(cls, _spec: ProcessSpec) -> None:
        """Declare inputs and outputs. Overriding methods call ``super().define(spec)``."""
        cls.__called = True

    @classmethod
    def get_name(cls) -> str:
        """Return the name of the class."""
        return cls.__name__

    @classmethod
    def get_description(cls) -> dict[str, Any]:
        """Return a description of the class: its docstring, if any, and its spec."""
        description: dict[str, Any] = {}
        if cls.__doc__:
            description["description"] = cls.__doc__.strip()
        spec_description = cls.spec().get_description()
        if spec_description:
            description["spec"] = spec_description
        return description

    @classmethod
    def recreate_from(
        cls,
        saved_state: SAVED_STATE_TYPE,
        load_context: persistence.LoadSaveContext | None = None,
    ) -> Process:
        """Make the process anew from what was saved of it.

        :param load_context: may have ``loop``, ``communicator`` and ``logger``
        """
        process: Process = super().recreate_from(saved_state, load_context)  # type: ignore[assignment]
        try:
            run_hook(process, "init")
        except BaseException:
            process._abandon()
            raise
        return process

    def __init__(
        self,
        inputs: dict | None = None,  # type: ignore[type-arg]
        pid: PID_TYPE | None = None,
        logger: logging.Logger | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        communicator: kiwipy.Communicator | None = None,
    ) -> None:
        super().__init__()
        spec = self.spec()
        if not spec.sealed:
            spec.seal()
        self._loop = loop if loop is not None else events.get_or_create_event_loop()
        if inputs is not None:
            self._raw_inputs = utils.AttributesFrozendict(inputs)
        if pid is not None:
            self._lazy_pid = pid
        if logger is not None:
            self._logger = logger
        if communicator is not None:
            self._communicator = communicator

    def _attach(self) -> None:
        if self._link is None:
            self._link = _crossing.attach(self)

    def _abandon(self) -> None:
        """Give up a process whose construction failed."""
        link, self._link = self._link, None
        if link is not None:
            link.detach()

    def __str__(self) -> str:
        return f"<{self.__class__.__name__}> ({self.state})"

    # --- what the process is

    @property
    def creation_time(self) -> float | None:
        """When the process was created, in seconds since the epoch."""
        return self._creation_time

    @property
    def pid(self) -> PID_TYPE | None:
        """The identifier of the process; by default its UUID."""
        return cast("PID_TYPE | None", self._pid)

    @property
    def uuid(self) -> UUID | None:
        """The UUID of the process."""
        return cast("UUID | None", self._uuid)

    @property
    def raw_inputs(self) -> utils.AttributesFrozendict | None:
        """The inputs as they were given."""
        return self._raw_inputs

    @property
    def inputs(self) -> utils.AttributesFrozendict | None:
        """The inputs with defaults filled in; None before they were parsed."""
        return cast("utils.AttributesFrozendict | None", self._parsed_inputs)

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs that have been emitted so far."""
        return cast("dict[str, Any]", self._outputs)

    @property
    def logger(self) -> logging.Logger:
        """Where the process logs."""
        return self._logger if self._logger is not None else _LOGGER

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the process runs on."""
        return self._loop

    @property
    def status(self) -> str | None:
        """What the process says about itself."""
        return self._status

    def set_status(self, status: str | None) -> None:
        """Set the status text."""
        self._status = status

    @property
    def paused(self) -> bool:
        """Whether the process is paused."""
        return self._paused is not None

    def future(self) -> persistence.SavableFuture:
        """Return the future for the outputs. Cancelling it kills the process."""
        return cast(persistence.SavableFuture, self._future)

    # --- how it ended, if it has

    has_terminated = _outcome.has_terminated
    result = _outcome.result
    successful = _outcome.successful
    is_successful = _outcome.is_successful
    killed = _outcome.killed
    killed_msg = _outcome.killed_msg
    exception = _outcome.exception
    is_excepted = _outcome.is_excepted
    done = _outcome.done

    def get_status_info(self, out_status_info: dict) -> None:  # type: ignore[type-arg]
        """Put what a status request is answered with into a dictionary."""
        out_status_info.update(
            {
                "ctime": self.creation_time,
                "paused": self.paused,
                "process_string": str(self),
                "state": str(self.state),
            }
        )

    # --- listeners and logging

    def add_process_listener(self, listener: ProcessListener) -> None:
        """Add a listener."""
        self._event_helper.add_listener(listener)

    def remove_process_listener(self, listener: ProcessListener) -> None:
        """Remove a listener."""
        if self._lazy_event_helper is not None:
            self._lazy_event_helper.remove_listener(listener)

    def _fire_event(self, evt: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        helper = self._lazy_event_helper
        if helper is not None and helper.listeners:
            helper.fire_event(evt, self, *args, **kwargs)

    @protected
    def set_logger(self, logger: logging.Logger) -> None:
        """Set where the process logs."""
        self._logger = logger

    @protected
    def log_with_pid(self, level: int, msg: str) -> None:
        """Log a message that starts with the pid."""
        self.logger.log(level, "%s: %s", self.pid, msg)

    # --- saving and loading

    @direct(_saving.save_all)
    def save_instance_state(
        self,
        out_state: SAVED_STATE_TYPE,
        save_context: persistence.LoadSaveContext | None,
    ) -> None:
        super().save_instance_state(out_state, save_context)
        _saving.save(self, out_state, save_context)

    @direct(_saving.load_all)
    @protected
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        """Set the process up from a saved state."""
        load_context = _saving.prepare(self, load_context)
        super().load_instance_state(saved_state, load_context)
        _saving.load(self, saved_state)

    def recreate_state(self, saved_state: persistence.Bundle) -> process_states.State:
        """Make a state of this process from what was saved of it."""
        load_context = ProcessContext(loader_of(saved_state), self)
        return persistence.Savable.load(saved_state, load_context)  # type: ignore[return-value]

    @protected
    def encode_input_args(self, inputs: Any) -> Any:
        """Turn inputs or outputs into what is saved of them."""
        return persistence.copied(inputs, "outputs" if inputs is self._lazy_outputs else "inputs")

    @protected
    def decode_input_args(self, encoded: Any) -> Any:
        """Undo :meth:`encode_input_args`."""
        return persistence.copied(encoded, "inputs")

    # --- the ways through the states

    create_initial_state = _transitions.create_initial_state
    transition_failed = _transitions.transition_failed
    _change_state = _transitions.change_state

    def remove_state_event_callback(self, hook: Hashable, callback: Any) -> None:
        """Undo ``add_state_event_callback``; on a closed process there is nothing to undo."""
        if not self._closed:
            super().remove_state_event_callback(hook, callback)

    # --- hooks

    init = _hooks.init
    on_entering = _hooks.on_entering
    on_create = _hooks.on_create
    on_run = _hooks.on_run
    on_wait = _hooks.on_wait
    on_finish = _hooks.on_finish
    on_except = _hooks.on_except
    on_kill = _hooks.on_kill
    on_entered = _hooks.on_entered
    on_running = _hooks.on_running
    on_waiting = _hooks.on_waiting
    on_finished = _hooks.on_finished
    on_excepted = _hooks.on_excepted
    on_killed = _hooks.on_killed
    on_exiting = _hooks.on_exiting
    on_exit_running = _hooks.on_exit_running
    on_exit_waiting = _hooks.on_exit_waiting
    on_pausing = _hooks.on_pausing
    on_paused = _hooks.on_paused
    on_playing = _hooks.on_playing
    on_output_emitting = _hooks.on_output_emitting
    on_output_emitted = _hooks.on_output_emitted
    on_close = _hooks.on_close

    def on_terminated(self) -> None:
        """Hook: the process has ended. Closes it."""
        super().on_terminated()
        _hooks.terminate(self)

    def close(self) -> None:
        """Let go of what the process holds; it has ended. May be called again."""
        if not self._closed:
            run_hook(self, "on_close")

    @protected
    @ensure_not_closed
    def add_cleanup(self, cleanup: Callable[[], None]) -> None:
        """Have a function called when the process is closed."""
        if self._cleanups is None:
            self._cleanups = []
        self._cleanups.append(cleanup)

    # --- outputs

    @ensure_not_closed
    @protected
    def out(self, output_port: str, value: Any) -> None:
        """Emit an output.

        :param output_port: where; ``a.b`` is the port ``b`` of the namespace ``a``
        :raises ValueError: if the port does not take the value, or there is none
        """
        emit(self, output_port, value)

    # --- control

    kill = _requests.kill
    is_killing = _requests.is_killing
    pause = _requests.pause
    play = _requests.play
    resume = _requests.resume
    fail = _requests.fail
    call_soon = _requests.call_soon
    callback_excepted = _requests.callback_excepted

    def _create_interrupt_action(self, exception: process_states.Interruption) -> CancellableAction:
        return _control.interrupt_action(self, exception)

    def _set_interrupt_action_from_exception(
        self, interrupt_exception: process_states.Interruption
    ) -> None:
        _control.adopt_interruption(self, interrupt_exception)

    def _do_pause(
        self,
        state_msg: MessageType | None,
        next_state: process_states.State | None = None,
    ) -> bool:
        return _control.do_pause(self, state_msg, next_state)

    # --- running

    async def run(self) -> Any:
        """The first step of the process; override it, with ``async def`` or ``def``."""

    launch = ensure_not_closed(_execution.launch)
    execute = ensure_not_closed(_execution.execute)
    step = stepping.step
    step_until_terminated = stepping.step_until_terminated
    _run_task = _execution.run_task
    _process_scope = _execution.process_scope

    # --- messages

    message_receive = _messages.receive
    broadcast_receive = _messages.receive_broadcast
    _schedule_rpc = _messages.schedule


unchecked[Process.on_terminated] = _hooks.terminate
