"""What the broker sends down a channel, handled as it is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiormq.abc
import aiormq.exceptions
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from plumpy import _codec
from plumpy._rabbitmq._reading import UnreadableHeader

_LOGGER = logging.getLogger(__name__)

#: Methods that a message follows.
_CARRIERS = (commands.Basic.Deliver, commands.Basic.Return)


class Frames:
    """Takes the place of the queue of frames between aiormq's connection and one channel of it.

    Deliveries, returned messages and confirmations are handled at once and in the order of the
    broker; through the queue each would take a task and several turns of the loop. All other frames
    go on to the channel.

    Nothing of a body that is too large is kept: the message is delivered without a body, and
    :func:`body_of` says why.
    """

    def __init__(
        self,
        channel: Any,
        *,
        on_message: Callable[[Any], None],
        on_confirmed: Callable[[int, bool, BaseException | None], None],
        on_returned: Callable[[str | None, BaseException], None],
        on_cancelled: Callable[[], None],
        largest: float,
    ) -> None:
        """
        :param on_message: called with each delivery
        :param on_confirmed: called with a delivery tag, whether all tags before it are meant too,
            and the error if the broker refused the messages
        :param on_returned: called with a message id and the error
        :param on_cancelled: called when the broker takes a queue away
        :param largest: the most bytes that a body may have
        """
        self._channel = channel
        self._queue: asyncio.Queue[Any] = channel.frames
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._on_returned = on_returned
        self._on_cancelled = on_cancelled
        self._largest = largest
        # The message that is being read.
        self._method: Any = None
        self._header: ContentHeader | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        channel.frames = self

    # ------------------------------------------------------------------ as aiormq uses its queue

    async def put(self, item: tuple[int, Any]) -> None:
        """Handle one frame; called by the connection for each that it has read."""
        frame = item[1]
        if isinstance(frame, _CARRIERS):
            self._method = frame
        elif isinstance(frame, ContentHeader):
            self._header = frame
            self._missing = frame.body_size
            self._end_of_part()
        elif isinstance(frame, ContentBody):
            self._missing -= len(frame.value)
            if self._header is not None and self._header.body_size <= self._largest:
                self._parts.append(frame.value)
            self._end_of_part()
        elif isinstance(frame, commands.Basic.Ack):
            self._on_confirmed(frame.delivery_tag, frame.multiple, None)
        elif isinstance(frame, commands.Basic.Nack):
            error = aiormq.exceptions.DeliveryError(None, frame)
            self._on_confirmed(frame.delivery_tag, frame.multiple, error)
        elif isinstance(frame, commands.Basic.Cancel):
            self._on_cancelled()
        else:
            await self._queue.put(item)

    async def get(self) -> tuple[int, Any]:
        """Return the next frame that is for the channel itself."""
        item: tuple[int, Any] = await self._queue.get()
        return item

    def task_done(self) -> None:
        """Hear that a frame from :meth:`get` was handled."""
        self._queue.task_done()

    # ------------------------------------------------------------------ messages

    def _end_of_part(self) -> None:
        method, header = self._method, self._header
        if self._missing > 0 or method is None or header is None:
            return
        body = b"".join(self._parts)
        self._method = self._header = None
        self._parts = []
        message = aiormq.abc.DeliveredMessage(method, header, body, self._channel)
        if isinstance(method, commands.Basic.Return):
            error = aiormq.exceptions.PublishError(message, method)
            self._on_returned(header.properties.message_id, error)
            return
        # What is raised here would end the connection.
        try:
            self._on_message(message)
        except Exception:
            _LOGGER.exception("a message of %d bytes could not be handled", header.body_size)


def body_of(message: Any) -> bytes:
    """Return the body of a message.

    :raises ValueError: if it was too large to be kept, or the header could not be read
    """
    if isinstance(message.header, UnreadableHeader):
        raise ValueError("the properties cannot be decoded")
    size = message.header.body_size
    if size > len(message.body):
        raise ValueError(f"the body has {size} bytes, more than {_codec.LARGEST_BODY}")
    body: bytes = message.body
    return body


async def consume(channel: Any, queue: str, *, tag: str = "", no_ack: bool = False) -> None:
    """Have the messages of a queue delivered to the :class:`Frames` of a channel."""
    await channel.rpc(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack))
