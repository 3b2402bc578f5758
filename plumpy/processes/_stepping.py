"""Steps: execute the current state, enter the next one."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .. import _crossing, _owned, _portals, exceptions, process_states
from ..process_states import Created, Interruption, ProcessState, Running, Waiting
from ..utils import is_coroutine_function
from . import _control
from ._scope import PROCESS_STACK, enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._process import Process


async def run_in_scope(
    process: Process, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call something in the scope of a process, and await it if it is a coroutine function."""
    token = enter(process)
    try:
        result = function(*args, **kwargs)
        if type(result) is CoroutineType and is_coroutine_function(function):
            result = await result
        return result
    finally:
        PROCESS_STACK.reset(token)


async def step(self: Process) -> None:
    """Do one step: execute the current state, and enter the next one.

    :raises ClosedError: if the process has ended
    :raises InvalidStateError: if another task is stepping it
    """
    if self._closed:
        raise exceptions.ClosedError("Process is closed")
    if self._stepping_task is not None:
        raise exceptions.InvalidStateError(f"{self} is being stepped already")
    self._one_step = True
    try:
        await step_until_terminated(self)
    finally:
        self._one_step = False


async def step_until_terminated(self: Process) -> None:
    """Do steps until the process has ended. The process is kept alive until then.

    If another task is stepping it already, wait for its end.
    """
    # The steps run in a portal, but what they wait for is waited for here: there is no portal, and
    # no frame but this one, to be kept meanwhile. There may be very many processes that wait.
    once = self._one_step
    task = _portals.current_task()
    if self._stepping_task is not None:
        if self._stepping_task is task:
            raise exceptions.InvalidStateError(f"{self} is being stepped by this very task")
        await asyncio.wait([self.future()])
        return
    if type(self).step is not step and not once:
        if task is not None:
            _owned.own(self._loop, task)
        while not self.has_terminated():
            await self.step()
        return
    error = None
    under_way = _owned.under_way(self._loop)
    under_way[id(self)] = self
    self._stepping_task = task
    try:
        # Many that can be reached would else keep the loop from hearing those who call them.
        if self._link is not None:
            await _crossing.turn()
        while True:
            future = await (
                run(self, once, error)
                if _portals.in_portal_of(task)
                else _portals.drive_steps(run(self, once, error), task)
            )
            if future is None:
                return
            try:
                await future
                if self._link is not None:
                    await _crossing.turn()
                error = None
            except asyncio.CancelledError as exc:
                error = exc
    finally:
        error = None
        # Nobody steps the process any more. What is still pending will not be carried out.
        under_way.pop(id(self), None)
        self._stepping = False
        self._executed = None
        self._stepping_task = None
        if self._step_cancelled:
            _control.was_step_cancelled(self, task)
        action = self._interrupt_action
        if action is not None:
            _control.withdraw(self, action)


async def run(
    process: Process, once: bool, error: BaseException | None
) -> asyncio.Future[Any] | None:
    """Do steps until there is something to wait for; return that, or None at the end.

    The caller waits and calls again.

    :param once: end after one step
    :param error: what the wait ended by, if it was cancelled
    """
    while True:
        state: Any = process._executed
        if state is None:
            if process._paused is not None:
                if error is not None:
                    raise error
                # Not the future that stands for the pause: cancelling the wait must not end it.
                waiter = process._pause_waiter = process._loop.create_future()
                return waiter
            state = process._state
            if not state.ALLOWED:
                return None
            process._executed = state
            process._stepping = True
        failed = False
        next_state: Any = None
        try:
            if error is not None:
                raise error
            # What executing the states of this package comes to, without their coroutines.
            execute = type(state).execute
            if execute is _RUN and state._command is None:
                function = state.run_fn
                token = enter(process)
                try:
                    result = function(*state.args, **state.kwargs)
                    if type(result) is CoroutineType and (
                        getattr(function, "__code__", None) is result.cr_code
                        or is_coroutine_function(function)
                    ):
                        result = await result
                finally:
                    PROCESS_STACK.reset(token)
                next_state = state.next_state(result)
            elif execute is _WAIT:
                future: asyncio.Future[Any] | None = state.must_wait()
                if future is not None:
                    return future
                if state._interruption is None:
                    next_state = state.end_wait()
                else:
                    interruption, state._interruption = state._interruption, None
                    _control.adopt_interruption(process, interruption)
            elif execute is _START:
                next_state = state.execute()
            else:
                next_state = await process._run_task(state.execute)
        except Interruption as raised:
            try:
                _control.adopt_interruption(process, raised)
            except ValueError as exc:
                next_state = _excepted(process, exc)
                failed = True
        except asyncio.CancelledError:
            if _control.was_step_cancelled(process, process._stepping_task):
                return None
            process._stepping = False
            process._executed = None
            _control.carry_out_action(process, None)
            raise
        except Exception as exc:
            next_state = _excepted(process, exc)
            failed = True
        finally:
            error = None
        if process._state is state:
            _enter(process, next_state, failed)
        process._stepping = False
        process._executed = None
        if process._step_cancelled:
            _control.was_step_cancelled(process, process._stepping_task)
        if once:
            return None


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
