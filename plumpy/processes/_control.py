"""Requests to a process: kill, pause, play, resume, fail.

A request is carried out at once where the process can take it, that is between two steps. During a
step it becomes an action that the step carries out when it ends. There is at most one action: a
kill takes the place of a pause, and nothing takes the place of a kill. Every request is answered
once, and truly: an action that cannot be carried out any more answers False.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _crossing, _owned, _portals, process_states
from ..base.utils import run_hook
from ..futures import CancellableAction
from ..process_comms import MESSAGE_TEXT_KEY, MessageType
from ..process_states import Interruption, KillInterruption, PauseInterruption, ProcessState
from . import _watching

if TYPE_CHECKING:
    from ._process import Process


# --- threads


def is_foreign(process: Process) -> bool:
    """Return whether the caller is not on the loop of the process while that runs elsewhere."""
    loop = process._loop
    return asyncio._get_running_loop() is not loop and loop.is_running()


def on_loop(process: Process, function: Callable[..., Any], *args: Any) -> Any:
    """Carry out a request on the loop of the process.

    A caller from elsewhere gets an action, which belongs to the loop, for the answer; it never
    waits, because the loop may be waiting for it.
    """
    loop = process._loop
    if asyncio._get_running_loop() is loop or not loop.is_running():
        return function(process, *args)
    action = CancellableAction.on_loop(loop, function)
    _crossing.hop(loop, _carry_out, action, process, args)
    return action


async def _carry_out(action: CancellableAction, process: Process, args: tuple[Any, ...]) -> None:
    function = action._action
    if action.done() or function is None:
        return
    try:
        answer = await _portals.drive(_portals.call(function, (process, *args), {}))
        if asyncio.isfuture(answer):
            answer = await asyncio.shield(answer)
    except asyncio.CancelledError:
        action.cancel()
    except Exception as exc:
        if not action.done():
            action.set_exception(exc)
    else:
        if not action.done():
            action.set_result(answer)


def start(
    loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Run a coroutine function in a task that is kept alive until it is done."""
    _owned.own(loop, loop.create_task(function()))


def future_done(reference: weakref.ref[Process], future: asyncio.Future[Any]) -> None:
    """Kill the process of a future that was cancelled."""
    process = reference()
    if process is None or not future.cancelled() or process.has_terminated():
        return
    _watching.tell(process, asyncio.CancelledError())
    if process.kill("Killed by future being cancelled") is False:
        process.logger.warning("Process<%s>: its future was cancelled too late", process.pid)


# --- requests


def kill(process: Process, msg_text: str | None, force_kill: bool) -> Any:
    if process.has_terminated():
        return process.killed()
    pending = process._killing
    if pending is not None and not pending.done() and not force_kill:
        return pending
    interruption = KillInterruption(msg_text, force_kill)
    if process._transitioning or (process._stepping and not force_kill):
        return request(process, interruption)
    return do_kill(process, interruption.msg)


def do_kill(process: Process, msg: MessageType) -> bool:
    process.transition_to(process.create_state(ProcessState.KILLED, msg=msg))
    return process.killed()


def pause(process: Process, msg_text: str | None) -> Any:
    if process.has_terminated():
        return False
    if process.paused:
        return True
    if process.is_killing:
        return False
    pending = process._pausing
    if pending is not None and not pending.done():
        return pending
    interruption = PauseInterruption(msg_text)
    if process._stepping or process._transitioning:
        return request(process, interruption)
    return do_pause(process, interruption.msg)


def do_pause(
    process: Process,
    msg: MessageType | None,
    next_state: process_states.State | None = None,
) -> bool:
    """Pause the process, in the next state if there is one."""
    if next_state is not None:
        process.transition_to(next_state)
    if process.has_terminated():
        return False
    text = None if msg is None else msg.get(MESSAGE_TEXT_KEY)
    try:
        run_hook(process, "on_pausing", text)
        run_hook(process, "on_paused", text)
    finally:
        process._pausing = None
    return True


def play(process: Process) -> bool:
    if process.paused:
        run_hook(process, "on_playing")
    elif process._pausing is not None:
        withdraw(process, process._pausing)
    return True


def resume(process: Process, *args: Any) -> None:
    state = process._state
    if isinstance(state, process_states.Waiting):
        state.resume(*args)


def fail(
    process: Process, exception: BaseException | None, trace_back: TracebackType | None
) -> None:
    if process.has_terminated():
        process.logger.error(
            "Process<%s>: it has ended, and cannot fail any more", process.pid, exc_info=exception
        )
        return
    if exception is None:
        exception = RuntimeError("the process failed without an exception")
    if process._transitioning:
        defer(process, lambda: fail(process, exception, trace_back))
        return
    process.transition_to(
        process.create_state(ProcessState.EXCEPTED, exception, trace_back=trace_back)
    )


# --- actions


def interrupt_action(process: Process, interruption: Interruption) -> CancellableAction:
    """Make the action that carries out an interruption; it gets the next state."""
    if isinstance(interruption, KillInterruption):
        return CancellableAction.on_loop(
            process._loop, lambda next_state: do_kill(process, interruption.msg), interruption
        )
    if isinstance(interruption, PauseInterruption):
        return CancellableAction.on_loop(
            process._loop,
            lambda next_state: process._do_pause(interruption.msg, next_state),
            interruption,
        )
    raise ValueError(f"Got unknown interruption type '{type(interruption)}'")


def set_action(process: Process, action: CancellableAction, interruption: Interruption) -> None:
    """Make an action the one to be carried out; it takes the place of a pause."""
    earlier = process._interrupt_action
    if earlier is not None:
        refuse(earlier)
    process._interrupt_action = action
    if isinstance(interruption, KillInterruption):
        process._killing = action
        process._pausing = None
    else:
        process._pausing = action


def request(process: Process, interruption: Interruption) -> CancellableAction:
    """Have the step under way, or the transition, carry out an interruption when it ends."""
    action = interrupt_action(process, interruption)
    # The state may raise it long after it was withdrawn, or something else has taken its place.
    interruption.requested = True  # type: ignore[attr-defined]
    set_action(process, action, interruption)
    if process._stepping:
        # Not in the middle of a transition: the state that is executed is still the current one.
        if not process._transitioning:
            process._state.interrupt(interruption)  # type: ignore[union-attr]
    else:
        defer(process, lambda: carry_out_action(process, None))
    return action


def adopt_interruption(process: Process, interruption: Interruption) -> None:
    """Take an interruption that a state has raised for a request, unless it was one."""
    action = process._interrupt_action
    if action is not None and action.cookie is interruption:
        return
    if getattr(interruption, "requested", False):
        return
    if action is not None and not action.done() and isinstance(action.cookie, KillInterruption):
        return
    set_action(process, interrupt_action(process, interruption), interruption)


def carry_out_action(process: Process, next_state: process_states.State | None) -> bool:
    """Carry out the action, if there is one; return whether there was."""
    action = process._interrupt_action
    if action is None:
        return False
    clear_action(process)
    if action.done():
        return False  # withdrawn
    action.run(next_state)
    return True


def clear_action(process: Process) -> None:
    process._interrupt_action = None
    process._killing = None
    process._pausing = None


def withdraw(process: Process, action: CancellableAction) -> None:
    action.cancel()
    if process._interrupt_action is action:
        clear_action(process)


def refuse(action: CancellableAction) -> None:
    """Answer that the request has not been carried out, and will not be."""
    if not action.done():
        action.set_result(False)


def settle_requests(process: Process) -> None:
    """The process has ended: answer what is pending, and have nothing wait for it any more."""
    action = process._interrupt_action
    if action is not None:
        clear_action(process)
        if not action.done():
            wants_kill = isinstance(action.cookie, KillInterruption)
            action.set_result(wants_kill and process.killed())
    if process._paused is not None:
        unpark(process)
    executed = process._executed
    if executed is not None and not process._own_transition:
        end_step(process, executed)


def end_step(process: Process, executed: process_states.State) -> None:
    """End the step under way, because the process has ended without it."""
    stepper = process._stepping_task
    if stepper is None or stepper is _portals.current_task() or stepper.done():
        return  # it is what brought the process to its end
    if type(executed).execute is process_states.Waiting.execute:
        executed._wake()  # type: ignore[attr-defined]
    else:
        process._step_cancelled = True
        stepper.cancel()


def was_step_cancelled(process: Process, task: asyncio.Task[Any] | None) -> bool:
    """Return whether the stepping task was cancelled by :func:`end_step` alone, and undo that."""
    if not process._step_cancelled or task is None:
        return False
    process._step_cancelled = False
    return sys.version_info < (3, 11) or task.uncancel() == 0


def unpark(process: Process) -> None:
    """End a pause."""
    paused, process._paused = process._paused, None
    if paused is not None and not paused.done():
        paused.set_result(True)
    waiter = process._pause_waiter
    if waiter is not None:
        process._pause_waiter = None
        if not waiter.done():
            waiter.set_result(None)


def defer(process: Process, function: Callable[[], Any]) -> None:
    """Do something when the transition under way is over."""
    if process._after_transition is None:
        process._after_transition = []
    process._after_transition.append(function)
