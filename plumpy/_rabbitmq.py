"""The outbox for kiwipy's RabbitMQ communicator: one pipelined channel on its own connection.

kiwipy awaits the broker once for every queue, binding, publication and acknowledgement. Here all of
that goes down one channel as it comes, and the answers are matched as they arrive; AMQP keeps the
order within a channel. All processes share one queue with a binding for each, and one binding for
broadcasts. What is on the wire (exchange, routing keys, bodies) is what kiwipy puts there, so that
both ends may be either.

When the channel or the connection is lost, everything is set up again as soon as the broker allows
it, and what was not confirmed is sent again: a message may then arrive twice, and never not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Hashable
from typing import Any

import aiormq.abc
import kiwipy
import pamqp.frame
from kiwipy.rmq import RmqThreadCommunicator, defaults, utils
from kiwipy.rmq.messages import BroadcastMessage
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from plumpy import _codec, _outbox

_LOGGER = logging.getLogger(__name__)

#: The last line of a broadcast of a state change, as kiwipy and AiiDA encode it. No process reads
#: those, and most broadcasts are of that kind, so that they are not even decoded.
_STATE_CHANGED = b"\nsubject: state_changed."
_RPC_PREFIX = f"{defaults.RPC_TOPIC}."
#: Messages written in one go.
_BATCH = 200


class _Operation:
    """Something that the broker is told, and that it acknowledges."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[_Flush] = []

    def frames(self, outbox: RabbitOutbox, channel: Any) -> bytes | None:
        """Return what to write; None if there is nothing to be said any more."""
        raise NotImplementedError

    def finish(self) -> None:
        for waiter in self.waiters:
            waiter.one_less()
        self.waiters = []


class _Bind(_Operation):
    __slots__ = ("dropped", "link", "routing_key", "written")

    def __init__(self, routing_key: str, link: _outbox.Subscription | None) -> None:
        super().__init__()
        self.routing_key = routing_key
        self.link = link
        self.written = False
        self.dropped = False

    def frames(self, outbox: RabbitOutbox, channel: Any) -> bytes | None:
        if self.dropped:
            return None
        self.written = True
        frame = commands.Queue.Bind(
            queue=outbox.queue_name, exchange=outbox.exchange, routing_key=self.routing_key
        )
        return pamqp.frame.marshal(frame, channel.number)

    def finish(self) -> None:
        super().finish()
        if self.link is not None:
            self.link.on_settled(not self.dropped)
            self.link = None


class _Unbind(_Operation):
    __slots__ = ("routing_key",)

    def __init__(self, routing_key: str) -> None:
        super().__init__()
        self.routing_key = routing_key

    def frames(self, outbox: RabbitOutbox, channel: Any) -> bytes | None:
        frame = commands.Queue.Unbind(
            queue=outbox.queue_name, exchange=outbox.exchange, routing_key=self.routing_key
        )
        return pamqp.frame.marshal(frame, channel.number)


class _Publish(_Operation):
    """A publication; it stands in aiormq's table of confirmations for itself."""

    __slots__ = ("body", "correlation_id", "expires", "on_confirm", "routing_key")

    def __init__(
        self,
        routing_key: str,
        body: bytes,
        correlation_id: str | None = None,
        expires: float = float("inf"),
    ) -> None:
        super().__init__()
        self.routing_key = routing_key
        self.body = body
        self.correlation_id = correlation_id
        self.expires = expires
        self.on_confirm: Any = None

    def frames(self, outbox: RabbitOutbox, channel: Any) -> bytes | None:
        if time.monotonic() > self.expires:
            outbox.count_expired()
            return None
        return outbox.publication(channel, self)

    def done(self) -> bool:
        return False

    def set_result(self, _: Any) -> None:
        self.on_confirm(self)

    def set_exception(self, error: BaseException) -> None:
        _LOGGER.warning("the broker did not take a message to %s: %s", self.routing_key, error)
        self.on_confirm(self)


class _Flush:
    """Waits for a number of operations."""

    def __init__(self, future: kiwipy.Future) -> None:
        self.future = future
        self.missing = 0

    def one_less(self) -> None:
        self.missing -= 1
        if self.missing <= 0 and not self.future.done():
            self.future.set_result(True)


class RabbitOutbox:
    """See the module. Public methods may be called from any thread; the rest belongs to the
    thread of the communicator."""

    def __init__(self, communicator: RmqThreadCommunicator) -> None:
        """
        :raises AttributeError: if the communicator is not made as this release of kiwipy does it
        """
        inner = communicator._communicator
        self._communicator = weakref.ref(communicator)
        self._loop: asyncio.AbstractEventLoop = communicator.loop()
        self._connection: Any = inner._connection
        self.exchange: str = inner._message_exchange
        self._auto_delete: bool = bool(inner._testing_mode)
        self._expires: int | None = inner._queue_expires
        self._encode = _codec.faster_encoder(inner._encoder)
        self._decode = _codec.faster_decoder(inner._decoder)
        self._lock = threading.Lock()
        self._inbox: deque[Any] = deque()
        self._awake = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.queue_name = ""
        self.links: dict[str, _outbox.Subscription] = {}
        self._binds: dict[str, _Bind] = {}
        self._listener: _outbox.Receiver | None = None
        # To be written, in order; written and waiting for the answer, in order; by delivery tag.
        self._queue: deque[_Operation] = deque()
        self._asked: deque[_Operation] = deque()
        self._unconfirmed: dict[int, _Publish] = {}
        self._tag = 0
        self._heads: dict[int, bytes] = {}
        self._expired = 0

    # ------------------------------------------------------------------ any thread

    def subscribe(self, link: _outbox.Subscription) -> None:
        self._say(self._do_subscribe, link)

    def unsubscribe(self, identifier: str) -> None:
        self._say(self._do_unsubscribe, identifier)

    def listen(self, receiver: _outbox.Receiver) -> None:
        self._say(self._do_listen, receiver)

    def broadcast(self, sender: Hashable, subject: str) -> None:
        self._say(self._do_broadcast, sender, subject)

    def flush(self) -> kiwipy.Future:
        done = kiwipy.Future()
        if not self._say(self._do_flush, done):
            done.set_result(True)
        return done

    def _say(self, method: Any, *args: Any) -> bool:
        """Leave something to do in the communicator's thread; False if that has ended."""
        self._inbox.append((method, args))
        with self._lock:
            if self._awake:
                return True
            self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:
            _LOGGER.debug("the communicator is closed: dropping what it was to be told")
            self._inbox.clear()
            return False
        return True

    # ------------------------------------------------------------------ what is said

    def _take(self) -> None:
        with self._lock:
            self._awake = False
        while self._inbox:
            method, args = self._inbox.popleft()
            method(*args)
        if self._task is None:
            self._task = self._loop.create_task(self._maintain())
        self._wake.set()

    def _do_subscribe(self, link: _outbox.Subscription) -> None:
        identifier = link.identifier
        self.links[identifier] = link
        self._binds[identifier] = bind = _Bind(_RPC_PREFIX + identifier, link)
        self._queue.append(bind)

    def _do_unsubscribe(self, identifier: str) -> None:
        self.links.pop(identifier, None)
        bind = self._binds.pop(identifier, None)
        if bind is not None:
            bind.dropped = True
            if not bind.written:
                return
        self._queue.append(_Unbind(_RPC_PREFIX + identifier))

    def _do_listen(self, receiver: _outbox.Receiver) -> None:
        self._listener = receiver
        self._queue.append(_Bind(defaults.BROADCAST_TOPIC, None))

    def _do_broadcast(self, sender: Hashable, subject: str) -> None:
        message = BroadcastMessage.create(None, sender=sender, subject=subject)
        try:
            body = self._encode(message)
        except Exception:
            _LOGGER.exception("cannot encode the broadcast %s of process %s", subject, sender)
            return
        expires = time.monotonic() + _outbox.BROADCAST_LIFETIME
        self._queue.append(_Publish(defaults.BROADCAST_TOPIC, body, expires=expires))

    def _do_flush(self, done: kiwipy.Future) -> None:
        waiter = _Flush(done)
        for operations in (self._queue, self._asked, self._unconfirmed.values()):
            for operation in operations:
                operation.waiters.append(waiter)
                waiter.missing += 1
        if waiter.missing == 0:
            done.set_result(True)

    def count_expired(self) -> None:
        """Count a broadcast that waited too long for the broker."""
        self._expired += 1

    # ------------------------------------------------------------------ the channel

    async def _maintain(self) -> None:
        """Keep a channel open for as long as the connection is wanted."""
        pause = _outbox.FIRST_PAUSE
        try:
            while not self._is_closed():
                try:
                    channel = await self._open()
                except Exception as exc:
                    if self._is_closed():
                        break
                    _LOGGER.warning("cannot set up the channel of the processes yet: %r", exc)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _outbox.LONGEST_PAUSE)
                    continue
                pause = _outbox.FIRST_PAUSE
                await self._serve(channel)
                self._take_back()
        finally:
            self._end()

    def _is_closed(self) -> bool:
        return bool(self._connection.is_closed or self._connection._close_called)

    async def _open(self) -> Any:
        while not self._connection.connected.is_set():
            if self._is_closed():
                raise kiwipy.CommunicatorClosed
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._connection.connected.wait(), 0.5)
        transport = self._connection.transport
        if transport is None:
            raise ConnectionError("the connection is lost")
        channel = await transport.connection.channel(publisher_confirms=True)
        try:
            await channel.exchange_declare(
                self.exchange, exchange_type="topic", auto_delete=self._auto_delete
            )
            arguments: dict[str, Any] = {"x-message-ttl": defaults.MESSAGE_TTL}
            if self._expires:
                arguments["x-expires"] = self._expires
            declared = await channel.queue_declare("", exclusive=True, arguments=arguments)
            self.queue_name = declared.queue
            await channel.basic_consume(self.queue_name, self._on_message, no_ack=True)
        except BaseException:
            await channel.close()
            raise
        self._tag = 0
        self._heads.clear()
        return channel

    async def _serve(self, channel: Any) -> None:
        """Write and match until the channel is gone."""
        writer = self._loop.create_task(self._write(channel))
        matcher = self._loop.create_task(self._match(channel))
        try:
            await asyncio.wait(
                [writer, matcher, channel.closing], return_when=asyncio.FIRST_COMPLETED
            )
            for task in (writer, matcher):
                if task.done() and not task.cancelled() and task.exception() is not None:
                    _LOGGER.error("the channel of the processes failed", exc_info=task.exception())
        finally:
            for task in (writer, matcher):
                task.cancel()
            await asyncio.gather(writer, matcher, return_exceptions=True)
            if not channel.is_closed:
                await channel.close()

    def _take_back(self) -> None:
        """After a loss: what was written and not acknowledged comes first again."""
        lost: list[_Operation] = [*self._unconfirmed.values()]
        self._unconfirmed.clear()
        # The new queue has no bindings: the ones that are wanted are made in the first place.
        unbinds = [op for op in (*self._asked, *self._queue) if isinstance(op, _Unbind)]
        binds = [op for op in (*self._asked, *self._queue) if isinstance(op, _Bind)]
        for gone in unbinds:
            gone.finish()
        self._asked.clear()
        rest = [op for op in self._queue if isinstance(op, _Publish)]
        again: dict[str, _Bind] = {}
        if self._listener is not None:
            again[defaults.BROADCAST_TOPIC] = _Bind(defaults.BROADCAST_TOPIC, None)
        for identifier, link in self.links.items():
            bind = again[_RPC_PREFIX + identifier] = _Bind(_RPC_PREFIX + identifier, link)
            self._binds[identifier] = bind
        for bind in binds:
            heir = again.get(bind.routing_key)
            if bind.dropped or heir is None:
                bind.finish()
            else:
                heir.waiters += bind.waiters
        self._queue = deque([*again.values(), *lost, *rest])
        self._wake.set()

    def _end(self) -> None:
        """Release everyone who waits, as nothing will be sent any more."""
        self._task = None
        left = [*self._queue, *self._asked, *self._unconfirmed.values()]
        self._queue.clear()
        self._asked.clear()
        self._unconfirmed.clear()
        for operation in left:
            if isinstance(operation, _Bind):
                operation.dropped = True
            operation.finish()

    async def _write(self, channel: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                payload = self._next_batch(channel)
                if payload:
                    drained = self._loop.create_future()
                    frame = aiormq.abc.ChannelFrame(
                        payload=payload, should_close=False, drain_future=drained
                    )
                    await channel.write_queue.put(frame)
                    await drained
            if self._expired:
                _LOGGER.warning(
                    "%d state broadcasts waited more than %g s for the broker and were dropped",
                    self._expired,
                    _outbox.BROADCAST_LIFETIME,
                )
                self._expired = 0

    def _next_batch(self, channel: Any) -> bytes:
        parts = []
        for _ in range(min(_BATCH, len(self._queue))):
            operation = self._queue.popleft()
            frames = operation.frames(self, channel)
            if frames is None:
                operation.finish()
                continue
            parts.append(frames)
            if isinstance(operation, _Publish):
                self._tag += 1
                tag = self._tag
                operation.on_confirm = lambda op, tag=tag: self._on_confirm(op, tag)
                self._unconfirmed[tag] = operation
                channel.confirmations[tag] = operation
            else:
                self._asked.append(operation)
        return b"".join(parts)

    def publication(self, channel: Any, publish: _Publish) -> bytes:
        """Return the frames of a publication."""
        body = publish.body
        frames = [
            pamqp.frame.marshal(
                commands.Basic.Publish(exchange=self.exchange, routing_key=publish.routing_key),
                channel.number,
            ),
            pamqp.frame.marshal(
                ContentHeader(
                    body_size=len(body),
                    properties=commands.Basic.Properties(
                        delivery_mode=1, correlation_id=publish.correlation_id
                    ),
                ),
                channel.number,
            ),
        ]
        size = channel.max_content_size
        for start in range(0, len(body), size):
            part = ContentBody(body[start : start + size])
            frames.append(pamqp.frame.marshal(part, channel.number))
        return b"".join(frames)

    def _on_confirm(self, publish: _Publish, tag: int) -> None:
        if self._unconfirmed.pop(tag, None) is publish:
            publish.finish()

    async def _match(self, channel: Any) -> None:
        """Match answers to what was asked; the channel asks for nothing else."""
        while True:
            await channel.rpc_frames.get()
            channel.rpc_frames.task_done()
            self._asked.popleft().finish()

    # ------------------------------------------------------------------ what is heard

    async def _on_message(self, message: Any) -> None:
        routing_key: str = message.delivery.routing_key
        if routing_key == defaults.BROADCAST_TOPIC:
            self._on_broadcast(message.body)
        else:
            self._on_call(routing_key.removeprefix(_RPC_PREFIX), message)

    def _on_broadcast(self, body: bytes) -> None:
        listener, communicator = self._listener, self._communicator()
        if listener is None or communicator is None:
            return
        if body.startswith(_STATE_CHANGED, body.rfind(b"\n", 0, -1)):
            return
        try:
            message = self._decode(body)
            details = (
                message[BroadcastMessage.BODY],
                message[BroadcastMessage.SENDER],
                message[BroadcastMessage.SUBJECT],
                message[BroadcastMessage.CORRELATION_ID],
            )
        except Exception as exc:
            _LOGGER.warning("ignoring a malformed broadcast of %d bytes: %s", len(body), exc)
            return
        listener(communicator, *details)

    def _on_call(self, identifier: str, message: Any) -> None:
        properties = message.header.properties
        link = self.links.get(identifier)
        if not properties.reply_to or link is None:
            if link is not None:
                _LOGGER.warning("ignoring a call to process %s without a sender", identifier)
            else:
                self._answer(properties, RuntimeError(f"process {identifier} has ended"))
            return
        try:
            body = self._decode(message.body)
        except Exception as exc:
            _LOGGER.warning("malformed call to process %s: %s", identifier, _brief(exc))
            self._answer(properties, ValueError(f"malformed message: {_brief(exc)}"))
            return
        link.ask(self._communicator(), body).add_done_callback(
            lambda done: self._say(self._on_answer, properties, done)
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
            result.add_done_callback(lambda inner: self._say(self._on_answer, properties, inner))
        else:
            self._send(properties, utils.result_response(result))

    def _answer(self, properties: Any, error: BaseException) -> None:
        self._send(properties, {utils.EXCEPTION_KEY: str(error) or type(error).__name__})

    def _send(self, properties: Any, response: dict[str, Any]) -> None:
        if not properties.reply_to:
            return
        try:
            body = self._encode(response)
        except Exception as exc:
            _LOGGER.exception("cannot encode the answer to a call")
            body = self._encode({utils.EXCEPTION_KEY: f"the answer cannot be sent: {_brief(exc)}"})
        self._queue.append(_Publish(properties.reply_to, body, properties.correlation_id))
        self._wake.set()


def _brief(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:200]}"
