"""A channel that is written to without waiting for the answers, and that comes back when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiormq.abc
import kiwipy
import pamqp.frame
from kiwipy.rmq import RmqThreadCommunicator
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from plumpy import _outbox, _thread_futures

_LOGGER = logging.getLogger(__name__)

#: Operations written in one go.
_BATCH = 200


class Settings:
    """How a communicator is set up; :class:`AttributeError` if it is not made as kiwipy 0.9's."""

    def __init__(self, communicator: RmqThreadCommunicator) -> None:
        inner = communicator._communicator
        self.loop: asyncio.AbstractEventLoop = communicator.loop()
        self.connection: Any = inner._connection
        self.message_exchange: str = inner._message_exchange
        self.queue_expires: int | None = inner._queue_expires
        self.task_exchange: str = inner._task_exchange
        self.task_queue: str = inner._task_queue
        self.prefetch_count: int = inner._task_prefetch_count
        self.encoder: Callable[[Any], Any] = inner._encoder
        self.decoder: Callable[[bytes], Any] = inner._decoder
        self.testing_mode: bool = bool(inner._testing_mode)
        # How long kiwipy's own calls wait, in seconds.
        self.timeout: float = communicator._loop_scheduler.task_timeout

    def is_closed(self) -> bool:
        """Tell whether the connection was closed for good."""
        return bool(self.connection.is_closed or self.connection._close_called)


class Operation:
    """Something to be written. ``on_end`` is told once how it went: None or an error."""

    __slots__ = ("_ended", "on_end", "waiters")
    #: Whether the broker answers it, in the order of the asking.
    asks = False

    def __init__(self, on_end: Callable[[BaseException | None], None] | None = None) -> None:
        self.on_end = on_end
        self.waiters: list[_Flush] = []
        self._ended = False

    def frames(self, channel: Any) -> bytes | None:
        """Return what to write; None if there is nothing to be said any more."""
        raise NotImplementedError

    def end(self, error: BaseException | None = None) -> None:
        """Tell everyone who waits."""
        if self._ended:
            return
        self._ended = True
        for waiter in self.waiters:
            waiter.one_less()
        self.waiters = []
        if self.on_end is not None:
            self.on_end(error)


class Ask(Operation):
    """A method that the broker answers."""

    __slots__ = ("dropped", "method", "written")
    asks = True

    def __init__(
        self,
        method: Callable[[Any], Any],
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        """
        :param method: returns the pamqp command, given the channel that it is written to, or None
            if there is nothing to be asked any more
        """
        super().__init__(on_end)
        self.method = method
        self.written = False
        self.dropped = False

    def frames(self, channel: Any) -> bytes | None:
        if self.dropped:
            return None
        self.written = True
        method = self.method(channel)
        return None if method is None else pamqp.frame.marshal(method, channel.number)


class Tell(Operation):
    """A method without an answer, for one channel only: it is void once that is lost."""

    __slots__ = ("channel", "method")

    def __init__(self, channel: Any, method: Any) -> None:
        super().__init__()
        self.channel = channel
        self.method = method

    def frames(self, channel: Any) -> bytes | None:
        if channel is not self.channel:
            return None
        return pamqp.frame.marshal(self.method, channel.number)


class Publish(Operation):
    """A publication, which the broker confirms."""

    __slots__ = ("body", "exchange", "expires", "mandatory", "properties", "routing_key", "tag")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: commands.Basic.Properties,
        *,
        mandatory: bool = False,
        expires: float = float("inf"),
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        """
        :param mandatory: end with an error if no queue gets it; needs a message id
        :param expires: the monotonic time after which it is not worth to be sent
        """
        super().__init__(on_end)
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.mandatory = mandatory
        self.expires = expires
        self.tag = 0

    def frames(self, channel: Any) -> bytes | None:
        if time.monotonic() > self.expires:
            return None
        number = channel.number
        method = commands.Basic.Publish(
            exchange=self.exchange, routing_key=self.routing_key, mandatory=self.mandatory
        )
        header = ContentHeader(body_size=len(self.body), properties=self.properties)
        parts = [pamqp.frame.marshal(method, number), pamqp.frame.marshal(header, number)]
        size = channel.max_content_size
        for start in range(0, len(self.body), size):
            part = ContentBody(self.body[start : start + size])
            parts.append(pamqp.frame.marshal(part, number))
        return b"".join(parts)


class _Flush:
    """Waits for a number of operations."""

    def __init__(self, future: kiwipy.Future) -> None:
        self.future = future
        self.missing = 0

    def one_less(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            _thread_futures.succeed(self.future, True)


class Pipeline:
    """One channel of a connection. :meth:`say` and :meth:`flush` may be called from any thread; the
    rest belongs to the thread of the connection."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        set_up: Callable[[Any], Awaitable[None]],
        rebuild: Callable[[], Iterable[Operation]] = tuple,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """
        :param name: what the channel is for, for the log
        :param set_up: declares and consumes what is needed, on a new channel
        :param rebuild: after a loss, returns what takes the place of all that was asked
        :param on_close: called when the connection is closed for good
        """
        self._settings = settings
        self._loop = settings.loop
        self._name = name
        self._set_up = set_up
        self._rebuild = rebuild
        self._on_close = on_close
        self._lock = threading.Lock()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # To be written; written and waiting for the answer, in order; by delivery tag.
        self._queue: deque[Operation] = deque()
        self._asked: deque[Operation] = deque()
        self._unconfirmed: dict[int, Publish] = {}
        self._tag = 0
        self._expired = 0
        self._closed = False

    # ------------------------------------------------------------------ any thread

    def say(self, function: Callable[..., None], *args: Any) -> bool:
        """Have a function called in the thread of the connection, in the order of the saying.

        :return: False if the connection is closed; the function may not be called then
        """
        self._inbox.append((function, args))
        with self._lock:
            if self._awake:
                return True
            self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:
            _LOGGER.debug("the connection is closed: dropping what was for the %s", self._name)
            self._inbox.clear()
            self._awake = False
            return False
        return True

    def flush(self) -> kiwipy.Future:
        """Return a future that is done when the broker has answered all that was said before."""
        done = kiwipy.Future()
        if not self.say(self._do_flush, done):
            _thread_futures.succeed(done, True)
        return done

    def close(self) -> None:
        """Close the channel for good."""
        self.say(self._do_close)

    # ------------------------------------------------------------------ the thread of the loop

    def _do_close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    def _take(self) -> None:
        with self._lock:
            self._awake = False
        while self._inbox:
            function, args = self._inbox.popleft()
            function(*args)
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._maintain())
        self._wake.set()

    def put(self, operation: Operation) -> None:
        """Have an operation written."""
        self._queue.append(operation)
        self._wake.set()

    def _do_flush(self, done: kiwipy.Future) -> None:
        waiter = _Flush(done)
        for operations in (self._queue, self._asked, self._unconfirmed.values()):
            for operation in operations:
                operation.waiters.append(waiter)
                waiter.missing += 1
        if waiter.missing == 0:
            waiter.one_less()

    async def _maintain(self) -> None:
        """Keep a channel open for as long as the connection is wanted."""
        pause = _outbox.FIRST_PAUSE
        try:
            while not self._settings.is_closed():
                try:
                    channel = await self._open()
                except Exception as exc:
                    if self._settings.is_closed():
                        break
                    _LOGGER.warning("cannot open the channel for the %s yet: %r", self._name, exc)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _outbox.LONGEST_PAUSE)
                    continue
                pause = _outbox.FIRST_PAUSE
                await self._serve(channel)
                if not self._settings.is_closed():
                    _LOGGER.info("the channel for the %s is lost; opening it again", self._name)
                self._take_back()
        finally:
            self._close()

    async def _open(self) -> Any:
        connection = self._settings.connection
        while not connection.connected.is_set():
            if self._settings.is_closed():
                raise kiwipy.CommunicatorClosed
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(connection.connected.wait(), 0.5)
        transport = connection.transport
        if transport is None:
            raise ConnectionError("the connection is lost")
        channel = await transport.connection.channel(publisher_confirms=True)
        try:
            await self._set_up(channel)
        except BaseException:
            with contextlib.suppress(Exception):
                await channel.close()
            raise
        self._tag = 0
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
                    _LOGGER.error(
                        "the channel for the %s failed", self._name, exc_info=task.exception()
                    )
        finally:
            for task in (writer, matcher):
                task.cancel()
            await asyncio.gather(writer, matcher, return_exceptions=True)
            if not channel.is_closed:
                await channel.close()

    def _take_back(self) -> None:
        """After a loss: what was published and not confirmed comes first again."""
        asked = [op for op in (*self._asked, *self._queue) if op.asks]
        published = [*self._unconfirmed.values(), *(op for op in self._queue if not op.asks)]
        self._asked.clear()
        self._unconfirmed.clear()
        again = list(self._rebuild())
        self._queue = deque([*again, *published])
        # Who waited for something that was asked waits for what takes its place.
        waiters = {id(waiter): waiter for op in asked for waiter in op.waiters}
        for operation in asked:
            operation.end()
        for waiter in waiters.values():
            if not waiter.future.done():
                for operation in again:
                    operation.waiters.append(waiter)
                    waiter.missing += 1
        self._wake.set()

    def _close(self) -> None:
        """Release everyone who waits, as nothing will be sent any more."""
        self._task = None
        left = [*self._queue, *self._asked, *self._unconfirmed.values()]
        self._queue.clear()
        self._asked.clear()
        self._unconfirmed.clear()
        for operation in left:
            operation.end(kiwipy.CommunicatorClosed("the communicator was closed"))
        if self._on_close is not None:
            self._on_close()

    async def _write(self, channel: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                payload = self._next_batch(channel)
                if payload:
                    drained = self._loop.create_future()
                    await channel.write_queue.put(
                        aiormq.abc.ChannelFrame(
                            payload=payload, should_close=False, drain_future=drained
                        )
                    )
                    await drained
            if self._expired:
                _LOGGER.warning(
                    "%d broadcasts waited more than %g s for the broker and were dropped",
                    self._expired,
                    _outbox.BROADCAST_LIFETIME,
                )
                self._expired = 0

    def _next_batch(self, channel: Any) -> bytes:
        parts = []
        for _ in range(min(_BATCH, len(self._queue))):
            operation = self._queue.popleft()
            frames = operation.frames(channel)
            if frames is None:
                if isinstance(operation, Publish):
                    self._expired += operation.on_end is None
                    operation.end(
                        kiwipy.TimeoutError("the broker did not take the message in time")
                    )
                operation.end()
                continue
            parts.append(frames)
            if isinstance(operation, Publish):
                self._expect_confirmation(channel, operation)
            elif operation.asks:
                self._asked.append(operation)
            else:
                operation.end()
        return b"".join(parts)

    def _expect_confirmation(self, channel: Any, publish: Publish) -> None:
        self._tag += 1
        publish.tag = self._tag
        self._unconfirmed[publish.tag] = publish
        channel.confirmations[publish.tag] = _Confirmation(self._unconfirmed, publish)
        if publish.mandatory:
            channel.message_id_delivery_tag[publish.properties.message_id] = publish.tag

    async def _match(self, channel: Any) -> None:
        """Match answers to what was asked; nobody else asks on this channel."""
        while True:
            await channel.rpc_frames.get()
            channel.rpc_frames.task_done()
            self._asked.popleft().end()


class _Confirmation:
    """What aiormq tells of the fate of one publication."""

    __slots__ = ("publish", "unconfirmed")

    def __init__(self, unconfirmed: dict[int, Publish], publish: Publish) -> None:
        self.unconfirmed = unconfirmed
        self.publish = publish

    def done(self) -> bool:
        return False

    def set_result(self, _: Any) -> None:
        self._end(None)

    def set_exception(self, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self.unconfirmed.pop(self.publish.tag, None) is not None:
            self.publish.end(error)
