"""The hooks of a process: what it does by itself on its way through the states.

They are the methods of :class:`plumpy.Process` of the same names. A hook that was not overridden is
not called where it would do nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import exceptions, persistence
from ..base.state_machine import StateEntryFailed
from ..base.utils import call_with_super_check, run_hook, super_check
from ..ports import PortNamespace
from ..ports._port import Epoch
from ..process_comms import MESSAGE_TEXT_KEY, MessageType
from ..process_listener import ProcessListener
from ..process_states import ProcessState
from . import _control, _watching

if TYPE_CHECKING:
    from .. import process_states
    from ._process import Process

_CREATED = ProcessState.CREATED
_RUNNING = ProcessState.RUNNING
_WAITING = ProcessState.WAITING
_FINISHED = ProcessState.FINISHED
_EXCEPTED = ProcessState.EXCEPTED
_KILLED = ProcessState.KILLED


@super_check
def init(self: Process) -> None:
    """Hook: the process has been created or loaded. Sets up what is not saved."""
    if self._communicator is not None and not self._closed:
        self._attach()


# --- entering a state


def on_entering(self: Process, state: process_states.State) -> None:
    """Hook: the process is about to enter a state; it is still in the one before."""
    label = state.LABEL
    if label is _RUNNING:
        if type(self).on_run is not on_run:
            call_with_super_check(self.on_run)
    elif label is _WAITING:
        if type(self).on_wait is not on_wait:
            call_with_super_check(self.on_wait, state.data)  # type: ignore[attr-defined]
    elif label is _FINISHED:
        run_hook(self, "on_finish", state.result, state.successful)  # type: ignore[attr-defined]
    elif label is _CREATED:
        run_hook(self, "on_create")
    elif label is _KILLED:
        run_hook(self, "on_kill", state.msg)  # type: ignore[attr-defined]
    elif label is _EXCEPTED:
        run_hook(self, "on_except", state.get_exc_info())  # type: ignore[attr-defined]


@super_check
def on_create(self: Process) -> None:
    """Hook: entering CREATED. Parses and validates the inputs."""
    self._creation_time = time.time()
    raw: Any = self._raw_inputs or {}
    if raw or not _bare_namespaces(self).inputs:
        parsed, error = self.spec().inputs._parse(raw)
        if parsed:
            self._parsed_inputs = parsed
        if error is not None:
            raise ValueError(error)


class Bare(NamedTuple):
    """Whether inputs and outputs are bare, of which class, and at which time."""

    of: type[Process] | None
    epoch: int
    inputs: bool
    outputs: bool


def _bare_namespaces(process: Process) -> Bare:
    bare = process._bare
    cls = type(process)
    if bare.of is not cls or bare.epoch != Epoch.current:
        spec = process.spec()
        bare = cls._bare = Bare(cls, Epoch.current, _is_bare(spec.inputs), _is_bare(spec.outputs))
    return bare


def _is_bare(namespace: PortNamespace) -> bool:
    """Return whether there is nothing to fill in or to check where there are no values."""
    return type(namespace) is PortNamespace and not len(namespace) and namespace.validator is None


@super_check
def on_run(self: Process) -> None:
    """Hook: entering RUNNING."""


@super_check
def on_wait(self: Process, awaitables: Any) -> None:
    """Hook: entering WAITING.

    :param awaitables: the data of the :class:`~plumpy.Wait` command
    """


@super_check
def on_finish(self: Process, result: Any, successful: bool) -> None:
    """Hook: entering FINISHED. Validates the outputs of a success.

    :param result: the result of the last step
    :param successful: whether the process has done what it was to do
    """
    if successful:
        outputs = self._lazy_outputs or {}
        if (outputs or not _bare_namespaces(self).outputs) and (
            self.spec().outputs.validate(outputs) is not None
        ):
            raise StateEntryFailed(self.create_state(_FINISHED, result=result, successful=False))
    future = self._lazy_future
    if future is not None and not future.done():
        future.set_result(self._outputs)
    if self._watchers is not None:
        _watching.tell(self, None, self._outputs)


@super_check
def on_except(self: Process, exc_info: Any) -> None:
    """Hook: entering EXCEPTED.

    :param exc_info: type, exception and traceback
    """
    future = self._lazy_future
    if future is not None and future.done():
        # It was a success until a hook failed: whoever asks from now on gets the exception.
        self._lazy_future = None
    elif future is not None or self._watchers is not None:
        error = exc_info[1] or Exception("the process excepted")
        if future is not None:
            future.set_exception(error)
        _watching.tell(self, error)


@super_check
def on_kill(self: Process, msg: MessageType | None) -> None:
    """Hook: entering KILLED.

    :param msg: the message that the kill came with
    """
    self.set_status("" if msg is None else msg.get(MESSAGE_TEXT_KEY) or "")
    future = self._lazy_future
    if future is not None and not future.done():
        future.set_exception(killed_error(msg))
        future.exception()  # who killed it knows
    if self._watchers is not None:
        _watching.tell(self, killed_error(msg))


def killed_error(msg: MessageType | None) -> exceptions.KilledError:
    """Return the exception that the future of a killed process has."""
    return exceptions.KilledError("" if msg is None else msg.get(MESSAGE_TEXT_KEY) or "")


# --- being in a state


def on_entered(self: Process, from_state: process_states.State | None) -> None:
    """Hook: the process has entered a state. Tells the others, as the last thing.

    :param from_state: the state before; None for the first one
    """
    label = self._state.LABEL  # type: ignore[union-attr]
    if label is _RUNNING:
        if type(self).on_running is not on_running or self._lazy_event_helper is not None:
            run_hook(self, "on_running")
    elif label is _WAITING:
        if type(self).on_waiting is not on_waiting or self._lazy_event_helper is not None:
            run_hook(self, "on_waiting")
    elif label is _FINISHED:
        if type(self).on_finished is not on_finished or self._lazy_event_helper is not None:
            run_hook(self, "on_finished")
    elif label is _EXCEPTED:
        if type(self).on_excepted is not on_excepted or self._lazy_event_helper is not None:
            run_hook(self, "on_excepted")
    elif label is _KILLED:  # noqa: SIM102
        if type(self).on_killed is not on_killed or self._lazy_event_helper is not None:
            run_hook(self, "on_killed")
    if self._communicator is not None:
        if from_state is None:
            # Attached before it says that it exists: who hears of it can reach it.
            self._attach()
        if self._link is not None:
            from_label = from_state.LABEL if from_state is not None else None
            self._link.state_changed(cast(str, from_label), cast(str, label))


@super_check
def on_running(self: Process) -> None:
    """Hook: in RUNNING."""
    self._fire_event(ProcessListener.on_process_running)


@super_check
def on_waiting(self: Process) -> None:
    """Hook: in WAITING."""
    self._fire_event(ProcessListener.on_process_waiting)


@super_check
def on_finished(self: Process) -> None:
    """Hook: in FINISHED."""
    self._fire_event(ProcessListener.on_process_finished, self._outputs)


@super_check
def on_excepted(self: Process) -> None:
    """Hook: in EXCEPTED."""
    self._fire_event(ProcessListener.on_process_excepted, str(self.exception()))


@super_check
def on_killed(self: Process) -> None:
    """Hook: in KILLED."""
    self._fire_event(ProcessListener.on_process_killed, self.killed_msg())


# --- leaving a state


def on_exiting(self: Process) -> None:
    """Hook: the process is about to leave its state."""
    label = self._state.LABEL  # type: ignore[union-attr]
    if label is _RUNNING:
        if type(self).on_exit_running is not on_exit_running:
            call_with_super_check(self.on_exit_running)
    elif label is _WAITING:  # noqa: SIM102
        if type(self).on_exit_waiting is not on_exit_waiting:
            call_with_super_check(self.on_exit_waiting)


@super_check
def on_exit_running(self: Process) -> None:
    """Hook: leaving RUNNING."""


@super_check
def on_exit_waiting(self: Process) -> None:
    """Hook: leaving WAITING."""


# --- pausing


@super_check
def on_pausing(self: Process, msg: str | None = None) -> None:
    """Hook: the process is about to be paused."""


@super_check
def on_paused(self: Process, msg: str | None = None) -> None:
    """Hook: the process is paused now.

    :param msg: becomes the status until the process goes on
    """
    self._pausing = None
    if self._paused is None:
        self._paused = persistence.SavableFuture(loop=self._loop)
    self._pre_paused_status = self.status
    if msg is not None:
        self.set_status(msg)
    self._fire_event(ProcessListener.on_process_paused)


@super_check
def on_playing(self: Process) -> None:
    """Hook: the process goes on after a pause."""
    _control.unpark(self)
    self.set_status(self._pre_paused_status)
    self._pre_paused_status = None
    self._fire_event(ProcessListener.on_process_played)


# --- outputs


def on_output_emitting(self: Process, output_port: str, value: Any) -> None:
    """Hook: an output is about to be emitted."""


def on_output_emitted(self: Process, output_port: str, value: Any, dynamic: bool) -> None:
    """Hook: an output has been emitted.

    :param dynamic: whether no port is declared for it
    """
    if self._lazy_event_helper is not None:
        self._fire_event(ProcessListener.on_output_emitted, output_port, value, dynamic)


# --- the end


def terminate(self: Process) -> None:
    """What the end of a process comes to."""
    if (
        self._interrupt_action is not None
        or self._paused is not None
        or (self._executed is not None and not self._own_transition)
    ):
        _control.settle_requests(self)
    self.close()


@super_check
def on_close(self: Process) -> None:
    """Hook: the process is being closed. Runs the cleanups."""
    cleanups = self._cleanups
    if cleanups is not None:
        self._cleanups = None
        for cleanup in cleanups:
            try:
                cleanup()
            except Exception:
                self.logger.exception(
                    "Process<%s>: Exception calling cleanup method %s", self.pid, cleanup
                )
    link = self._link
    if link is not None:
        self._link = None
        link.detach()
    if self._event_callbacks is not None:
        self._event_callbacks = None
    self._closed = True
