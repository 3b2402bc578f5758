"""Subscribers that are no processes."""

from __future__ import annotations

import concurrent.futures
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import kiwipy

from plumpy import _outbox
from plumpy._crossing._hubs import hub_of, innermost
from plumpy._thread_futures import succeed

#: Seconds that a subscriber waits for the broker.
_SUBSCRIBING_TIME = 5.0


def subscribe(
    communicator: kiwipy.Communicator, receiver: Callable[..., kiwipy.Future], identifier: Any
) -> Any:
    """Let ``receiver(communicator, msg)`` answer calls, and wait until they can arrive.

    :param receiver: called in the communicator's thread; returns a future
    :param identifier: whom the calls are for; None for a new one, which is returned
    """
    inner = innermost(communicator)
    outbox = hub_of(inner).outbox
    if not isinstance(outbox, _outbox.Pipelined):
        return communicator.add_rpc_subscriber(receiver, identifier)
    if identifier is None:
        identifier = str(uuid.uuid4())
    subscription = _Subscription(str(identifier), receiver)
    with _subscriptions_lock:
        own = _subscriptions.setdefault(inner, {})
        if subscription.identifier in own:
            raise kiwipy.DuplicateSubscriberIdentifier(f"RPC identifier '{identifier}'")
        own[subscription.identifier] = subscription
    outbox.subscribe(subscription)
    subscription.settled.result(_SUBSCRIBING_TIME)
    return identifier


def unsubscribe(communicator: kiwipy.Communicator, identifier: Any) -> bool:
    """Undo :func:`subscribe`; False if it did not subscribe this identifier."""
    inner = innermost(communicator)
    with _subscriptions_lock:
        found = _subscriptions.get(inner, {}).pop(str(identifier), None)
    if found is None:
        return False
    outbox = hub_of(inner).outbox
    outbox.unsubscribe(str(identifier))
    outbox.flush().result(_SUBSCRIBING_TIME)
    return True


def subscribe_to_broadcasts(
    communicator: kiwipy.Communicator, receiver: Callable[..., Any], identifier: Any
) -> Any:
    """Let ``receiver(communicator, body, sender, subject, correlation_id)`` have all broadcasts.

    Waits until they can arrive.

    :param receiver: called in the communicator's thread, one broadcast after the other
    :param identifier: what to unsubscribe it by; None for a new one, which is returned
    """
    hub = hub_of(innermost(communicator))
    if not isinstance(hub.outbox, _outbox.Pipelined):
        return communicator.add_broadcast_subscriber(receiver, identifier)
    identifier = identifier or str(uuid.uuid4())
    concurrent.futures.wait([hub.subscribe(receiver, identifier)], _SUBSCRIBING_TIME)
    return identifier


def unsubscribe_from_broadcasts(communicator: kiwipy.Communicator, identifier: Any) -> bool:
    """Undo :func:`subscribe_to_broadcasts`; False if it did not subscribe this identifier."""
    return hub_of(innermost(communicator)).unsubscribe(identifier)


class _Subscription:
    """A subscriber that is no process."""

    def __init__(self, identifier: str, receiver: Callable[..., kiwipy.Future]) -> None:
        self.identifier = identifier
        self.receiver = receiver
        self.settled = kiwipy.Future()

    def on_call(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        return self.receiver(communicator, msg)

    def ask(self, communicator: kiwipy.Communicator, msg: Any) -> kiwipy.Future:
        return self.receiver(communicator, msg)

    def on_settled(self, succeeded: bool) -> None:
        succeed(self.settled, succeeded)


#: The subscribers of communicators, by identifier.
_subscriptions: weakref.WeakKeyDictionary[kiwipy.Communicator, dict[str, _Subscription]] = (
    weakref.WeakKeyDictionary()
)
_subscriptions_lock = threading.Lock()
