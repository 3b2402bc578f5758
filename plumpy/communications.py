"""Communicators seen from an event loop.

A communicator calls its subscribers in its own thread. :class:`LoopCommunicator` wraps any
communicator such that subscribers run on a loop instead, and the caller gets their answer.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Hashable
from typing import Any

import kiwipy
from kiwipy import Communicator, DeliveryFailed, RemoteException, TaskRejected

from plumpy import _crossing, _outbox, _sending, _thread_futures, events
from plumpy import futures as futures  # noqa: PLC0414 - importable from here
from plumpy.utils import ensure_coroutine as ensure_coroutine  # noqa: PLC0414 - likewise

__all__ = [
    "Communicator",
    "DeliveryFailed",
    "RemoteException",
    "TaskRejected",
    "plum_to_kiwi_future",
    "wrap_communicator",
]

Subscriber = Callable[..., Any]
ID = Hashable


def plum_to_kiwi_future(plum_future: asyncio.Future[Any]) -> kiwipy.Future:
    """Return a thread future with the outcome of an asyncio future, futures in it converted too.

    May be called from any thread.

    :param plum_future: the future to follow
    """
    return _thread_futures.thread_future(plum_future)


def convert_to_comm(
    callback: Subscriber, loop: asyncio.AbstractEventLoop | None = None
) -> Callable[..., kiwipy.Future]:
    """Return a function for communicators that calls ``callback`` on a loop.

    The function may be called from any thread. It returns a thread future for the result; if the
    callback returns a future, a thread future for that is the result. The callback may be a plain
    callable, a coroutine function, or a :class:`kiwipy.BroadcastFilter`, which is asked in the
    calling thread: what it filters out costs the loop nothing.

    :param callback: the subscriber
    :param loop: the loop to call it on; the current one by default
    """
    target = loop if loop is not None else events.get_or_create_event_loop()
    if isinstance(callback, kiwipy.BroadcastFilter):
        return _convert_filter(callback, target)

    def converted(communicator: Any, *args: Any, **kwargs: Any) -> kiwipy.Future:
        return _crossing.hop(target, callback, communicator, *args, **kwargs)

    return converted


def _convert_filter(
    broadcast_filter: kiwipy.BroadcastFilter, loop: asyncio.AbstractEventLoop
) -> Callable[..., kiwipy.Future]:
    def converted(
        communicator: Any,
        body: Any,
        sender: Any = None,
        subject: Any = None,
        correlation_id: Any = None,
    ) -> kiwipy.Future:
        if broadcast_filter.is_filtered(sender, subject):
            nothing = kiwipy.Future()
            nothing.set_result(None)
            return nothing
        return _crossing.hop(
            loop, broadcast_filter, communicator, body, sender, subject, correlation_id
        )

    return converted


def wrap_communicator(
    communicator: kiwipy.Communicator, loop: asyncio.AbstractEventLoop | None = None
) -> LoopCommunicator:
    """Wrap a communicator such that its subscribers are called on a loop.

    :param communicator: the communicator; one that is wrapped for this loop is returned as it is
    :param loop: the loop for the subscribers; the current one by default
    """
    target = loop if loop is not None else events.get_or_create_event_loop()
    if isinstance(communicator, LoopCommunicator) and communicator.loop() is target:
        return communicator
    return LoopCommunicator(communicator, target)


class LoopCommunicator(kiwipy.Communicator):  # type: ignore[misc]
    """A communicator whose subscribers are called on an event loop.

    Subscribers get this communicator as their first argument.
    """

    def __init__(
        self, communicator: kiwipy.Communicator, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """
        :param communicator: the communicator that sends and receives
        :param loop: the loop for the subscribers; the current one by default
        """
        if communicator is None:
            raise ValueError("there is no communicator to wrap: it is None")
        if _outbox.is_rabbitmq(communicator):
            # Now, and not when the first process is made, which may hold up the loop for it.
            importlib.import_module("plumpy._rabbitmq")
        self._communicator = communicator
        self._loop = loop if loop is not None else events.get_or_create_event_loop()

    @property
    def inner(self) -> kiwipy.Communicator:
        """The communicator that sends and receives."""
        return self._communicator

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the subscribers are called on."""
        return self._loop

    def _convert(self, subscriber: Subscriber) -> Callable[..., kiwipy.Future]:
        convert = convert_to_comm(subscriber, self._loop)

        def converted(_communicator: Any, *args: Any, **kwargs: Any) -> kiwipy.Future:
            return convert(self, *args, **kwargs)

        return converted

    def add_rpc_subscriber(self, subscriber: Subscriber, identifier: ID | None = None) -> ID:
        """Let ``subscriber(communicator, msg)`` answer calls; return the identifier."""
        converted = self._convert(subscriber)
        added: ID = _crossing.subscribe(self._communicator, converted, identifier)
        return added

    def remove_rpc_subscriber(self, identifier: ID) -> None:
        """Remove the subscriber of an identifier.

        :raises ValueError: if there is none
        """
        if not _crossing.unsubscribe(self._communicator, identifier):
            self._communicator.remove_rpc_subscriber(identifier)

    def add_task_subscriber(self, subscriber: Subscriber, identifier: ID | None = None) -> ID:
        """Let ``subscriber(communicator, task)`` work on tasks; return the identifier."""
        converted = self._convert(subscriber)
        subscribers = _sending.task_subscribers_of(self._communicator)
        if subscribers is None:
            added: ID = self._communicator.add_task_subscriber(converted, identifier)
            return added
        added = subscribers.add(lambda task: converted(None, task), identifier)
        return added

    def remove_task_subscriber(self, identifier: ID) -> None:
        """Remove a task subscriber.

        :raises ValueError: if there is none with this identifier
        """
        subscribers = _sending.task_subscribers_of(self._communicator)
        if subscribers is not None and subscribers.has(identifier):
            subscribers.remove(identifier)
        else:
            self._communicator.remove_task_subscriber(identifier)

    def add_broadcast_subscriber(self, subscriber: Subscriber, identifier: ID | None = None) -> ID:
        """Call ``subscriber(communicator, body, sender, subject, correlation_id)`` on broadcasts.

        Returns the identifier.
        """
        converted = self._convert(subscriber)
        added: ID = _crossing.subscribe_to_broadcasts(self._communicator, converted, identifier)
        return added

    def remove_broadcast_subscriber(self, identifier: ID) -> None:
        """Remove a broadcast subscriber.

        :raises ValueError: if there is none with this identifier
        """
        if not _crossing.unsubscribe_from_broadcasts(self._communicator, identifier):
            self._communicator.remove_broadcast_subscriber(identifier)

    def task_send(self, task: Any, no_reply: bool = False) -> kiwipy.Future:
        """Send a task and return the future for its outcome, or None if ``no_reply``."""
        return _sending.send_task(self._communicator, task, no_reply)

    def rpc_send(self, recipient_id: ID, msg: Any) -> kiwipy.Future:
        """Call a recipient and return the future for its answer."""
        return _sending.call(self._communicator, recipient_id, msg)

    def broadcast_send(
        self,
        body: Any,
        sender: Any = None,
        subject: str | None = None,
        correlation_id: ID | None = None,
    ) -> Any:
        """Broadcast a message to all subscribers; return what the inner communicator does."""
        return _sending.broadcast(self._communicator, body, sender, subject, correlation_id)

    def is_closed(self) -> bool:
        """Tell whether the communicator is closed."""
        return bool(self._communicator.is_closed())

    def close(self) -> None:
        """Close the communicator inside, after all that processes have said was sent."""
        if not self._communicator.is_closed():
            _outbox.wait_for_all(_sending.SETTLING_TIME)
        self._communicator.close()
