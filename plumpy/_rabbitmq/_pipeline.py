"""A channel that is written to without waiting for the answers, and that comes back when lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiormq.abc
import kiwipy
from kiwipy.rmq import RmqThreadCommunicator

from plumpy import _codec, _outbox, _thread_futures
from plumpy._rabbitmq._frames import Frames
from plumpy._rabbitmq._operations import Flush, Operation, Publish
from plumpy._rabbitmq._pace import breathe
from plumpy._rabbitmq._reading import outlive_unreadable_headers

_LOGGER = logging.getLogger(__name__)

#: Operations written in one go.
_BATCH = 200
#: Seconds without anything said after which the thread has to be woken again.
_LULL = 0.001
#: As long as no more are on their way, they are written without waiting for the ones before.
_FEW = 20


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


class Pipeline:
    """One channel of a connection. :meth:`say` and :meth:`flush` may be called from any thread; the
    rest belongs to the thread of the connection."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        set_up: Callable[[Any], Awaitable[None]],
        on_message: Callable[[Any], None],
        rebuild: Callable[[], Iterable[Operation]] = tuple,
        on_close: Callable[[], None] | None = None,
        largest: float | None = None,
    ) -> None:
        """
        :param name: what the channel is for, for the log
        :param set_up: declares and consumes what is needed, on a new channel
        :param on_message: called with what is delivered; must not block
        :param rebuild: after a loss, returns what takes the place of all that was asked
        :param on_close: called when the connection is closed for good
        :param largest: the most bytes that a message may have; by default what may come unasked
        """
        self._settings = settings
        self._loop = settings.loop
        self._name = name
        self._set_up = set_up
        self._on_message = on_message
        self._rebuild = rebuild
        self._on_close = on_close
        self._largest = _codec.LARGEST_BODY if largest is None else largest
        self._lock = threading.Lock()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # Whether the inbox will be looked into without further notice, and when it last was.
        self._awake = False
        self._taken = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # To be written; written and waiting for the answer, in order; by delivery tag.
        self._queue: deque[Operation] = deque()
        self._asked: deque[Operation] = deque()
        self._unconfirmed: dict[int, Publish] = {}
        # Of those, the ones that the broker may send back, by message id.
        self._returnable: dict[str, Publish] = {}
        self._tag = 0
        # The channel, while what is put may be written to it at once.
        self._ready: Any = None
        self._taken_away: asyncio.Future[None]
        self._expired = 0
        self._closed = False

    # ------------------------------------------------------------------ any thread

    def say(self, function: Callable[..., None], *args: Any) -> bool:
        """Have a function called in the thread of the connection, in the order of the saying.

        :return: False if the connection is closed; the function may not be called then
        """
        self._inbox.append((function, args))
        with self._lock:
            if self._awake and not self._loop.is_closed():
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
        # Who is heard often is listened to for a while: to be woken each time costs both threads.
        now = self._loop.time()
        listens = (
            bool(self._inbox)
            and now - self._taken < 2 * _LULL
            and self._task is not None
            and not self._settings.is_closed()
        )
        self._taken = now
        if not listens:
            with self._lock:
                self._awake = False
        while self._inbox:
            function, args = self._inbox.popleft()
            function(*args)
            breathe()
        if listens:
            self._loop.call_later(_LULL, self._take)
        if self._task is None and not self._closed:
            if self._settings.is_closed():
                # The loop is about to stop: a task made now might never take its first step.
                self._close()
                return
            self._task = self._loop.create_task(self._maintain())
        self._write_now()

    def put(self, operation: Operation) -> None:
        """Have an operation written; to be called by what was said or on a message."""
        self._queue.append(operation)

    def _do_flush(self, done: kiwipy.Future) -> None:
        waiter = Flush(done)
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
                except (Exception, asyncio.CancelledError) as exc:
                    if self._is_over():
                        return
                    _LOGGER.warning("cannot open the channel for the %s yet: %r", self._name, exc)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _outbox.LONGEST_PAUSE)
                    continue
                pause = _outbox.FIRST_PAUSE
                try:
                    await self._serve(channel)
                except (Exception, asyncio.CancelledError) as exc:
                    if self._is_over():
                        return
                    _LOGGER.debug("the channel for the %s broke: %r", self._name, exc)
                if not self._settings.is_closed():
                    _LOGGER.info("the channel for the %s is lost; opening it again", self._name)
                self._take_back()
        finally:
            self._close()

    def _is_over(self) -> bool:
        """Tell whether an error of a wait is the end.

        A connection that breaks cancels, in aiormq, what waits for it: that alone ends nothing.
        """
        cancelling = getattr(asyncio.current_task(), "cancelling", None)
        cancelled = bool(cancelling()) if cancelling is not None else False
        return self._closed or cancelled or self._settings.is_closed()

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
        outlive_unreadable_headers(transport.connection)
        channel = await transport.connection.channel(publisher_confirms=True)
        self._taken_away = self._loop.create_future()
        Frames(
            channel,
            on_message=self._handle,
            on_confirmed=self._confirmed,
            on_returned=self._returned,
            on_cancelled=self._cancelled,
            largest=self._largest,
        )
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
                [writer, matcher, channel.closing, self._taken_away],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in (writer, matcher):
                if task.done() and not task.cancelled() and task.exception() is not None:
                    _LOGGER.error(
                        "the channel for the %s failed", self._name, exc_info=task.exception()
                    )
        finally:
            self._ready = None
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
        self._returnable.clear()
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
        with self._lock:
            self._awake = False  # nobody listens any more
        while self._inbox:
            function, args = self._inbox.popleft()
            function(*args)
        left = [*self._queue, *self._asked, *self._unconfirmed.values()]
        self._queue.clear()
        self._asked.clear()
        self._unconfirmed.clear()
        self._returnable.clear()
        for operation in left:
            operation.end(kiwipy.CommunicatorClosed("the communicator was closed"))
        if self._on_close is not None:
            self._on_close()

    async def _write(self, channel: Any) -> None:
        while True:
            while self._queue:
                payload = self._next_batch(channel)
                if payload:
                    drained = self._loop.create_future()
                    await channel.write_queue.put(_frame(payload, drained))
                    await drained
            self._report_expired()
            self._ready = channel
            await self._wake.wait()
            self._wake.clear()

    def _write_now(self) -> None:
        """Write a little at once, as nothing is under way; leave much to the writer."""
        channel = self._ready
        if channel is None or not self._queue:
            return
        if (
            len(self._queue) + len(self._unconfirmed) + len(self._asked) <= _FEW
            and not channel.write_queue.full()
        ):
            payload = self._next_batch(channel)
            if payload:
                channel.write_queue.put_nowait(_frame(payload))
            self._report_expired()
        else:
            self._ready = None
            self._wake.set()

    def _report_expired(self) -> None:
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
            breathe()
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
                self._expect_confirmation(operation)
            elif operation.asks:
                self._asked.append(operation)
            else:
                operation.end()
        return b"".join(parts)

    def _expect_confirmation(self, publish: Publish) -> None:
        self._tag += 1
        self._unconfirmed[self._tag] = publish
        if publish.mandatory:
            self._returnable[str(publish.properties.message_id)] = publish

    async def _match(self, channel: Any) -> None:
        """Match answers to what was asked; nobody else asks on this channel."""
        while True:
            await channel.rpc_frames.get()
            channel.rpc_frames.task_done()
            self._asked.popleft().end()

    # ------------------------------------------------------------------ what the broker says

    def _handle(self, message: Any) -> None:
        self._on_message(message)
        self._write_now()

    def _confirmed(self, tag: int, all_before: bool, error: BaseException | None) -> None:
        tags = [known for known in self._unconfirmed if known <= tag] if all_before else [tag]
        for known in tags:
            publish = self._unconfirmed.pop(known, None)
            if publish is not None:
                if publish.mandatory:
                    self._returnable.pop(str(publish.properties.message_id), None)
                publish.end(error)

    def _returned(self, message_id: str | None, error: BaseException) -> None:
        # Its confirmation follows.
        publish = self._returnable.pop(message_id or "", None)
        if publish is not None:
            publish.end(error)

    def _cancelled(self) -> None:
        if not self._taken_away.done():
            self._taken_away.set_result(None)


def _frame(payload: bytes, drained: asyncio.Future[None] | None = None) -> Any:
    return aiormq.abc.ChannelFrame(payload=payload, should_close=False, drain_future=drained)
