"""Sending calls and tasks, and receiving the answers."""

from __future__ import annotations

import concurrent.futures
import logging
import time
import uuid
from collections.abc import Hashable
from typing import Any

import aio_pika.exceptions
import kiwipy
from kiwipy.rmq import RmqThreadCommunicator, defaults, utils
from kiwipy.rmq.messages import BroadcastMessage
from pamqp import commands

from plumpy import _codec
from plumpy._rabbitmq._frames import body_of, consume
from plumpy._rabbitmq._operations import Publish
from plumpy._rabbitmq._pipeline import Pipeline, Settings
from plumpy._thread_futures import cancel, fail, succeed
from plumpy._uuids import random_uuid

_LOGGER = logging.getLogger(__name__)

TRANSIENT, PERSISTENT = 1, 2


async def declare_task_queue(channel: Any, settings: Settings, queue: str) -> None:
    """Declare the task exchange, a task queue, and what binds them, just as kiwipy does."""
    await channel.exchange_declare(
        settings.task_exchange, exchange_type="topic", auto_delete=settings.testing_mode
    )
    arguments: dict[str, Any] = {"x-message-ttl": defaults.TASK_MESSAGE_TTL}
    if settings.testing_mode:
        arguments["x-expires"] = defaults.TEST_QUEUE_EXPIRES
    await channel.queue_declare(queue, durable=not settings.testing_mode, arguments=arguments)
    await channel.queue_bind(queue, settings.task_exchange, routing_key=queue)


class Sending:
    """A message on its way: ``sent`` ends when the broker has it, ``answer`` with the answer."""

    __slots__ = ("answer", "publish", "sent")

    def __init__(self) -> None:
        self.sent = kiwipy.Future()
        self.answer = kiwipy.Future()
        self.publish: Publish | None = None

    def wait(self, timeout: float) -> kiwipy.Future:
        """Wait in a thread until the broker has the message; return the future for the answer.

        :raises kiwipy.TimeoutError: if it does not get it in time; it is not sent later
        """
        # An answer proves that the message was sent, and may be the first to be here.
        concurrent.futures.wait(
            [self.sent, self.answer], timeout, concurrent.futures.FIRST_COMPLETED
        )
        if self.sent.done():
            self.sent.result()
        elif not self.answer.done():
            self.give_up()
            raise kiwipy.TimeoutError(
                f"the broker did not take the message within {timeout:g} seconds"
            )
        return self.answer

    def give_up(self) -> None:
        """Do not send the message if that has not happened yet."""
        if self.publish is not None:
            self.publish.expires = 0.0


class RabbitClient:
    """The sending half of a communicator; methods may be called from any thread."""

    def __init__(self, communicator: RmqThreadCommunicator) -> None:
        """
        :raises AttributeError: if the communicator is not made as this release of kiwipy does it
        """
        self._settings = Settings(communicator)
        self._encode = _codec.faster_encoder(self._settings.encoder)
        self._decode = _codec.faster_decoder(self._settings.decoder)
        self._reply_queue = f"{self._settings.message_exchange}-reply-{uuid.uuid4()}"
        self._awaiting: dict[str, kiwipy.Future] = {}
        self._pipeline = Pipeline(
            self._settings,
            "calls and tasks",
            self._set_up,
            self._on_answer,
            on_close=self._close,
            largest=float("inf"),  # answers come when they were asked for
        )

    @property
    def timeout(self) -> float:
        """Seconds that kiwipy's own calls wait for the broker."""
        return self._settings.timeout

    def call(self, recipient: Hashable, msg: Any) -> Sending:
        """Call a recipient; ``sent`` ends with :class:`kiwipy.UnroutableError` if there is none."""
        return self._send(
            self._settings.message_exchange,
            f"{defaults.RPC_TOPIC}.{recipient}",
            self._encode(msg),
            TRANSIENT,
        )

    def send_task(self, task: Any, no_reply: bool = False) -> Sending:
        """Send a task to the communicator's queue."""
        return self._send(
            self._settings.task_exchange,
            self._settings.task_queue,
            self._encode((task, no_reply)),
            PERSISTENT,
            no_reply=no_reply,
        )

    def broadcast(self, body: Any, sender: Any, subject: Any, correlation_id: Any) -> Sending:
        """Broadcast a message; there is no answer."""
        message = BroadcastMessage.create(
            body, sender=sender, subject=subject, correlation_id=correlation_id
        )
        return self._send(
            self._settings.message_exchange,
            defaults.BROADCAST_TOPIC,
            self._encode(message),
            TRANSIENT,
            no_reply=True,
            mandatory=False,
        )

    def _send(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        delivery_mode: int,
        *,
        no_reply: bool = False,
        mandatory: bool = True,
    ) -> Sending:
        sending = Sending()
        correlation_id = str(random_uuid())

        def on_end(error: BaseException | None) -> None:
            if error is None:
                succeed(sending.sent, True)
                if no_reply:
                    succeed(sending.answer, None)
                return
            self._awaiting.pop(correlation_id, None)
            fail(sending.sent, _kiwipy_error(error))
            fail(sending.answer, _kiwipy_error(error))

        sending.publish = publish = Publish(
            exchange,
            routing_key,
            body,
            commands.Basic.Properties(
                delivery_mode=delivery_mode,
                correlation_id=correlation_id,
                message_id=correlation_id,
                reply_to=self._reply_queue,
            ),
            mandatory=mandatory,
            expires=time.monotonic() + self._settings.timeout,
            on_end=on_end,
        )

        def put() -> None:
            if not no_reply:
                self._awaiting[correlation_id] = sending.answer
            self._pipeline.put(publish)

        if not self._pipeline.say(put):
            on_end(kiwipy.CommunicatorClosed("the communicator is closed"))
        return sending

    # ------------------------------------------------------------------ the communicator's thread

    async def _set_up(self, channel: Any) -> None:
        settings = self._settings
        await channel.exchange_declare(
            settings.message_exchange, exchange_type="topic", auto_delete=settings.testing_mode
        )
        await declare_task_queue(channel, settings, settings.task_queue)
        await channel.queue_declare(
            self._reply_queue,
            exclusive=True,
            arguments={"x-expires": defaults.REPLY_QUEUE_EXPIRES},
        )
        for exchange in (settings.message_exchange, settings.task_exchange):
            await channel.queue_bind(self._reply_queue, exchange, routing_key=self._reply_queue)
        await consume(channel, self._reply_queue, no_ack=True)

    def _close(self) -> None:
        awaiting, self._awaiting = self._awaiting, {}
        for answer in awaiting.values():
            fail(answer, kiwipy.CommunicatorClosed("the communicator was closed"))

    def _on_answer(self, message: Any) -> None:
        correlation_id = message.header.properties.correlation_id
        answer = self._awaiting.pop(correlation_id, None)
        if answer is None:
            _LOGGER.debug("an answer to an unknown message, or a second one: %s", correlation_id)
            return
        try:
            response = self._decode(body_of(message))
            if utils.PENDING_KEY in response:
                longer = self._awaiting[correlation_id] = kiwipy.Future()
                succeed(answer, longer)
            elif utils.CANCELLED_KEY in response:
                cancel(answer)
            elif utils.EXCEPTION_KEY in response:
                fail(answer, kiwipy.RemoteException(response[utils.EXCEPTION_KEY]))
            else:
                succeed(answer, response[utils.RESULT_KEY])
        except Exception as exc:
            _LOGGER.warning("an answer could not be read: %s", exc)
            fail(answer, kiwipy.RemoteException(f"the answer could not be read: {exc}"))


def _kiwipy_error(error: BaseException) -> BaseException:
    """Return what kiwipy raises for an error of the layers below."""
    if isinstance(error, aio_pika.exceptions.DeliveryError):
        unroutable: BaseException = kiwipy.UnroutableError(str(error))
        return unroutable
    return error
