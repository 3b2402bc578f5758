"""The outbox of processes: one queue for all of them, with a binding for each."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import kiwipy
from kiwipy.rmq import RmqThreadCommunicator, defaults, utils
from kiwipy.rmq.messages import BroadcastMessage
from pamqp import commands

from plumpy import _codec, _outbox
from plumpy._rabbitmq._frames import body_of, consume
from plumpy._rabbitmq._operations import Ask, Operation, Publish
from plumpy._rabbitmq._pipeline import Pipeline, Settings

_LOGGER = logging.getLogger(__name__)

#: How the last line of a broadcast begins, as kiwipy and AiiDA encode it. Most broadcasts tell of
#: state changes that nobody here cares for: they are told by this line, and not decoded.
_SUBJECT = b"\nsubject: "
_RPC_PREFIX = f"{defaults.RPC_TOPIC}."
_TRANSIENT = commands.Basic.Properties(delivery_mode=1)


class RabbitOutbox(_outbox.Pipelined):
    """See :class:`plumpy._outbox.Outbox`. Methods without an underscore may be called from any
    thread; the rest belongs to the thread of the communicator."""

    def __init__(self, communicator: RmqThreadCommunicator) -> None:
        """
        :raises AttributeError: if the communicator is not made as this release of kiwipy does it
        """
        self._settings = Settings(communicator)
        self._communicator = weakref.ref(communicator)
        self._exchange = self._settings.message_exchange
        self._encode = _codec.faster_encoder(self._settings.encoder)
        self._decode = _codec.careful_decoder(self._settings.decoder)
        self._queue_name = ""
        self._links: dict[str, _outbox.Subscription] = {}
        # Those that the broker has not answered yet.
        self._binds: dict[str, Ask] = {}
        self._listener: _outbox.Receiver | None = None
        self._wants: Callable[[str], bool] = bool
        self._pipeline = Pipeline(
            self._settings, "processes", self._set_up, self._on_message, self._rebuild
        )

    def subscribe(self, link: _outbox.Subscription) -> None:
        if not self._pipeline.say(self._subscribe, link):
            link.on_settled(False)

    def unsubscribe(self, identifier: str) -> None:
        self._pipeline.say(self._unsubscribe, identifier)

    def listen(self, receiver: _outbox.Receiver, wants: Callable[[str], bool]) -> None:
        self._pipeline.say(self._listen, receiver, wants)

    def broadcast(self, sender: Hashable, subject: str) -> None:
        self._pipeline.say(self._broadcast, sender, subject)

    def flush(self) -> kiwipy.Future:
        return self._pipeline.flush()

    # ------------------------------------------------------------------ what is said

    def _subscribe(self, link: _outbox.Subscription) -> None:
        self._links[link.identifier] = link
        self._pipeline.put(self._bind_link(link))

    def _bind_link(self, link: _outbox.Subscription) -> Ask:
        def on_end(error: BaseException | None) -> None:
            replaced = self._binds.get(link.identifier) is not bind
            if not replaced:
                del self._binds[link.identifier]
            if bind.dropped or error is not None:
                link.on_settled(False)
            elif not replaced:
                link.on_settled(True)

        bind = self._bind(_RPC_PREFIX + link.identifier, on_end)
        self._binds[link.identifier] = bind
        return bind

    def _bind(
        self, routing_key: str, on_end: Callable[[BaseException | None], None] | None = None
    ) -> Ask:
        return Ask(
            lambda _: commands.Queue.Bind(
                queue=self._queue_name, exchange=self._exchange, routing_key=routing_key
            ),
            on_end,
        )

    def _unsubscribe(self, identifier: str) -> None:
        self._links.pop(identifier, None)
        bind = self._binds.pop(identifier, None)
        if bind is not None:
            bind.dropped = True
            if not bind.written:
                return
        routing_key = _RPC_PREFIX + identifier
        self._pipeline.put(
            Ask(
                lambda _: commands.Queue.Unbind(
                    queue=self._queue_name, exchange=self._exchange, routing_key=routing_key
                )
            )
        )

    def _listen(self, receiver: _outbox.Receiver, wants: Callable[[str], bool]) -> None:
        self._listener = receiver
        self._wants = wants
        self._pipeline.put(self._bind(defaults.BROADCAST_TOPIC))

    def _broadcast(self, sender: Hashable, subject: str) -> None:
        body = _codec.state_broadcast(sender, subject, self._encode)
        if body is None:
            return
        expires = time.monotonic() + _outbox.BROADCAST_LIFETIME
        self._pipeline.put(
            Publish(self._exchange, defaults.BROADCAST_TOPIC, body, _TRANSIENT, expires=expires)
        )

    # ------------------------------------------------------------------ the channel

    async def _set_up(self, channel: Any) -> None:
        await channel.exchange_declare(
            self._exchange, exchange_type="topic", auto_delete=self._settings.testing_mode
        )
        arguments: dict[str, Any] = {"x-message-ttl": defaults.MESSAGE_TTL}
        if self._settings.queue_expires:
            arguments["x-expires"] = self._settings.queue_expires
        declared = await channel.queue_declare("", exclusive=True, arguments=arguments)
        self._queue_name = declared.queue
        await consume(channel, self._queue_name, no_ack=True)

    def _rebuild(self) -> Iterable[Operation]:
        # The new queue has no bindings.
        if self._listener is not None:
            yield self._bind(defaults.BROADCAST_TOPIC)
        for link in self._links.values():
            yield self._bind_link(link)

    # ------------------------------------------------------------------ what is heard

    def _on_message(self, message: Any) -> None:
        routing_key: str = message.delivery.routing_key
        if routing_key == defaults.BROADCAST_TOPIC:
            self._on_broadcast(message)
        else:
            self._on_call(routing_key.removeprefix(_RPC_PREFIX), message)

    def _on_broadcast(self, message: Any) -> None:
        listener, communicator = self._listener, self._communicator()
        if listener is None or communicator is None:
            return
        body: bytes = message.body
        start = body.rfind(b"\n", 0, -1)
        if body.startswith(_SUBJECT, start):
            subject = body[start + len(_SUBJECT) : -1].decode("utf-8", "replace")
            if not self._wants(subject):
                return
        try:
            broadcast = self._decode(body_of(message))
            details = (
                broadcast[BroadcastMessage.BODY],
                broadcast[BroadcastMessage.SENDER],
                broadcast[BroadcastMessage.SUBJECT],
                broadcast[BroadcastMessage.CORRELATION_ID],
            )
        except Exception as exc:
            _LOGGER.warning(
                "ignoring a malformed broadcast of %d bytes: %s",
                message.header.body_size,
                _brief(exc),
            )
            return
        listener(communicator, *details)

    def _on_call(self, identifier: str, message: Any) -> None:
        properties = message.header.properties
        if not properties.reply_to:
            _LOGGER.warning("ignoring a call to process %s without a sender", identifier)
            return
        link = self._links.get(identifier)
        if link is None:
            self._answer(properties, RuntimeError(f"process {identifier} has ended"))
            return
        try:
            body = self._decode(body_of(message))
        except Exception as exc:
            _LOGGER.warning("malformed call to process %s: %s", identifier, _brief(exc))
            self._answer(properties, ValueError(f"malformed message: {_brief(exc)}"))
            return
        link.ask(self._communicator(), body).add_done_callback(
            lambda done: self._pipeline.say(self._on_answer, properties, done)
        )

    def _on_answer(self, properties: Any, done: kiwipy.Future) -> None:
        """Send on what a process answered. A future in it means that it takes longer."""
        if done.cancelled():
            self._send(properties, utils.cancelled_response("the call was cancelled"))
            return
        error = done.exception()
        if error is not None:
            self._answer(properties, error)
            return
        result = done.result()
        if isinstance(result, kiwipy.Future):
            self._send(properties, utils.pending_response())
            result.add_done_callback(
                lambda inner: self._pipeline.say(self._on_answer, properties, inner)
            )
        else:
            self._send(properties, utils.result_response(result))

    def _answer(self, properties: Any, error: BaseException) -> None:
        self._send(properties, {utils.EXCEPTION_KEY: str(error) or type(error).__name__})

    def _send(self, properties: Any, response: dict[str, Any]) -> None:
        try:
            body = self._encode(response)
        except Exception as exc:
            _LOGGER.exception("cannot encode the answer to a call")
            body = self._encode({utils.EXCEPTION_KEY: f"the answer cannot be sent: {_brief(exc)}"})
        self._pipeline.put(
            Publish(
                self._exchange,
                properties.reply_to,
                body,
                commands.Basic.Properties(
                    delivery_mode=1, correlation_id=properties.correlation_id
                ),
            )
        )


def _brief(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:200]}"
