"""What a process does about the messages that reach it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import kiwipy

from .. import _crossing
from ..process_comms import FORCE_KILL_KEY, INTENT_KEY, MESSAGE_TEXT_KEY, Intent, MessageType
from ..utils import ensure_coroutine

if TYPE_CHECKING:
    from ._process import Process

_LOGGER = logging.getLogger("plumpy.processes")


def receive(process: Process, msg: MessageType) -> Any:
    """Answer a message: at once, or by a future."""
    intent = msg.get(INTENT_KEY) if isinstance(msg, dict) else None
    if intent == Intent.PLAY:
        return process._schedule_rpc(process.play)
    if intent == Intent.PAUSE:
        return process._schedule_rpc(process.pause, msg_text=msg.get(MESSAGE_TEXT_KEY))
    if intent == Intent.KILL:
        return process._schedule_rpc(
            process.kill,
            msg_text=msg.get(MESSAGE_TEXT_KEY),
            force_kill=msg.get(FORCE_KILL_KEY, False),
        )
    if intent == Intent.STATUS:
        status: dict[str, Any] = {}
        process.get_status_info(status)
        return status
    raise RuntimeError("Unknown intent")


def receive_broadcast(process: Process, msg: MessageType | None, subject: Any) -> Any:
    """Do what a broadcast asks for."""
    text = msg.get(MESSAGE_TEXT_KEY) if isinstance(msg, dict) else None
    if subject == Intent.PLAY:
        return process._schedule_rpc(process.play)
    if subject == Intent.PAUSE:
        return process._schedule_rpc(process.pause, msg_text=text)
    if subject == Intent.KILL:
        return process._schedule_rpc(process.kill, msg_text=text)
    return None


def schedule(
    process: Process, callback: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> kiwipy.Future:
    """Call something on the loop of the process; the answer is what it finally comes to.

    An exception is answered by its text. The traceback, with the paths of this machine, goes to the
    log and not to whoever sent the message.
    """

    async def answer() -> Any:
        try:
            result = await ensure_coroutine(callback)(*args, **kwargs)
            while True:
                if asyncio.isfuture(result):
                    result = await result
                elif isinstance(result, kiwipy.Future):
                    result = await asyncio.wrap_future(result)
                elif asyncio.iscoroutine(result):
                    result = await result
                else:
                    return result
        except Exception as exc:
            name = getattr(callback, "__name__", repr(callback))
            process.logger.exception("Process<%s>: error invoking '%s'", process.pid, name)
            raise RuntimeError(
                f"Error invoking callback '{name}'.\nException: {type(exc).__name__}: {exc}"
            ) from None

    return _crossing.hop(process.loop, answer)
