"""What a process does about the messages that reach it: methods of :class:`plumpy.Process`."""

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


def receive(self: Process, _comm: kiwipy.Communicator, msg: MessageType) -> Any:
    """Answer a message to this process: at once, or by a future.

    :raises RuntimeError: if the message is not understood
    """
    intent = msg.get(INTENT_KEY) if isinstance(msg, dict) else None
    if intent == Intent.PLAY:
        return self._schedule_rpc(self.play)
    if intent == Intent.PAUSE:
        return self._schedule_rpc(self.pause, msg_text=msg.get(MESSAGE_TEXT_KEY))
    if intent == Intent.KILL:
        return self._schedule_rpc(
            self.kill,
            msg_text=msg.get(MESSAGE_TEXT_KEY),
            force_kill=msg.get(FORCE_KILL_KEY, False),
        )
    if intent == Intent.STATUS:
        status: dict[str, Any] = {}
        self.get_status_info(status)
        return status
    raise RuntimeError("Unknown intent")


def receive_broadcast(
    self: Process,
    _comm: kiwipy.Communicator,
    msg: MessageType,
    sender: Any,
    subject: Any,
    correlation_id: Any,
) -> kiwipy.Future | None:
    """Do what a broadcast asks for, if it means this process.

    :param msg: a message as for :meth:`message_receive`, or its text alone
    """
    text = msg.get(MESSAGE_TEXT_KEY) if isinstance(msg, dict) else msg
    if subject == Intent.PLAY:
        return self._schedule_rpc(self.play)
    if subject == Intent.PAUSE:
        return self._schedule_rpc(self.pause, msg_text=text)
    if subject == Intent.KILL:
        return self._schedule_rpc(self.kill, msg_text=text)
    return None


def schedule(
    self: Process, callback: Callable[..., Any], *args: Any, **kwargs: Any
) -> kiwipy.Future:
    """Call something on the loop of the process; the answer is what it finally comes to, not a
    future.

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
            self.logger.exception("Process<%s>: error invoking '%s'", self.pid, name)
            raise RuntimeError(
                f"Error invoking callback '{name}'.\nException: {type(exc).__name__}: {exc}"
            ) from None

    return _crossing.hop(self.loop, answer)
