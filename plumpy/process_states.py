"""The states of a process, and the commands by which its steps choose the next one."""

# ruff: noqa: F401, PLC0414 - what is importable from here is part of the interface

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from yaml.loader import Loader

from . import exceptions, futures, persistence, utils
from ._states import Command as Command
from ._states import (
    Created,
    Excepted,
    Finished,
    Killed,
    ProcessState,
    Running,
    Waiting,
    method_of,
    running,
)
from ._states import State as State
from .base import state_machine
from .base.utils import extends
from .lang import NULL
from .persistence import auto_persist
from .process_comms import MessageBuilder, MessageType
from .utils import SAVED_STATE_TYPE, ensure_coroutine

__all__ = [
    "Continue",
    "Created",
    "Excepted",
    "Finished",
    "Interruption",
    "Kill",
    "KillInterruption",
    "Killed",
    "PauseInterruption",
    "ProcessState",
    "Running",
    "Stop",
    "Wait",
    "Waiting",
]


class Interruption(Exception):
    """Takes a process out of what it is doing."""


class KillInterruption(Interruption):
    """Kills the process.

    :param msg_text: why, in words
    :param force_kill: whether to end it at once
    """

    def __init__(self, msg_text: str | None, force_kill: bool = False):
        super().__init__(msg_text)
        self.force_kill = force_kill
        self.msg: MessageType = MessageBuilder.kill(text=msg_text, force_kill=force_kill)


class PauseInterruption(Interruption):
    """Pauses the process.

    :param msg_text: why, in words
    """

    def __init__(self, msg_text: str | None):
        super().__init__(msg_text)
        self.msg: MessageType = MessageBuilder.pause(text=msg_text)


@auto_persist("msg")
class Kill(Command):
    """Kill the process.

    :param msg: a message made by :meth:`plumpy.MessageBuilder.kill`, or its text
    """

    def __init__(self, msg: Optional[MessageType] = None):  # noqa: UP045
        super().__init__()
        self.msg = MessageBuilder.kill(text=msg) if isinstance(msg, str) else msg

    def _next_state(self, state: Running) -> State:
        return state.process.create_state(  # type: ignore[return-value]
            ProcessState.KILLED, msg=self.msg
        )


class Pause(Command):
    """Kept for its name; no step can return it."""


@auto_persist("msg", "data")
class Wait(Command):
    """Wait until the process is resumed.

    :param continue_fn: the method to go on with; called with the value of the resume, if it has one
    :param msg: says what the process waits for
    :param data: anything; handed to :meth:`plumpy.Process.on_wait`
    """

    CONTINUE_FN = "continue_fn"

    def __init__(
        self,
        continue_fn: Optional[Callable[..., Any]] = None,  # noqa: UP045
        msg: Optional[Any] = None,  # noqa: UP045
        data: Optional[Any] = None,  # noqa: UP045
    ):
        super().__init__()
        self.continue_fn = continue_fn
        self.msg = msg
        self.data = data

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        if self.continue_fn is not None:
            out_state[self.CONTINUE_FN] = self.continue_fn.__name__

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        name = saved_state.get(self.CONTINUE_FN)
        self.continue_fn = None if name is None else method_of(load_context, name)

    def _next_state(self, state: Running) -> State:
        return state.process.create_state(  # type: ignore[return-value]
            ProcessState.WAITING, self.continue_fn, self.msg, self.data
        )


@auto_persist("result")
class Stop(Command):
    """Finish the process.

    :param result: its result
    :param successful: whether it has done what it was to do
    """

    def __init__(self, result: Any, successful: bool):
        super().__init__()
        self.result = result
        self.successful = successful

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        out_state["successful"] = self.successful

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.successful = saved_state.get("successful", True)

    def _next_state(self, state: Running) -> State:
        return state.process.create_state(  # type: ignore[return-value]
            ProcessState.FINISHED, result=self.result, successful=self.successful
        )


@auto_persist("args", "kwargs")
class Continue(Command):
    """Go on with another method of the process.

    :param continue_fn: the method; the other arguments are for it
    """

    CONTINUE_FN = "continue_fn"

    def __init__(self, continue_fn: Callable[..., Any], *args: Any, **kwargs: Any):
        super().__init__()
        self.continue_fn = continue_fn
        self.args = args
        self.kwargs = kwargs

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        out_state[self.CONTINUE_FN] = self.continue_fn.__name__

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.continue_fn = method_of(load_context, saved_state[self.CONTINUE_FN])

    def _next_state(self, state: Running) -> State:
        return running(state.process, self.continue_fn, self.args, self.kwargs)
