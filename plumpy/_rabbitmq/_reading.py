"""Reading frames off a connection, also those whose headers cannot be read."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

import aiormq.exceptions
import pamqp.frame
from pamqp import constants
from pamqp.header import ContentHeader

from plumpy._rabbitmq._pace import breathe

_LOGGER = logging.getLogger(__name__)


class UnreadableHeader(ContentHeader):
    """Stands for the header of a message with properties that are no text, or no time."""


def outlive_unreadable_headers(connection: Any) -> None:
    """Keep a connection open when a message comes with properties that cannot be decoded.

    The broker passes properties on unseen. One that is no UTF-8, or a time beyond the year 9999,
    makes pamqp raise and aiormq give up the connection; the message goes back to its queue, and
    closes the next connection. From here on such a message is delivered with an
    :class:`UnreadableHeader`, to be refused like any other that is malformed.

    :param connection: an aiormq connection; left as it is if it is not made as that of aiormq 6
    """
    try:
        receiver = connection._reader_task.get_coro().cr_frame.f_locals["frame_receiver"]
        reader: asyncio.StreamReader = receiver.reader
    except (AttributeError, KeyError):
        _LOGGER.debug("this release of aiormq reads in another way: %r", connection)
        return

    async def get_frame() -> tuple[int, int, Any]:
        if breathe():
            # What has arrived already is read without waiting: others of this loop have their turn.
            await asyncio.sleep(0)
        try:
            head = await reader.readexactly(7)
            kind, channel, size = struct.unpack(">BHI", head)
            rest = await reader.readexactly(size + 1)
        except (asyncio.IncompleteReadError, OSError) as exc:
            raise aiormq.exceptions.AMQPConnectionError(
                f"the connection was lost while reading: {exc}"
            ) from exc
        try:
            frame: tuple[int, int, Any] = pamqp.frame.unmarshal(head + rest)
        except Exception:
            if kind != constants.FRAME_HEADER:
                raise
            _, weight, body_size = struct.unpack(">HHQ", rest[:12])
            return len(head) + len(rest), channel, UnreadableHeader(weight, body_size)
        return frame

    receiver.get_frame = get_frame
