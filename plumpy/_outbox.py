"""What the processes of a program tell one communicator: in order, without anyone waiting for it.

A subscription or a broadcast takes a round trip to the broker, and a process must not hold up its
loop for that. It leaves the message in the communicator's outbox and goes on. An outbox keeps the
order, retries what a broker may get over, reports what it does not, and never raises into the
process.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import kiwipy

try:
    from aio_pika.exceptions import AMQPError
except ImportError:  # kiwipy without its RabbitMQ part

    class AMQPError(Exception):  # type: ignore[no-redef]
        """Stands for an error that cannot occur."""


_LOGGER = logging.getLogger(__name__)

#: Errors that a broker may get over. aio_pika's ChannelInvalidStateError is a RuntimeError of its
#: own family in some releases and an AMQPError in others.
TRANSIENT: tuple[type[Exception], ...] = (
    kiwipy.TimeoutError,
    concurrent.futures.TimeoutError,
    TimeoutError,
    ConnectionError,
    AMQPError,
)
#: Seconds before the second attempt and the longest pause between two.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
#: Seconds after which a state broadcast is of no use: kiwipy's queues drop it by then.
BROADCAST_LIFETIME = 66.0
#: Seconds that an idle thread stays for the next message.
IDLE = 5.0
#: Seconds that the end of the program waits for messages that are not sent yet.
FAREWELL = 5.0

Receiver = Callable[..., Any]


class Subscription(Protocol):
    """Who wants to be called under an identifier."""

    @property
    def identifier(self) -> str: ...

    def on_call(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        """Answer a call, at once or by a future that resolves to no other."""

    def ask(self, communicator: kiwipy.Communicator, msg: Any) -> kiwipy.Future:
        """Return a future for the answer, whose result may be a future that resolves to no other.

        The inner future, if there is one, is for something that takes longer.
        """

    def on_settled(self, succeeded: bool) -> None:
        """Hear, once, whether calls can arrive; False if the subscription was given up."""


class Outbox(Protocol):
    """What a link needs of a communicator; every method returns at once."""

    def subscribe(self, link: Subscription) -> None:
        """Let calls to its identifier reach ``link``."""

    def unsubscribe(self, identifier: str) -> None:
        """End a subscription, or see to it that it is never made."""

    def listen(self, receiver: Receiver, wants: Callable[[str], bool]) -> None:
        """Let ``receiver`` have the broadcasts, for as long as the communicator is open.

        :param wants: asked with the subject; what it does not want need not be passed on
        """

    def broadcast(self, sender: Hashable, subject: str) -> None:
        """Broadcast a subject without a body."""

    def flush(self) -> kiwipy.Future:
        """Return a future that is done when all that was said before has been sent."""


class Pipelined:
    """Marks the outboxes that answer calls themselves, and wait for nothing."""


def outbox_for(communicator: kiwipy.Communicator) -> Outbox:
    """Return a new outbox of the kind that suits a communicator."""
    if answers_at_once(communicator):
        return InlineOutbox(communicator)
    if is_rabbitmq(communicator):
        from plumpy._rabbitmq import RabbitOutbox

        outbox: Outbox = RabbitOutbox(communicator)
    else:
        outbox = ThreadOutbox(communicator)
    _all.add(outbox)
    return outbox


def is_rabbitmq(communicator: Any) -> bool:
    """Tell whether a communicator is kiwipy's for RabbitMQ, and no subclass of it."""
    # Whoever has such a communicator has imported the module that defines it.
    module = sys.modules.get("kiwipy.rmq.threadcomms")
    return module is not None and type(communicator) is module.RmqThreadCommunicator


def answers_at_once(communicator: kiwipy.Communicator) -> bool:
    """Tell whether a communicator works in memory, or is a stand-in that is no communicator."""
    if not isinstance(communicator, kiwipy.Communicator):
        return True
    kind = type(communicator)
    return isinstance(communicator, kiwipy.LocalCommunicator) and all(
        getattr(kind, name) is getattr(kiwipy.LocalCommunicator, name)
        for name in ("add_rpc_subscriber", "add_broadcast_subscriber", "broadcast_send")
    )


class InlineOutbox:
    """For communicators that wait for nothing: everything happens where it is said."""

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        self._communicator = weakref.ref(communicator)

    def subscribe(self, link: Subscription) -> None:
        communicator = self._communicator()
        if communicator is None:
            return
        try:
            communicator.add_rpc_subscriber(link.on_call, identifier=link.identifier)
        except kiwipy.DuplicateSubscriberIdentifier:
            raise
        except Exception as exc:
            _LOGGER.error("process %s cannot be called: %s", link.identifier, _text(exc))
            link.on_settled(False)
        else:
            link.on_settled(True)

    def unsubscribe(self, identifier: str) -> None:
        self._try("remove the subscription of", identifier, "remove_rpc_subscriber", identifier)

    def listen(self, receiver: Receiver, wants: Callable[[str], bool]) -> None:
        self._try("listen to broadcasts", "", "add_broadcast_subscriber", receiver)

    def broadcast(self, sender: Hashable, subject: str) -> None:
        self._try("broadcast", subject, "broadcast_send", body=None, sender=sender, subject=subject)

    def flush(self) -> kiwipy.Future:
        done = kiwipy.Future()
        done.set_result(True)
        return done

    def _try(self, what: str, which: str, method: str, /, *args: Any, **kwargs: Any) -> None:
        communicator = self._communicator()
        if communicator is None:
            return
        try:
            getattr(communicator, method)(*args, **kwargs)
        except kiwipy.CommunicatorClosed:
            _LOGGER.debug("the communicator is closed: could not %s %s", what, which)
        except Exception as exc:
            _LOGGER.warning("could not %s %s: %s", what, which, _text(exc))


class _Entry:
    """One message that waits to be sent."""

    __slots__ = ("action", "begun", "dropped", "identifier", "lifetime", "on_end", "what")

    def __init__(
        self,
        what: str,
        action: Callable[[kiwipy.Communicator, bool], None],
        on_end: Callable[[bool], None] | None = None,
        lifetime: float = float("inf"),
        identifier: str | None = None,
    ) -> None:
        self.what = what
        # Whom the subscription is for, if the entry is one.
        self.identifier = identifier
        self.begun = False
        # Called with the communicator and whether this is another attempt.
        self.action = action
        self.on_end = on_end
        self.lifetime = lifetime
        self.dropped = False

    def end(self, succeeded: bool) -> None:
        if self.on_end is not None:
            self.on_end(succeeded)


class ThreadOutbox:
    """For communicators whose calls block: one thread makes them, one after the other.

    The thread is there only while there is work, and keeps the communicator alive only then.
    """

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        self._communicator = weakref.ref(communicator)
        self._entries: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # Subscriptions that were not made yet.
        self._waiting: dict[str, _Entry] = {}

    def subscribe(self, link: Subscription) -> None:
        identifier = link.identifier

        def action(communicator: kiwipy.Communicator, again: bool) -> None:
            try:
                communicator.add_rpc_subscriber(link.on_call, identifier=identifier)
            except kiwipy.DuplicateSubscriberIdentifier:
                # A call that timed out may have been carried out all the same.
                if not again:
                    raise

        entry = _Entry(
            f"subscribe process {identifier}", action, link.on_settled, identifier=identifier
        )
        with self._changed:
            self._waiting[identifier] = entry
        self._put(entry)

    def unsubscribe(self, identifier: str) -> None:
        def action(communicator: kiwipy.Communicator, again: bool) -> None:
            try:
                communicator.remove_rpc_subscriber(identifier)
            except ValueError:
                _LOGGER.debug("process %s was not subscribed", identifier)

        with self._changed:
            waiting = self._waiting.pop(identifier, None)
            if waiting is not None:
                waiting.dropped = True
                self._changed.notify_all()
                if not waiting.begun:
                    return
        self._put(_Entry(f"unsubscribe process {identifier}", action))

    def listen(self, receiver: Receiver, wants: Callable[[str], bool]) -> None:
        self._put(
            _Entry(
                "listen to broadcasts",
                lambda communicator, _: _ignore(communicator.add_broadcast_subscriber(receiver)),
            )
        )

    def broadcast(self, sender: Hashable, subject: str) -> None:
        self._put(
            _Entry(
                f"broadcast {subject} of {sender}",
                lambda communicator, _: _ignore(
                    communicator.broadcast_send(body=None, sender=sender, subject=subject)
                ),
                lifetime=BROADCAST_LIFETIME,
            )
        )

    def flush(self) -> kiwipy.Future:
        done = kiwipy.Future()

        def end(_: bool) -> None:
            if done.set_running_or_notify_cancel():
                done.set_result(True)

        with self._changed:
            idle = self._thread is None and not self._entries
        if idle:
            done.set_result(True)
        else:
            self._put(_Entry("flush", lambda *_: None, end))
        return done

    def _put(self, entry: _Entry) -> None:
        if entry.lifetime != float("inf"):
            entry.lifetime += time.monotonic()
        with self._changed:
            self._entries.append(entry)
            if self._thread is None:
                communicator = self._communicator()
                if communicator is None:
                    self._entries.clear()
                    return
                self._thread = threading.Thread(
                    target=self._work, args=(communicator,), name="plumpy outbox", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _work(self, communicator: kiwipy.Communicator) -> None:
        while True:
            with self._changed:
                if not self._entries and not self._changed.wait_for(
                    lambda: bool(self._entries), IDLE
                ):
                    self._thread = None
                    return
                entry = self._entries[0]
                entry.begun = True
            succeeded = not entry.dropped and self._carry_out(entry, communicator)
            with self._changed:
                self._entries.popleft()
                if entry.identifier and self._waiting.get(entry.identifier) is entry:
                    del self._waiting[entry.identifier]
            entry.end(succeeded)

    def _carry_out(self, entry: _Entry, communicator: kiwipy.Communicator) -> bool:
        pause = FIRST_PAUSE
        again = False
        while True:
            try:
                entry.action(communicator, again)
                return True
            except kiwipy.CommunicatorClosed:
                _LOGGER.debug("the communicator is closed: could not %s", entry.what)
                return False
            except Exception as exc:
                if not isinstance(exc, TRANSIENT) or time.monotonic() + pause > entry.lifetime:
                    _LOGGER.error("could not %s: %s", entry.what, _text(exc))
                    return False
                level = logging.DEBUG if again else logging.WARNING
                _LOGGER.log(level, "could not %s yet, trying again: %s", entry.what, _text(exc))
            again = True
            with self._changed:
                self._changed.wait_for(lambda: entry.dropped, pause)
            if entry.dropped:
                return False
            pause = min(2 * pause, LONGEST_PAUSE)


def _ignore(_: Any) -> None:
    """Take a result that says nothing."""


def _text(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


_all: weakref.WeakSet[Outbox] = weakref.WeakSet()


def wait_for_all(timeout: float) -> None:
    """Wait in a thread until all that was said to any communicator so far has been sent."""
    concurrent.futures.wait([outbox.flush() for outbox in list(_all)], timeout=timeout)


@atexit.register
def _say_farewell() -> None:
    """Give what was said last, such as how a process ended, the time to be sent."""
    wait_for_all(FAREWELL)
