"""What can be asked of a process: methods and properties of :class:`plumpy.Process`.

They may be called from any thread; the rules are those of :mod:`plumpy.processes._control`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _crossing, events, process_states
from ..base.state_machine import event
from ..futures import CancellableAction
from . import _control

if TYPE_CHECKING:
    from ._process import Process


def kill(
    self: Process, msg_text: str | None = None, force_kill: bool = False
) -> bool | asyncio.Future:  # type: ignore[type-arg]
    """Kill the process. A step under way ends first, unless it is forced.

    :param msg_text: why, in words
    :param force_kill: end the process now; the step under way is cancelled, its result dropped
    :return: whether the process is killed, or a future for that
    """
    answer: bool | asyncio.Future[Any]
    answer = _control.on_loop(self, _control.kill, msg_text, force_kill)
    return answer


def _is_killing(self: Process) -> bool:
    """Whether the process is going to be killed."""
    return self._killing is not None and not self._killing.done()


def pause(self: Process, msg_text: str | None = None) -> bool | CancellableAction:
    """Pause the process. A step under way ends first.

    :param msg_text: becomes the status during the pause
    :return: whether the process is paused, or a future for that
    """
    answer: bool | CancellableAction = _control.on_loop(self, _control.pause, msg_text)
    return answer


def play(self: Process) -> bool:
    """Let a paused process go on, and withdraw a pause that is still to come.

    :return: True
    """
    answer: bool = _control.on_loop(self, _control.play)
    return answer


@event(from_states=process_states.Waiting)
def resume(self: Process, *args: Any) -> None:
    """Let a waiting process go on.

    :param args: at most one value, for the method that it goes on with
    :raises EventError: if the process is not waiting
    """
    _control.on_loop(self, _control.resume, *args)


def fail(
    self: Process,
    exception: BaseException | None,
    trace_back: TracebackType | None,
) -> None:
    """End the process by an exception. One that has ended already stays as it is."""
    _control.on_loop(self, _control.fail, exception, trace_back)


def call_soon(
    self: Process, callback: Callable[..., Any], *args: Any, **kwargs: Any
) -> events.ProcessCallback:
    """Have a function or coroutine function called soon, in the scope of the process.

    What it raises ends the process. It is not part of any step, and runs in any state.
    """
    scheduled = events.ProcessCallback(self, callback, args, kwargs)
    if _control.is_foreign(self):
        _crossing.hop(self._loop, scheduled.run)
    else:
        _control.start(self._loop, scheduled.run)
    return scheduled


def callback_excepted(
    self: Process,
    _callback: Callable[..., Any],
    exception: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """Hook: a function given to :meth:`call_soon` raised; ends the process."""
    if self.has_terminated():
        self.logger.error(
            "Process<%s>: a callback raised after the end of the process",
            self.pid,
            exc_info=exception,
        )
        return
    self.fail(exception, trace)


is_killing = property(_is_killing)
