"""How a process has ended, if it has: methods and properties of :class:`plumpy.Process`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .. import exceptions, process_states
from ..process_comms import MessageType
from ..process_states import ProcessState

if TYPE_CHECKING:
    from ._process import Process


def has_terminated(self: Process) -> bool:
    """Return whether the process has ended."""
    return self._state is not None and not self._state.ALLOWED


def result(self: Process) -> Any:
    """Return the result of the last step.

    :raises KilledError: if the process was killed
    :raises InvalidStateError: if the process has not ended; if it excepted, its exception
    """
    state = self._state
    if isinstance(state, process_states.Finished):
        return state.result
    if isinstance(state, process_states.Killed):
        raise exceptions.KilledError(state.msg)
    if isinstance(state, process_states.Excepted):
        raise state.exception or Exception("process excepted")
    raise exceptions.InvalidStateError("process has not ended")


def successful(self: Process) -> bool:
    """Return whether the process has done what it was to do.

    :raises InvalidStateError: if it has not finished
    """
    if isinstance(self._state, process_states.Finished):
        return self._state.successful
    raise exceptions.InvalidStateError("process is not in the finished state")


def _is_successful(self: Process) -> bool:
    """Whether the process has finished, and done what it was to do."""
    return isinstance(self._state, process_states.Finished) and self._state.successful


def killed(self: Process) -> bool:
    """Return whether the process was killed."""
    return self.state is ProcessState.KILLED


def killed_msg(self: Process) -> MessageType | None:
    """Return the message that the kill came with.

    :raises InvalidStateError: if the process was not killed
    """
    if isinstance(self._state, process_states.Killed):
        return self._state.msg
    raise exceptions.InvalidStateError("Has not been killed")


def exception(self: Process) -> BaseException | None:
    """Return the exception that the process ended by, or None."""
    if isinstance(self._state, process_states.Excepted):
        return self._state.exception
    return None


def _is_excepted(self: Process) -> bool:
    """Whether the process ended by an exception."""
    return self.state is ProcessState.EXCEPTED


def done(self: Process) -> bool:
    """Deprecated: use :meth:`has_terminated`."""
    warnings.warn(
        "`Process.done` is deprecated, use `Process.has_terminated`",
        DeprecationWarning,
        stacklevel=2,
    )
    return self._lazy_future.done() if self._lazy_future is not None else self.has_terminated()


is_successful = property(_is_successful)
is_excepted = property(_is_excepted)
