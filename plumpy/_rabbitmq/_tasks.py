"""Receiving tasks from a queue."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import uuid
from collections.abc import Callable
from typing import Any

import kiwipy
from kiwipy.rmq import RmqThreadCommunicator, utils
from pamqp import commands

from plumpy import _codec
from plumpy._rabbitmq._client import TRANSIENT, declare_task_queue
from plumpy._rabbitmq._frames import body_of, consume
from plumpy._rabbitmq._operations import Ask, Publish, Tell
from plumpy._rabbitmq._pipeline import Pipeline, Settings

_LOGGER = logging.getLogger(__name__)

#: Seconds before a task that nobody here wanted goes back to the queue, for each time it came. The
#: workers that share a queue may not all do the same; but what none does would go round for ever.
_REJECTION_PAUSES = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0)
#: How many rejected tasks are remembered.
_MOST_REJECTED = 1000


class TaskMessage:
    """One task from the queue. It is to be acknowledged or put back; answers may follow later.

    Methods may be called from any thread.
    """

    __slots__ = ("_channel", "_consumer", "_settled", "_tag", "body", "no_reply", "properties")

    def __init__(self, consumer: TaskConsumer, message: Any, body: Any, no_reply: bool) -> None:
        self._consumer = consumer
        self._channel = message.channel
        self._tag: int = message.delivery.delivery_tag
        self._settled = False
        self.properties = message.header.properties
        self.body = body
        self.no_reply = no_reply

    @property
    def reply_to(self) -> str | None:
        """The routing key for answers; None if none is wanted."""
        return None if self.no_reply else self.properties.reply_to

    @property
    def correlation_id(self) -> str | None:
        """What the sender knows the task by; the same when the task is delivered again."""
        value: str | None = self.properties.correlation_id
        return value

    def acknowledge(self) -> None:
        """Take the task over: the broker forgets it."""
        self._settle(commands.Basic.Ack(delivery_tag=self._tag))

    def put_back(self) -> None:
        """Give the task back to the queue, for any worker."""
        self._settle(commands.Basic.Nack(delivery_tag=self._tag, requeue=True))

    def _settle(self, method: Any) -> None:
        if not self._settled:
            self._settled = True
            self._consumer.tell(self._channel, method)

    def respond(self, response: dict[str, Any]) -> kiwipy.Future:
        """Send an answer in the form of kiwipy; the future is done when the broker has it."""
        return self._consumer.respond(self.reply_to, self.correlation_id, response)


class TaskConsumer:
    """Consumes a task queue on a channel of its own; methods may be called from any thread."""

    def __init__(
        self,
        communicator: RmqThreadCommunicator,
        on_task: Callable[[TaskMessage], None],
        *,
        queue: str | None = None,
        prefetch: int = 0,
        decode: Callable[[bytes], Any] | None = None,
        consuming: bool = True,
    ) -> None:
        """
        :param on_task: called in the communicator's thread; must not block
        :param queue: the queue; that of the communicator by default
        :param prefetch: the number of tasks that may be had without being acknowledged; 0 means
            that of the communicator
        :param decode: reads bodies; the decoder of the communicator by default
        :param consuming: begin at once
        :raises AttributeError: if the communicator is not made as this release of kiwipy does it
        """
        self._settings = Settings(communicator)
        self._on_task = on_task
        self._queue = queue or self._settings.task_queue
        self._prefetch = prefetch or self._settings.prefetch_count
        self._encode = _codec.faster_encoder(self._settings.encoder)
        self._decode = decode or _codec.careful_decoder(self._settings.decoder)
        self._tag = f"plumpy-{uuid.uuid4()}"
        self._host = utils.get_host_info()
        # Whether tasks are wanted, and whether the present channel has been told so.
        self._wanted = consuming
        self._consuming = False
        self._pipeline = Pipeline(
            self._settings, f"tasks from {self._queue}", self._set_up, self._on_message
        )
        self._pipeline.say(lambda: None)

    @property
    def timeout(self) -> float:
        """Seconds that kiwipy's own calls wait for the broker."""
        return self._settings.timeout

    def start(self) -> None:
        """Take tasks."""
        self._pipeline.say(self._switch, True)

    def stop(self) -> kiwipy.Future:
        """Take no more tasks; the future is done when none can arrive any more."""
        self._pipeline.say(self._switch, False)
        return self._pipeline.flush()

    def flush(self) -> kiwipy.Future:
        """Return a future that is done when the broker has all that was said before."""
        return self._pipeline.flush()

    def close(self) -> None:
        """Close the channel; what was not acknowledged goes back to the queue."""
        self._pipeline.close()

    def tell(self, channel: Any, method: Any) -> None:
        """Say something about a delivery; void if the channel it came by is lost."""
        self._pipeline.say(lambda: self._pipeline.put(Tell(channel, method)))

    def respond(
        self, reply_to: str | None, correlation_id: str | None, response: dict[str, Any]
    ) -> kiwipy.Future:
        """Send an answer; the future is done when the broker has it, or it cannot be sent."""
        done = kiwipy.Future()
        if reply_to is None:
            done.set_result(True)
            return done
        try:
            body = self._encode({**response, utils.HOST_KEY: self._host})
        except Exception as exc:
            _LOGGER.exception("cannot encode the answer to a task")
            body = self._encode({utils.EXCEPTION_KEY: f"the answer cannot be sent: {exc}"})
        properties = commands.Basic.Properties(
            delivery_mode=TRANSIENT, correlation_id=correlation_id
        )
        publish = Publish(
            self._settings.task_exchange,
            reply_to,
            body,
            properties,
            on_end=lambda error: done.set_result(error is None),
        )
        if not self._pipeline.say(lambda: self._pipeline.put(publish)):
            done.set_result(False)
        return done

    # ------------------------------------------------------------------ the communicator's thread

    async def _set_up(self, channel: Any) -> None:
        await declare_task_queue(channel, self._settings, self._queue)
        await channel.basic_qos(prefetch_count=self._prefetch)
        self._consuming = self._wanted
        if self._consuming:
            await consume(channel, self._queue, tag=self._tag)

    def _switch(self, wanted: bool) -> None:
        self._wanted = wanted
        self._pipeline.put(Ask(self._consume_or_cancel))

    def _consume_or_cancel(self, channel: Any) -> Any:
        if self._wanted == self._consuming:
            return None
        self._consuming = self._wanted
        if not self._wanted:
            return commands.Basic.Cancel(consumer_tag=self._tag)
        return commands.Basic.Consume(queue=self._queue, consumer_tag=self._tag)

    def _on_message(self, message: Any) -> None:
        try:
            content = self._decode(body_of(message))
            if not isinstance(content, list | tuple) or [type(part) for part in content[1:]] != [
                bool
            ]:
                raise ValueError("a task comes in a pair, with whether no answer is wanted")
            task = TaskMessage(self, message, *content)
        except Exception as exc:
            # It would be as malformed the next time.
            text = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
            _LOGGER.warning(
                "rejecting a malformed task of %d bytes: %s", message.header.body_size, text
            )
            task = TaskMessage(self, message, None, False)
            task.respond({utils.EXCEPTION_KEY: f"malformed task: {text}"})
            task.acknowledge()
            return
        try:
            self._on_task(task)
        except Exception:
            _LOGGER.exception("a task could not be handled; putting it back")
            task.put_back()


class TaskSubscribers:
    """The task subscribers of a communicator, asked in order until one does not reject a task."""

    def __init__(self, communicator: RmqThreadCommunicator) -> None:
        self._loop: asyncio.AbstractEventLoop = communicator.loop()
        self._subscribers: dict[Any, Callable[[Any], kiwipy.Future]] = {}
        # How often tasks came in vain, by what their sender knows them by.
        self._rejections: dict[str, int] = {}
        self._consumer = TaskConsumer(communicator, self._on_task, consuming=False)

    def add(self, subscriber: Callable[[Any], kiwipy.Future], identifier: Any) -> Any:
        """Add one.

        :param subscriber: called with a task in the communicator's thread; returns a future
        :raises kiwipy.DuplicateSubscriberIdentifier: if the identifier is in use
        """
        identifier = identifier or str(uuid.uuid4())
        if identifier in self._subscribers:
            raise kiwipy.DuplicateSubscriberIdentifier(f"Task identifier '{identifier}'")
        self._subscribers[identifier] = subscriber
        self._consumer.start()
        concurrent.futures.wait([self._consumer.flush()], self._consumer.timeout)
        return identifier

    def has(self, identifier: Any) -> bool:
        """Tell whether there is a subscriber with an identifier."""
        return identifier in self._subscribers

    def remove(self, identifier: Any) -> None:
        """Remove one.

        :raises ValueError: if there is none
        """
        if self._subscribers.pop(identifier, None) is None:
            raise ValueError(f"Unknown task subscriber '{identifier}'")
        if not self._subscribers:
            concurrent.futures.wait([self._consumer.stop()], self._consumer.timeout)

    def _on_task(self, task: TaskMessage) -> None:
        self._offer(task, list(self._subscribers.values()))

    def _offer(self, task: TaskMessage, subscribers: list[Any]) -> None:
        if not subscribers:
            # Called in the thread of whichever subscriber was the last.
            self._loop.call_soon_threadsafe(self._put_back_later, task)
            return
        subscribers[0](task.body).add_done_callback(
            lambda done: self._on_outcome(task, subscribers, done)
        )

    def _put_back_later(self, task: TaskMessage) -> None:
        key = task.correlation_id or ""
        times = self._rejections.pop(key, 0)
        if times < len(_REJECTION_PAUSES):
            self._rejections[key] = times + 1
            if len(self._rejections) > _MOST_REJECTED:
                del self._rejections[next(iter(self._rejections))]
            self._loop.call_later(_REJECTION_PAUSES[times], task.put_back)
            return
        text = f"nobody here can work on this task, which came {times + 1} times"
        _LOGGER.error("giving up task %s: %s", key, text)
        task.respond({utils.EXCEPTION_KEY: text})
        task.acknowledge()

    def _on_outcome(self, task: TaskMessage, subscribers: list[Any], done: kiwipy.Future) -> None:
        if getattr(done, "interrupted", False):
            task.put_back()  # its worker is going down
            return
        if done.cancelled():
            task.respond(utils.cancelled_response("the task was cancelled"))
        elif (error := done.exception()) is not None:
            if isinstance(error, kiwipy.TaskRejected):
                self._offer(task, subscribers[1:])
                return
            _LOGGER.error("a task failed", exc_info=error)
            task.respond({utils.EXCEPTION_KEY: str(error) or type(error).__name__})
        else:
            result = done.result()
            if isinstance(result, kiwipy.Future):
                task.respond(utils.pending_response())
                result.add_done_callback(lambda inner: self._on_outcome(task, subscribers, inner))
                return
            task.respond(utils.result_response(result))
        task.acknowledge()
