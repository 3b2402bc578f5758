"""Sending calls, broadcasts and tasks through any communicator, from threads and from loops.

Over kiwipy's RabbitMQ communicator the messages go down a channel of our own, without kiwipy's
round trips; see :mod:`plumpy._rabbitmq`. Over any other the communicator's own methods are called.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import kiwipy

from plumpy import _crossing, _outbox, _thread_futures

if TYPE_CHECKING:
    from plumpy._rabbitmq import RabbitClient, Sending, TaskSubscribers

#: Seconds that a message waits until the processes of this program that it may be for can be
#: reached; it is sent then in any case.
SETTLING_TIME = 5.0


class _RabbitParts:
    """What belongs to one RabbitMQ communicator, made when it is needed."""

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        from plumpy._rabbitmq import RabbitClient

        self.client: RabbitClient = RabbitClient(communicator)
        self.subscribers: TaskSubscribers | None = None


_parts: weakref.WeakKeyDictionary[kiwipy.Communicator, _RabbitParts] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _parts_of(communicator: kiwipy.Communicator) -> _RabbitParts | None:
    communicator = _crossing.innermost(communicator)
    if not _outbox.is_rabbitmq(communicator):
        return None
    if communicator.is_closed():
        raise kiwipy.CommunicatorClosed
    with _lock:
        parts = _parts.get(communicator)
        if parts is None:
            try:
                parts = _parts[communicator] = _RabbitParts(communicator)
            except AttributeError:  # a release of kiwipy that is made in another way
                return None
        return parts


def client_of(communicator: kiwipy.Communicator) -> RabbitClient | None:
    """Return the sending half of a RabbitMQ communicator; None if it is another.

    :raises kiwipy.CommunicatorClosed: if it is closed
    """
    parts = _parts_of(communicator)
    return None if parts is None else parts.client


def task_subscribers_of(communicator: kiwipy.Communicator) -> TaskSubscribers | None:
    """Return the task subscribers of a RabbitMQ communicator; None if it is another.

    :raises kiwipy.CommunicatorClosed: if it is closed
    """
    parts = _parts_of(communicator)
    if parts is None:
        return None
    if parts.subscribers is None:
        from plumpy._rabbitmq import TaskSubscribers

        with _lock:
            if parts.subscribers is None:
                parts.subscribers = TaskSubscribers(_crossing.innermost(communicator))
    return parts.subscribers


# ---------------------------------------------------------------------- from a thread


def call(communicator: kiwipy.Communicator, recipient: Hashable, msg: Any) -> Any:
    """Call a recipient; return the future for its answer once the message is sent.

    :raises kiwipy.UnroutableError: if there is no such recipient
    :raises kiwipy.TimeoutError: if the broker does not take the message in time
    """
    settling = _crossing.settled(str(recipient))
    if settling is not None:
        concurrent.futures.wait([settling], SETTLING_TIME)
    client = client_of(communicator)
    if client is None:
        return communicator.rpc_send(recipient, msg)
    return client.call(recipient, msg).wait(client.timeout)


def send_task(communicator: kiwipy.Communicator, task: Any, no_reply: bool = False) -> Any:
    """Send a task; return the future for its outcome, or None if ``no_reply``.

    With an answer to come, this need not wait for the broker: if the task cannot be sent, that is
    the answer. Without one it waits until the broker has the task.

    :raises kiwipy.TimeoutError: if the broker does not take a task without an answer in time
    """
    client = client_of(communicator)
    if client is None:
        return communicator.task_send(task, no_reply)
    sending = client.send_task(task, no_reply)
    if no_reply:
        sending.wait(client.timeout)
        return None
    return sending.answer


def broadcast(
    communicator: kiwipy.Communicator,
    body: Any,
    sender: Any = None,
    subject: Any = None,
    correlation_id: Any = None,
) -> Any:
    """Broadcast a message; every process of this program that is attached already gets it.

    :raises kiwipy.TimeoutError: if the broker does not take the message in time
    """
    _outbox.wait_for_all(SETTLING_TIME)
    client = client_of(communicator)
    if client is None:
        return communicator.broadcast_send(
            body, sender=sender, subject=subject, correlation_id=correlation_id
        )
    client.broadcast(body, sender, subject, correlation_id).wait(client.timeout)
    return True


# ---------------------------------------------------------------------- from a loop


async def call_and_wait(communicator: kiwipy.Communicator, recipient: Hashable, msg: Any) -> Any:
    """Call a recipient and return its final answer; like :func:`call`, without blocking."""
    await _crossing.turn()
    settling = _crossing.settled(str(recipient))
    if settling is not None:
        await asyncio.wait([asyncio.wrap_future(settling)], timeout=SETTLING_TIME)
    client = client_of(communicator)
    if client is not None:
        return await _outcome(client, client.call(recipient, msg))
    return await _call_method(communicator, communicator.rpc_send, recipient, msg)


async def send_task_and_wait(
    communicator: kiwipy.Communicator, task: Any, no_reply: bool = False
) -> Any:
    """Send a task and return its outcome; like :func:`send_task`, without blocking."""
    await _crossing.turn()
    client = client_of(communicator)
    if client is not None:
        return await _outcome(client, client.send_task(task, no_reply))
    return await _call_method(communicator, communicator.task_send, task, no_reply)


async def _outcome(client: RabbitClient, sending: Sending) -> Any:
    try:
        await asyncio.wait_for(asyncio.wrap_future(sending.sent), client.timeout)
    except BaseException as exc:
        sending.give_up()
        if isinstance(exc, asyncio.TimeoutError):
            raise kiwipy.TimeoutError(
                f"the broker did not take the message within {client.timeout:g} seconds"
            ) from None
        raise
    return await asyncio.wrap_future(_thread_futures.flatten(sending.answer))


async def _call_method(
    communicator: kiwipy.Communicator, method: Callable[..., Any], *args: Any
) -> Any:
    if _crossing.blocks(communicator):
        first = await asyncio.to_thread(method, *args)
    else:
        first = method(*args)
    if asyncio.isfuture(first):
        first = _thread_futures.thread_future(first)
    if not isinstance(first, kiwipy.Future):
        return first
    return await asyncio.wrap_future(_thread_futures.flatten(first))
