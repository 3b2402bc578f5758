"""The bodies of messages and tasks; what they look like is a contract with every other release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Dict, Hashable  # noqa: UP035

from plumpy import loaders

INTENT_KEY = "intent"
MESSAGE_TEXT_KEY = "message"
FORCE_KILL_KEY = "force_kill"

TASK_KEY = "task"
TASK_ARGS = "args"
LAUNCH_TASK = "launch"
CONTINUE_TASK = "continue"
CREATE_TASK = "create"

PROCESS_CLASS_KEY = "process_class"
ARGS_KEY = "init_args"
KWARGS_KEY = "init_kwargs"
PERSIST_KEY = "persist"
NOWAIT_KEY = "nowait"
PID_KEY = "pid"
TAG_KEY = "tag"

PID_TYPE = Hashable
# The old spelling, because the repr of the alias is part of the interface.
MessageType = Dict[str, Any]  # noqa: UP006
ProcessResult = Any
ProcessStatus = Any


class Intent:
    """What a message to a process asks for."""

    PLAY: str = "play"
    PAUSE: str = "pause"
    KILL: str = "kill"
    STATUS: str = "status"


class MessageBuilder:
    """The bodies of messages to a process."""

    @classmethod
    def play(cls, text: str | None = None) -> MessageType:
        """Return the message that lets a paused process go on."""
        return {INTENT_KEY: Intent.PLAY, MESSAGE_TEXT_KEY: text}

    @classmethod
    def pause(cls, text: str | None = None) -> MessageType:
        """Return the message that pauses a process; ``text`` becomes its status."""
        return {INTENT_KEY: Intent.PAUSE, MESSAGE_TEXT_KEY: text}

    @classmethod
    def kill(cls, text: str | None = None, force_kill: bool = False) -> MessageType:
        """Return the message that kills a process.

        :param text: the reason, to be found in :class:`~plumpy.exceptions.KilledError`
        :param force_kill: do not wait for the step under way
        """
        return {INTENT_KEY: Intent.KILL, MESSAGE_TEXT_KEY: text, FORCE_KILL_KEY: force_kill}

    @classmethod
    def status(cls, text: str | None = None) -> MessageType:
        """Return the message that asks a process for its status."""
        return {INTENT_KEY: Intent.STATUS, MESSAGE_TEXT_KEY: text}


def create_launch_body(
    process_class: Any,
    init_args: Sequence[Any] | None = None,
    init_kwargs: dict[str, Any] | None = None,
    persist: bool = False,
    loader: loaders.ObjectLoader | None = None,
    nowait: bool = True,
) -> dict[str, Any]:
    """Return the task that starts a new process.

    :param process_class: the class
    :param init_args: positional arguments of the class
    :param init_kwargs: keyword arguments of the class
    :param persist: save a checkpoint before the start
    :param loader: turns the class into an identifier; the default loader otherwise
    :param nowait: answer with the pid at once, not with the outputs at the end
    """
    return {
        TASK_KEY: LAUNCH_TASK,
        TASK_ARGS: {
            **_new_process(process_class, init_args, init_kwargs, persist, loader),
            NOWAIT_KEY: nowait,
        },
    }


def create_continue_body(
    pid: PID_TYPE, tag: str | None = None, nowait: bool = False
) -> dict[str, Any]:
    """Return the task that continues a process from its checkpoint.

    :param pid: the process
    :param tag: the tag of the checkpoint
    :param nowait: answer with the pid at once, not with the outputs at the end
    """
    return {
        TASK_KEY: CONTINUE_TASK,
        TASK_ARGS: {PID_KEY: pid, NOWAIT_KEY: nowait, TAG_KEY: tag},
    }


def create_create_body(
    process_class: Any,
    init_args: Sequence[Any] | None = None,
    init_kwargs: dict[str, Any] | None = None,
    persist: bool = False,
    loader: loaders.ObjectLoader | None = None,
) -> dict[str, Any]:
    """Return the task that creates a process without starting it; parameters as for launching."""
    return {
        TASK_KEY: CREATE_TASK,
        TASK_ARGS: _new_process(process_class, init_args, init_kwargs, persist, loader),
    }


def _new_process(
    process_class: Any,
    init_args: Sequence[Any] | None,
    init_kwargs: dict[str, Any] | None,
    persist: bool,
    loader: loaders.ObjectLoader | None,
) -> dict[str, Any]:
    if loader is None:
        loader = loaders.get_object_loader()
    return {
        PROCESS_CLASS_KEY: loader.identify_object(process_class),
        PERSIST_KEY: persist,
        ARGS_KEY: init_args,
        KWARGS_KEY: init_kwargs,
    }
