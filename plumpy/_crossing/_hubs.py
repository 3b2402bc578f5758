"""Processes and their communicators: one link for each process, one hub for each communicator."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import kiwipy

from plumpy import _outbox
from plumpy._crossing._gates import enter
from plumpy._crossing._hop import hop_callback
from plumpy._crossing._turns import SHARE
from plumpy._thread_futures import CANCELLATIONS, flatten, running_loop, succeed, thread_future

_LOGGER = logging.getLogger(__name__)

#: Subjects of broadcasts that address every process.
CONTROL_SUBJECTS = frozenset({"play", "pause", "kill"})
#: Subjects of broadcasts that tell of state changes start with it; no process listens to those.
STATE_CHANGED = "state_changed"
#: Labels of the states that a process ends in.
FINAL_STATES = frozenset({"finished", "excepted", "killed"})


class Attachable(Protocol):
    """What a process has to offer to be reachable through a communicator."""

    _communicator: kiwipy.Communicator | None

    @property
    def pid(self) -> Hashable | None: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def message_receive(self, _comm: kiwipy.Communicator, msg: Any) -> Any: ...

    def broadcast_receive(
        self, _comm: kiwipy.Communicator, body: Any, sender: Any, subject: Any, correlation_id: Any
    ) -> Any: ...


def attach(process: Attachable) -> Link:
    """Make a process reachable through its communicator: calls to its pid, broadcasts to all.

    Returns at once; what needs a broker happens behind it, in order, and is retried until it
    succeeds or the link is detached. :meth:`Link.settled` tells when calls can arrive.

    :param process: has a pid and any communicator, wrapped for a loop or not
    :raises kiwipy.DuplicateSubscriberIdentifier: if a process with this pid is attached to this
        communicator already. Known without asking the broker: to start a process twice in one
        program is a mistake of the program, and it has to hear of it where it makes it.
    """
    if process._communicator is None:
        raise ValueError(f"process {process.pid} has no communicator to be attached to")
    return hub_of(innermost(process._communicator)).attach(process)


#: Told the pid and the label of the final state of processes that end, in any thread.
Watcher = Callable[[Any, str], None]


def watch(communicator: kiwipy.Communicator, watcher: Watcher) -> kiwipy.Future:
    """Hear of every process that ends, wherever it runs.

    :param watcher: called with the pid and the label of the final state, in the thread of the
        communicator
    :return: a future that is done when nothing is missed any more
    """
    return hub_of(innermost(communicator)).watch(watcher)


def unwatch(communicator: kiwipy.Communicator, watcher: Watcher) -> None:
    """Undo :func:`watch`."""
    hub_of(innermost(communicator)).unwatch(watcher)


def innermost(communicator: kiwipy.Communicator) -> kiwipy.Communicator:
    """Return the communicator that a :class:`~plumpy.communications.LoopCommunicator` wraps."""
    from plumpy.communications import LoopCommunicator

    # A subclass may change what the methods do, so only the class itself may be seen through.
    while type(communicator) is LoopCommunicator:
        communicator = communicator.inner
    return communicator


def blocks(communicator: kiwipy.Communicator) -> bool:
    """Tell whether the calls of a communicator may wait for something."""
    return not _outbox.answers_at_once(innermost(communicator))


def call_aside(
    communicator: kiwipy.Communicator, function: Callable[..., object], /, *args: Any
) -> None:
    """Call a function that uses a communicator where that may block; its result is dropped."""
    if blocks(communicator):
        threading.Thread(target=function, args=args, name="plumpy call", daemon=True).start()
    else:
        function(*args)


def settled(identifier: str) -> kiwipy.Future | None:
    """Return a future for the moment when calls to ``identifier`` can arrive; None if it is past.

    It knows of every process in this program, whichever communicator it uses, and of no other.
    The future's result is True, or False if the process was gone before.
    """
    with _settling_lock:
        link = _settling.get(identifier)
        if link is None:
            return None
        waiter = kiwipy.Future()
        link.waiters = (*link.waiters, waiter)
    return waiter


class Link:
    """What ties one process to its communicator. All methods belong to the process's thread."""

    __slots__ = ("__weakref__", "hub", "identifier", "loop", "pid", "process", "waiters")

    def __init__(self, hub: Hub, process: Attachable) -> None:
        self.hub = hub
        self.process: Attachable | None = process
        self.pid = process.pid
        self.identifier = str(process.pid)
        self.loop = process.loop
        self.waiters: tuple[kiwipy.Future, ...] = ()

    def state_changed(self, from_label: Any, to_label: Any) -> None:
        """Broadcast a state change to whom it may concern; never raises and never waits.

        :param from_label: the label of the state before, None for the first one
        :param to_label: the label of the state now
        """
        before = getattr(from_label, "value", from_label)
        after = getattr(to_label, "value", to_label)
        self.hub.outbox.broadcast(self.pid, f"{STATE_CHANGED}.{before}.{after}")

    def detach(self) -> None:
        """Make the process unreachable; may be called again."""
        if self.process is not None:
            self.process = None
            self.hub.detach(self)

    def settled(self) -> kiwipy.Future | None:
        """Like :func:`settled`, for this process."""
        return settled(self.identifier)

    def flushed(self) -> kiwipy.Future:
        """Return a future that is done when all that was said so far has been sent."""
        return self.hub.outbox.flush()

    # What follows is called in the thread of the communicator.

    def on_settled(self, succeeded: bool) -> None:
        with _settling_lock:
            if _settling.get(self.identifier) is self:
                del _settling[self.identifier]
            waiters, self.waiters = self.waiters, ()
        for waiter in waiters:
            succeed(waiter, succeeded)

    def on_call(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        """Answer one call: at once on the process's own thread, else by a future."""
        if running_loop() is self.loop:
            return self.call(communicator, msg)
        return flatten(hop_callback(self.loop, self.call, communicator, msg))

    def ask(self, communicator: kiwipy.Communicator, msg: Any) -> kiwipy.Future:
        """Like :meth:`on_call`, with a future as result if the answer takes longer."""
        return hop_callback(self.loop, self._begin, communicator, msg)

    def _begin(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        result = self.call(communicator, msg)
        if asyncio.isfuture(result):
            result = thread_future(result)
        return flatten(result) if isinstance(result, kiwipy.Future) else result

    def call(self, communicator: kiwipy.Communicator, msg: Any) -> Any:
        process = self.process
        if process is None:
            raise RuntimeError(f"process {self.identifier} has ended")
        return process.message_receive(communicator, msg)


class Hub:
    """All links of one communicator, behind one broadcast subscription."""

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        self.outbox = _outbox.outbox_for(communicator)
        self._lock = threading.Lock()
        self._listening = False
        self._links: dict[str, Link] = {}
        # Those whose class reads broadcasts other than the control subjects.
        self._curious: dict[str, Link] = {}
        self._watchers: list[Watcher] = []
        # Subscribers that are no processes, by identifier.
        self._subscribers: dict[Any, Callable[..., Any]] = {}
        self._deliveries: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, weakref.ref[_Deliveries]
        ] = weakref.WeakKeyDictionary()

    def attach(self, process: Attachable) -> Link:
        link = Link(self, process)
        identifier = link.identifier
        with self._lock:
            if identifier in self._links:
                raise kiwipy.DuplicateSubscriberIdentifier(
                    f"process {identifier} is attached to this communicator already"
                )
            self._links[identifier] = link
            if _reads_every_subject(process):
                self._curious[identifier] = link
        with _settling_lock:
            _settling[identifier] = link
        try:
            self.outbox.subscribe(link)
        except BaseException:
            self._forget(link)
            link.on_settled(False)
            raise
        self._listen()
        return link

    def _listen(self) -> None:
        with self._lock:
            if self._listening:
                return
            self._listening = True
        self.outbox.listen(self.on_broadcast, self.wants)

    def watch(self, watcher: Watcher) -> kiwipy.Future:
        with self._lock:
            self._watchers.append(watcher)
        self._listen()
        return self.outbox.flush()

    def unwatch(self, watcher: Watcher) -> None:
        with self._lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def subscribe(self, receiver: Callable[..., Any], identifier: Any) -> kiwipy.Future:
        with self._lock:
            if identifier in self._subscribers:
                raise kiwipy.DuplicateSubscriberIdentifier(f"Broadcast identifier '{identifier}'")
            self._subscribers[identifier] = receiver
        self._listen()
        return self.outbox.flush()

    def unsubscribe(self, identifier: Any) -> bool:
        with self._lock:
            return self._subscribers.pop(identifier, None) is not None

    def wants(self, subject: str) -> bool:
        """Tell whether anyone here cares for broadcasts with a subject."""
        if self._subscribers or not subject.startswith(STATE_CHANGED):
            return True
        return bool(self._watchers) and subject.rpartition(".")[2] in FINAL_STATES

    def detach(self, link: Link) -> None:
        self._forget(link)
        self.outbox.unsubscribe(link.identifier)

    def _forget(self, link: Link) -> None:
        with self._lock:
            if self._links.get(link.identifier) is link:
                del self._links[link.identifier]
                self._curious.pop(link.identifier, None)

    def on_broadcast(
        self,
        communicator: kiwipy.Communicator,
        body: Any,
        sender: Any = None,
        subject: Any = None,
        correlation_id: Any = None,
    ) -> None:
        """Pass a broadcast on to the processes it may mean; called in the communicator's thread.

        The cost of a broadcast that means none does not depend on how many there are.
        """
        details = (communicator, body, sender, subject, correlation_id)
        with self._lock:
            subscribers = list(self._subscribers.values())
        for subscriber in subscribers:
            _tell(subscriber, details)
        if isinstance(subject, str) and subject.startswith(STATE_CHANGED):
            label = subject.rpartition(".")[2]
            with self._lock:
                watchers = list(self._watchers) if label in FINAL_STATES else ()
            for watcher in watchers:
                watcher(sender, label)
            return
        everyone = isinstance(subject, str) and subject in CONTROL_SUBJECTS
        with self._lock:
            links = list((self._links if everyone else self._curious).values())
        by_loop: dict[asyncio.AbstractEventLoop, list[Link]] = {}
        for link in links:
            by_loop.setdefault(link.loop, []).append(link)
        here = running_loop()
        for loop, group in by_loop.items():
            if loop is here:
                for link in group:
                    _deliver(link, details)
            else:
                self._deliveries_to(loop).put(group, details)

    def _deliveries_to(self, loop: asyncio.AbstractEventLoop) -> _Deliveries:
        with self._lock:
            reference = self._deliveries.get(loop)
            deliveries = None if reference is None else reference()
            if deliveries is None:
                deliveries = _Deliveries()
                self._deliveries[loop] = weakref.ref(deliveries)
            return deliveries


class _Deliveries:
    """Broadcasts on their way to the processes of one loop, one after the other.

    Only the loop keeps it, as long as there are any.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[Link], tuple[Any, ...]]] = deque()
        # The task that delivers, and whether it is in a call of a process.
        self._task: asyncio.Task[None] | None = None
        self._calling = False

    def put(self, links: list[Link], details: tuple[Any, ...]) -> None:
        """Have a broadcast delivered; may be called from any thread.

        :param links: those of one loop
        """
        self._waiting.append((links, details))
        try:
            enter(links[0].loop, self._start)
        except RuntimeError:
            _LOGGER.debug("the loop is closed: dropping a broadcast to %d processes", len(links))

    def _start(self) -> None:
        # A process that runs its loop in the midst of a broadcast may wait for the next one.
        if self._waiting and (self._task is None or self._task.done() or self._calling):
            self._task = asyncio.get_running_loop().create_task(self._deliver_all())

    async def _deliver_all(self) -> None:
        end = time.monotonic() + SHARE
        while self._waiting:
            links, details = self._waiting.popleft()
            for link in links:
                self._calling = True
                try:
                    _deliver(link, details)
                finally:
                    self._calling = False
                if time.monotonic() > end:
                    await asyncio.sleep(0)
                    end = time.monotonic() + SHARE


def _deliver(link: Link, details: tuple[Any, ...]) -> None:
    process = link.process
    if process is None:
        return
    try:
        result = process.broadcast_receive(*details)
    except (Exception, *CANCELLATIONS):
        _LOGGER.exception("process %s failed on a broadcast", link.identifier)
    else:
        if isinstance(result, kiwipy.Future):
            result.add_done_callback(_log_failure)


def _tell(subscriber: Callable[..., Any], details: tuple[Any, ...]) -> None:
    try:
        result = subscriber(*details)
    except Exception:
        _LOGGER.exception("a subscriber failed on a broadcast")
    else:
        if isinstance(result, kiwipy.Future):
            result.add_done_callback(_log_failure)


def _log_failure(done: kiwipy.Future) -> None:
    # A broadcast has no sender to answer to.
    if not done.cancelled() and done.exception() is not None:
        _LOGGER.error("a receiver failed on a broadcast", exc_info=done.exception())


def _reads_every_subject(process: Attachable) -> bool:
    from plumpy.processes import Process

    return type(process).broadcast_receive is not Process.broadcast_receive


_hubs: weakref.WeakKeyDictionary[kiwipy.Communicator, Hub] = weakref.WeakKeyDictionary()
_hubs_lock = threading.Lock()
#: Links whose subscription is under way, by identifier.
_settling: dict[str, Link] = {}
_settling_lock = threading.Lock()


def hub_of(communicator: kiwipy.Communicator) -> Hub:
    """Return the hub of a communicator that is not wrapped."""
    with _hubs_lock:
        hub = _hubs.get(communicator)
        if hub is None:
            hub = _hubs[communicator] = Hub(communicator)
        return hub
