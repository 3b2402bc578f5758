"""The one place where a call crosses from a foreign thread to the loop that owns a process.

A communicator calls its subscribers in a thread of its own, a process lives on the thread of its
loop. :func:`hop` carries a call over and its answer back; nothing else in the runtime touches a
loop from outside, and nothing here ever waits in one.

The other direction is :func:`attach`: what a process has to tell its communicator (subscribe,
unsubscribe, state changes) goes through the communicator's outbox, which keeps the order and does
the waiting elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import uuid
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

import kiwipy

from plumpy import _outbox
from plumpy._thread_futures import (
    CANCELLATIONS,
    cancel,
    fail,
    running_loop,
    succeed,
    thread_future,
)
from plumpy._thread_futures import flatten as flatten  # noqa: PLC0414

_LOGGER = logging.getLogger(__name__)

#: Subjects of broadcasts that address every process.
CONTROL_SUBJECTS = frozenset({"play", "pause", "kill"})
#: Subjects of broadcasts that tell of state changes start with it; no process listens to those.
STATE_CHANGED = "state_changed"
#: Labels of the states that a process ends in.
FINAL_STATES = frozenset({"finished", "excepted", "killed"})

#: Calls that have reached their loop. asyncio itself keeps only weak references to tasks.
_under_way: set[asyncio.Task[None]] = set()


def hop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> kiwipy.Future:
    """Call ``function`` on the thread of ``loop`` and return a future that always gets an answer.

    May be called from any thread, also from the loop's own; it never blocks. Coroutine functions
    are awaited; plain callables run where they may use ``run_until_complete`` and friends. The
    answer is the result, the exception, or a cancellation if the call was cancelled; a loop that
    is closed, now or before the call could run, answers :class:`RuntimeError`. A result that is
    itself a future arrives as a thread future; :func:`flatten` resolves such nesting. Cancelling
    the returned future cancels the call.

    :param loop: the loop to run on
    :param function: what to call there
    """
    call = _Call(loop, function, args, kwargs)
    return call.send(call.start)


def hop_callback(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any], /, *args: Any
) -> kiwipy.Future:
    """Like :func:`hop`, for a plain function that returns soon and calls nothing that nests.

    It is run as a callback of the loop, not in a task of its own.
    """
    call = _Call(loop, function, args, {})
    return call.send(call.run)


def _was_interrupted(exc: BaseException) -> bool:
    """Tell whether the present task was cancelled from outside, as at the end of a program.

    Else the cancellation is the outcome of what it did. Where that cannot be told, before Python
    3.11, asyncio's own kind of cancellation counts as an interruption.
    """
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    if cancelling is None:
        return isinstance(exc, asyncio.CancelledError)
    return bool(cancelling())


class _Call:
    """One call on its way to a loop.

    If the loop is closed before the call ran, asyncio drops the callback without a word; this
    object is then collected, and says so to whoever waits.
    """

    __slots__ = ("answer", "args", "function", "kwargs", "loop", "task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.loop = loop
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.task: asyncio.Task[None] | None = None
        self.answer = kiwipy.Future()
        self.answer.interrupted = False

    def send(self, method: Callable[[], None]) -> kiwipy.Future:
        """Have one of this object's methods called on the thread of the loop."""
        answer = self.answer
        try:
            self.loop.call_soon_threadsafe(method)
        except RuntimeError:
            self.refuse()
        return answer

    def run(self) -> None:
        """Call the function as a callback, on the thread of the loop."""
        if self.answer.done():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except (KeyboardInterrupt, SystemExit) as exc:
            fail(self.answer, exc)
            raise
        except BaseException as exc:
            fail(self.answer, exc)
        else:
            self.conclude(result)

    def conclude(self, result: Any) -> None:
        """Answer with a result."""
        succeed(self.answer, thread_future(result) if asyncio.isfuture(result) else result)

    def start(self) -> None:
        """Begin, on the thread of the loop."""
        if self.answer.done():
            return
        self.task = task = self.loop.create_task(self._run())
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
        self.answer.add_done_callback(self._answered)

    async def _run(self) -> None:
        from plumpy.utils import ensure_coroutine

        try:
            result = await ensure_coroutine(self.function)(*self.args, **self.kwargs)
            if inspect.isawaitable(result) and not asyncio.isfuture(result):
                result = await result
        except CANCELLATIONS as exc:
            self.answer.interrupted = _was_interrupted(exc)
            cancel(self.answer)
        except GeneratorExit:
            self.refuse()
            raise
        except (KeyboardInterrupt, SystemExit) as exc:
            fail(self.answer, exc)
            raise
        except BaseException as exc:  # the caller judges it: it is the caller's call
            fail(self.answer, exc)
        else:
            self.conclude(result)

    def _answered(self, answer: kiwipy.Future) -> None:
        task = self.task
        self.task = None
        if task is not None and answer.cancelled() and not self.loop.is_closed():
            # The loop may be closed in this moment, and its tasks with it.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(task.cancel)

    def refuse(self) -> None:
        """Answer that the loop will never run the call, or not to its end."""
        self.answer.interrupted = True
        fail(
            self.answer,
            RuntimeError(f"the event loop is closed: {_name(self.function)} cannot run on it"),
        )

    def __del__(self) -> None:
        if not self.answer.done():
            self.refuse()


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
    return _hub_of(innermost(process._communicator)).attach(process)


#: Told the pid and the label of the final state of processes that end, in any thread.
Watcher = Callable[[Any, str], None]


def watch(communicator: kiwipy.Communicator, watcher: Watcher) -> kiwipy.Future:
    """Hear of every process that ends, wherever it runs.

    :param watcher: called with the pid and the label of the final state, in the thread of the
        communicator
    :return: a future that is done when nothing is missed any more
    """
    return _hub_of(innermost(communicator)).watch(watcher)


def unwatch(communicator: kiwipy.Communicator, watcher: Watcher) -> None:
    """Undo :func:`watch`."""
    _hub_of(innermost(communicator)).unwatch(watcher)


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


def subscribe(
    communicator: kiwipy.Communicator, receiver: Callable[..., kiwipy.Future], identifier: Any
) -> Any:
    """Let ``receiver(communicator, msg)`` answer calls, and wait until they can arrive.

    :param receiver: called in the communicator's thread; returns a future
    :param identifier: whom the calls are for; None for a new one, which is returned
    """
    inner = innermost(communicator)
    outbox = _hub_of(inner).outbox
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
    outbox = _hub_of(inner).outbox
    outbox.unsubscribe(str(identifier))
    outbox.flush().result(_SUBSCRIBING_TIME)
    return True


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


class Link:
    """What ties one process to its communicator. All methods belong to the process's thread."""

    __slots__ = ("__weakref__", "hub", "identifier", "loop", "pid", "process", "waiters")

    def __init__(self, hub: _Hub, process: Attachable) -> None:
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


class _Hub:
    """All links of one communicator, behind one broadcast subscription."""

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        self.outbox = _outbox.outbox_for(communicator)
        self._lock = threading.Lock()
        self._listening = False
        self._links: dict[str, Link] = {}
        # Those whose class reads broadcasts other than the control subjects.
        self._curious: dict[str, Link] = {}
        self._watchers: list[Watcher] = []

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

    def wants(self, subject: str) -> bool:
        """Tell whether anyone here cares for broadcasts with a subject."""
        if not subject.startswith(STATE_CHANGED):
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
        if isinstance(subject, str) and not self.wants(subject):
            return
        if isinstance(subject, str) and subject.startswith(STATE_CHANGED):
            with self._lock:
                watchers = list(self._watchers)
            for watcher in watchers:
                watcher(sender, subject.rpartition(".")[2])
            return
        everyone = isinstance(subject, str) and subject in CONTROL_SUBJECTS
        with self._lock:
            links = list((self._links if everyone else self._curious).values())
        by_loop: dict[asyncio.AbstractEventLoop, list[Link]] = {}
        for link in links:
            by_loop.setdefault(link.loop, []).append(link)
        here = running_loop()
        for loop, group in by_loop.items():
            details = (communicator, body, sender, subject, correlation_id)
            if loop is here:
                _deliver(group, details)
            else:
                hop(loop, _deliver_in_portions, group, details).add_done_callback(_log_failure)


async def _deliver_in_portions(links: list[Link], details: tuple[Any, ...]) -> None:
    # The loop has other work to do between two portions.
    for start in range(0, len(links), 50):
        _deliver(links[start : start + 50], details)
        await asyncio.sleep(0)


def _deliver(links: Iterable[Link], details: tuple[Any, ...]) -> None:
    for link in links:
        process = link.process
        if process is None:
            continue
        try:
            result = process.broadcast_receive(*details)
        except Exception:
            _LOGGER.exception("process %s failed on a broadcast", link.identifier)
        else:
            if isinstance(result, kiwipy.Future):
                result.add_done_callback(_log_failure)


def _log_failure(done: kiwipy.Future) -> None:
    # A broadcast has no sender to answer to.
    if not done.cancelled() and done.exception() is not None:
        _LOGGER.error("a process failed on a broadcast", exc_info=done.exception())


def _reads_every_subject(process: Attachable) -> bool:
    from plumpy.processes import Process

    return type(process).broadcast_receive is not Process.broadcast_receive


#: Subscribers of communicators that are no processes, by identifier.
_subscriptions: weakref.WeakKeyDictionary[kiwipy.Communicator, dict[str, _Subscription]] = (
    weakref.WeakKeyDictionary()
)
_subscriptions_lock = threading.Lock()
#: Seconds that a subscriber waits for the broker.
_SUBSCRIBING_TIME = 5.0
_hubs: weakref.WeakKeyDictionary[kiwipy.Communicator, _Hub] = weakref.WeakKeyDictionary()
_hubs_lock = threading.Lock()
#: Links whose subscription is under way, by identifier.
_settling: dict[str, Link] = {}
_settling_lock = threading.Lock()


def _hub_of(communicator: kiwipy.Communicator) -> _Hub:
    with _hubs_lock:
        hub = _hubs.get(communicator)
        if hub is None:
            hub = _hubs[communicator] = _Hub(communicator)
        return hub


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
