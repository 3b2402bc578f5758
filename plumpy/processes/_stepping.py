"""Steps: execute the current state, enter the next one."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .. import _owned, _portals, exceptions, process_states
from ..process_states import Created, Interruption, ProcessState, Running, Waiting
from ..utils import is_coroutine_function
from . import _control
from ._scope import PROCESS_STACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._process import Process


async def run_in_scope(
    process: Process, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call something in the scope of a process, and await it if it is a coroutine function."""
    token = PROCESS_STACK.set(PROCESS_STACK.get().pushed(process))
    try:
        result = function(*args, **kwargs)
        if type(result) is CoroutineType and is_coroutine_function(function):
            result = await result
        return result
    finally:
        PROCESS_STACK.reset(token)


async def run_own_steps(process: Process) -> None:
    """Do the steps of a class that has a ``step`` of its own."""
    under_way = _owned.under_way(process._loop)
    key = id(process)
    under_way[key] = process
    try:
        while not process.has_terminated():
            await process.step()
    finally:
        under_way.pop(key, None)


async def wait_for_end(process: Process) -> None:
    """Wait until the process has ended, which another task is stepping."""
    if process._stepping_task is _portals.current_task():
        raise exceptions.InvalidStateError(f"{process} is being stepped by this very task")
    await asyncio.wait([process.future()])


async def step(self: Process) -> None:
    """Do one step: execute the current state, and enter the next one.

    :raises ClosedError: if the process has ended
    :raises InvalidStateError: if another task is stepping it
    """
    if self._closed:
        raise exceptions.ClosedError("Process is closed")
    if self._stepping_task is not None:
        raise exceptions.InvalidStateError(f"{self} is being stepped already")
    if _portals.in_portal():
        await run(self, once=True)
    else:
        await _portals.drive(run(self, once=True))


async def run(process: Process, once: bool) -> None:
    """Do steps. However one goes, requests that came during it are answered when it ends.

    :param once: do one only
    """
    task = process._stepping_task = _portals.current_task()
    under_way = _owned.under_way(process._loop)
    key = id(process)
    under_way[key] = process
    try:
        while True:
            while process._paused is not None:
                await _end_of_pause(process, process._paused)
            state = process._state
            assert state is not None
            if not state.ALLOWED:
                return
            process._executed = state  # type: ignore[assignment]
            process._stepping = True
            failed = False
            next_state: Any = None
            try:
                # What executing the states of this package comes to, without the coroutines.
                execute = type(state).execute
                if execute is _RUN and state._command is None:  # type: ignore[attr-defined]
                    function = state.run_fn  # type: ignore[attr-defined]
                    token = PROCESS_STACK.set(PROCESS_STACK.get().pushed(process))
                    try:
                        result = function(*state.args, **state.kwargs)  # type: ignore[attr-defined]
                        if type(result) is CoroutineType and (
                            getattr(function, "__code__", None) is result.cr_code
                            or is_coroutine_function(function)
                        ):
                            result = await result
                    finally:
                        PROCESS_STACK.reset(token)
                    next_state = state.next_state(result)  # type: ignore[attr-defined]
                elif execute is _WAIT:
                    while (future := state.must_wait()) is not None:  # type: ignore[attr-defined]
                        await future
                    next_state = state.end_wait()  # type: ignore[attr-defined]
                elif execute is _START:
                    next_state = state.execute()
                else:
                    next_state = await process._run_task(state.execute)
            except Interruption as interruption:
                try:
                    _control.adopt_interruption(process, interruption)
                except ValueError as exc:
                    next_state = _excepted(process, exc)
                    failed = True
            except asyncio.CancelledError:
                if _control.was_step_cancelled(process, task):
                    return
                process._stepping = False
                process._executed = None
                _control.carry_out_action(process, None)
                raise
            except Exception as exc:
                next_state = _excepted(process, exc)
                failed = True
            if process._state is state:
                _enter(process, next_state, failed)
            if once:
                return
            process._stepping = False
            process._executed = None
            if process._step_cancelled:
                _control.was_step_cancelled(process, task)
    finally:
        under_way.pop(key, None)
        process._stepping = False
        process._executed = None
        process._stepping_task = None
        if process._step_cancelled:
            _control.was_step_cancelled(process, task)
        action = process._interrupt_action
        if action is not None:
            _control.withdraw(process, action)


_START = Created.execute
_RUN = Running.execute
_WAIT = Waiting.execute


def _enter(process: Process, next_state: Any, failed: bool) -> None:
    """Enter the next state, and do what was asked for during the step."""
    process._own_transition = True
    try:
        if (
            failed
            or process._interrupt_action is None
            or not _control.carry_out_action(process, next_state)
        ):
            process.transition_to(next_state)
        # What the hooks of the transition asked for.
        while process._interrupt_action is not None:
            _control.carry_out_action(process, None)
    finally:
        process._own_transition = False


def _excepted(process: Process, exc: BaseException) -> process_states.State:
    return process.create_state(  # type: ignore[return-value]
        ProcessState.EXCEPTED, exc, trace_back=exc.__traceback__
    )


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
