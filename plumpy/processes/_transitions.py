"""From one state to the next: methods of :class:`plumpy.Process`."""

from __future__ import annotations

from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import process_states
from ..base.state_machine import State as MachineState
from ..base.state_machine import StateEventHook, illegal
from ..process_states import ProcessState

if TYPE_CHECKING:
    from ._process import Process

_CREATED = ProcessState.CREATED
_EXCEPTED = ProcessState.EXCEPTED


def create_initial_state(self: Process) -> process_states.State:
    """Make the state that the process starts in."""
    state: Any = self.create_state(_CREATED, self.run)
    return state  # type: ignore[no-any-return]


def transition_failed(
    self: Process,
    initial_state: Hashable,
    final_state: Hashable,
    exception: Exception,
    trace: TracebackType,
) -> None:
    """Go to EXCEPTED, or if the process could not even be created, raise the exception."""
    if final_state is _CREATED:
        raise exception.with_traceback(trace)
    self.transition_to(self.create_state(_EXCEPTED, exception, trace_back=trace))


def change_state(self: Process, next_state: MachineState) -> None:
    last_state = self._state
    hooked = not self._closed  # else its hooks were dropped with everything else
    if last_state is not None and not self._transition_failing:
        if next_state.LABEL not in last_state.ALLOWED:
            raise illegal(last_state, next_state)
        if hooked:
            self.on_exiting()
            if self._event_callbacks is not None:
                self._fire_state_event(StateEventHook.EXITING_STATE, next_state)
        last_state.do_exit()
    if hooked:
        self.on_entering(next_state)  # type: ignore[arg-type]
        if self._event_callbacks is not None:
            self._fire_state_event(StateEventHook.ENTERING_STATE, next_state)
    next_state.do_enter()
    self._state = next_state
    if hooked:
        self.on_entered(last_state)  # type: ignore[arg-type]
        if self._event_callbacks is not None:
            self._fire_state_event(StateEventHook.ENTERED_STATE, last_state)
