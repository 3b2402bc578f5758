"""Running processes: methods of :class:`plumpy.Process`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .. import _nesting, _owned, process_states
from ..utils import PID_TYPE
from . import _stepping
from ._scope import PROCESS_STACK, enter

if TYPE_CHECKING:
    from ._process import Process

T = TypeVar("T")

_STEPS = _stepping.step_until_terminated.__code__


def launch(
    self: Process,
    process_class: type[Process],
    inputs: dict | None = None,  # type: ignore[type-arg]
    pid: PID_TYPE | None = None,
    logger: logging.Logger | None = None,
) -> Process:
    """Start another process on the same loop, with the same communicator.

    :return: the process; it is kept alive until it ends
    """
    process = process_class(
        inputs=inputs, pid=pid, logger=logger, loop=self._loop, communicator=self._communicator
    )
    steps = process.step_until_terminated()
    task = self._loop.create_task(steps)
    if not _is_own(steps):
        _owned.own(self._loop, task)
    # Else the loop has the task until its first step, and then the process, which has the task.
    return process


def execute(self: Process) -> dict[str, Any] | None:
    """Run the process to its end and return the outputs; see
    :func:`plumpy.run_until_complete` for where that can be called.

    A process that was loaded after its end gives what it ended with.

    :raises KilledError: if it was killed; if it excepted, its exception
    :raises ClosedError: if it has ended in this program: ask :meth:`future` or :attr:`outputs`
    """
    if not self.has_terminated():
        steps = self.step_until_terminated()
        _nesting.run_until_complete(self._loop, steps, drives_itself=_is_own(steps))
    if self._lazy_future is None and type(self._state) is process_states.Finished:
        return self._outputs  # type: ignore[no-any-return]
    return self.future().result()  # type: ignore[no-any-return]


def _is_own(steps: Coroutine[Any, Any, None]) -> bool:
    """Return whether a coroutine is that of a ``step_until_terminated`` nobody has overridden."""
    return type(steps) is CoroutineType and steps.cr_code is _STEPS


async def run_task(self: Process, callback: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call something in the scope of this process, and await it if need be."""
    return cast(T, await _stepping.run_in_scope(self, callback, args, kwargs))


@contextmanager
def process_scope(self: Process) -> Generator[None, None, None]:
    token = enter(self)
    try:
        yield
    finally:
        PROCESS_STACK.reset(token)
