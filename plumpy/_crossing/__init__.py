"""The one place where a call crosses from a foreign thread to the loop that owns a process.

A communicator calls its subscribers in a thread of its own, a process lives on the thread of its
loop. :func:`hop` carries a call over and its answer back; nothing else in the runtime touches a
loop from outside, and nothing here ever waits in one.

The other direction is :func:`attach`: what a process has to tell its communicator (subscribe,
unsubscribe, state changes) goes through the communicator's outbox, which keeps the order and does
the waiting elsewhere.
"""

from plumpy._crossing._hop import hop, hop_callback
from plumpy._crossing._hubs import (
    FINAL_STATES,
    Attachable,
    Link,
    attach,
    blocks,
    call_aside,
    innermost,
    settled,
    unwatch,
    watch,
)
from plumpy._crossing._subscribers import (
    subscribe,
    subscribe_to_broadcasts,
    unsubscribe,
    unsubscribe_from_broadcasts,
)
from plumpy._crossing._turns import turn
from plumpy._thread_futures import flatten, thread_future

__all__ = [
    "FINAL_STATES",
    "Attachable",
    "Link",
    "attach",
    "blocks",
    "call_aside",
    "flatten",
    "hop",
    "hop_callback",
    "innermost",
    "settled",
    "subscribe",
    "subscribe_to_broadcasts",
    "thread_future",
    "turn",
    "unsubscribe",
    "unsubscribe_from_broadcasts",
    "unwatch",
    "watch",
]
