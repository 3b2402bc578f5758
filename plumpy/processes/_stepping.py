"""Steps: execute the current state, enter the next one."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from .. import _owned, _portals, exceptions, process_states
from ..process_states import Interruption, ProcessState
from . import _control

if TYPE_CHECKING:
    from ._process import Process

#: These run code of the process, if any, in its scope themselves.
_SCOPED = frozenset(
    (
        process_states.Created.execute,
        process_states.Running.execute,
        process_states.Waiting.execute,
    )
)


async def step_until_terminated(process: Process) -> None:
    """Do steps until the process has ended, and keep it alive until then."""
    if process._stepper is not None:
        await _wait_for_other_stepper(process)
        return
    under_way = _owned.under_way(process._loop)
    key = id(process)
    under_way[key] = process
    try:
        while not process.has_terminated():
            await process.step()
    finally:
        under_way.pop(key, None)


async def _wait_for_other_stepper(process: Process) -> None:
    if process._stepper is _portals.current_task():
        raise exceptions.InvalidStateError(f"{process} is being stepped by this very task")
    await asyncio.wait([process.future()])


async def step(process: Process) -> None:
    """Do one step. However it goes, requests that came during it are answered when it ends."""
    if process._stepper is not None:
        raise exceptions.InvalidStateError(f"{process} is being stepped already")
    stepper = process._stepper = _portals.current_task()
    try:
        while process._paused is not None:
            await _end_of_pause(process, process._paused)
        state = process._state
        assert state is not None
        if not state.ALLOWED and state.is_terminal():
            return
        process._stepping = True
        process._executed = state  # type: ignore[assignment]
        next_state: Any = None
        failed = False
        try:
            if type(state).execute in _SCOPED:
                executing: Any = state.execute()
                next_state = await executing if inspect.iscoroutine(executing) else executing
            else:
                next_state = await process._run_task(state.execute)
        except Interruption as interruption:
            try:
                _control.adopt_interruption(process, interruption)
            except ValueError as exc:
                next_state = _excepted(process, exc)
                failed = True
        except asyncio.CancelledError:
            if (
                process._step_cancelled
                and stepper is not None
                and _control.absorb_cancellation(process, stepper)
            ):
                return
            process._stepping = False
            process._executed = None
            _control.carry_out_action(process, None)
            raise
        except Exception as exc:
            next_state = _excepted(process, exc)
            failed = True
        if process._state is state:
            process._own_transition = True
            try:
                if failed or not _control.carry_out_action(process, next_state):
                    process.transition_to(next_state)
            finally:
                process._own_transition = False
            # What the hooks of the transition asked for.
            while process._interrupt_action is not None and not process.has_terminated():
                process._own_transition = True
                try:
                    _control.carry_out_action(process, None)
                finally:
                    process._own_transition = False
    finally:
        process._stepping = False
        process._executed = None
        process._stepper = None
        if process._step_cancelled and stepper is not None:
            # The step ended before the cancellation reached it.
            _control.absorb_cancellation(process, stepper)
        action = process._interrupt_action
        if action is not None:
            _control.withdraw(process, action)


def _excepted(process: Process, exc: BaseException) -> Any:
    return process.create_state(ProcessState.EXCEPTED, exc, trace_back=exc.__traceback__)


async def _end_of_pause(process: Process, paused: asyncio.Future[Any]) -> None:
    # Not the future itself: cancelling the task that steps must not end the pause.
    waiter = process._loop.create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    paused.add_done_callback(wake)
    try:
        await waiter
    finally:
        paused.remove_done_callback(wake)
