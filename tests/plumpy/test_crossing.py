"""One call crosses, one answer comes back: plumpy._crossing and the outboxes behind it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import kiwipy
import pytest

from plumpy import _crossing, _outbox
from plumpy._crossing import attach, flatten, hop, hop_callback, thread_future

TIMEOUT = 5


@pytest.fixture
def loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in another thread and has nothing to do."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(TIMEOUT)
    loop.close()


class TestHop:
    def test_runs_on_the_thread_of_the_loop(self, loop_thread):
        answer = hop(loop_thread, threading.get_ident)
        assert answer.result(TIMEOUT) not in (None, threading.get_ident())

    def test_passes_arguments_and_awaits_coroutine_functions(self, loop_thread):
        async def add(a, *, b):
            await asyncio.sleep(0)
            return a + b

        assert hop(loop_thread, add, 1, b=2).result(TIMEOUT) == 3

    def test_awaits_what_a_plain_callable_returns(self, loop_thread):
        async def value():
            return 5

        assert hop(loop_thread, functools.partial(value)).result(TIMEOUT) == 5

    def test_calls_objects_with_an_async_call_method(self, loop_thread):
        class Subscriber:
            async def __call__(self, value):
                return value

        assert hop(loop_thread, Subscriber(), 7).result(TIMEOUT) == 7

    @pytest.mark.parametrize("error", [ValueError("x"), kiwipy.TaskRejected(), OSError(2, "no")])
    def test_brings_back_the_exception_itself(self, loop_thread, error):
        def raises():
            raise error

        assert hop(loop_thread, raises).exception(TIMEOUT) is error

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, concurrent.futures.CancelledError])
    def test_answers_a_cancellation(self, loop_thread, kind):
        """E15: a subscriber that ended by CancelledError left its caller waiting for ever."""

        async def cancelled():
            raise kind

        answer = hop(loop_thread, cancelled)
        with pytest.raises(concurrent.futures.CancelledError):
            answer.result(TIMEOUT)

    def test_cancelling_the_answer_cancels_the_call(self, loop_thread):
        began, ended = threading.Event(), threading.Event()

        async def wait():
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                ended.set()

        answer = hop(loop_thread, wait)
        assert began.wait(TIMEOUT)
        assert answer.cancel()
        assert ended.wait(TIMEOUT)

    def test_a_closed_loop_is_an_error_at_once(self):
        loop = asyncio.new_event_loop()
        loop.close()
        with pytest.raises(RuntimeError, match=r"loop is closed.*print"):
            hop(loop, print).result(0)

    def test_a_loop_closed_before_the_call_ran_is_an_error_too(self):
        loop = asyncio.new_event_loop()
        answer = hop(loop, print)
        assert not answer.done()
        loop.close()
        gc.collect()
        with pytest.raises(RuntimeError, match="loop is closed"):
            answer.result(0)

    def test_a_loop_closed_while_the_call_waits_is_an_error_too(self):
        loop = asyncio.new_event_loop()
        began: list[bool] = []

        async def wait():
            began.append(True)
            await asyncio.get_running_loop().create_future()

        answer = hop(loop, wait)
        loop.run_until_complete(_turns(3))
        assert began
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_turns(3))
        loop.close()
        assert answer.cancelled()

    def test_a_future_as_result_arrives_as_a_thread_future(self, loop_thread):
        inner = hop(loop_thread, lambda: _future_with(loop_thread, 3)).result(TIMEOUT)
        assert isinstance(inner, kiwipy.Future)
        assert inner.result(TIMEOUT) == 3

    def test_flatten_resolves_every_level(self, loop_thread):
        answer = flatten(hop(loop_thread, lambda: _future_with(loop_thread, _done_future(4))))
        assert answer.result(TIMEOUT) == 4

    def test_flatten_passes_exceptions_and_cancellations_on(self, loop_thread):
        def failing():
            future = loop_thread.create_future()
            future.set_exception(KeyError("k"))
            return future

        def cancelled():
            future = loop_thread.create_future()
            future.cancel()
            return future

        assert isinstance(flatten(hop(loop_thread, failing)).exception(TIMEOUT), KeyError)
        with pytest.raises(concurrent.futures.CancelledError):
            flatten(hop(loop_thread, cancelled)).result(TIMEOUT)

    def test_no_answer_is_late_on_an_idle_loop(self, loop_thread):
        """E1: up to one in three answers was given only at the next unrelated wake-up.

        A loop in another thread sleeps in its selector between calls; an answer that did not wake
        it would time out here. 2,000 calls of which 15 % were lost would pass with a chance of
        0.85 ** 2000.
        """

        async def quick():
            return None

        for _ in range(1000):
            hop(loop_thread, quick).result(TIMEOUT)
            hop(loop_thread, int).result(TIMEOUT)

    def test_debug_mode_finds_nothing_wrong(self, loop_thread):
        loop_thread.set_debug(True)
        futures = [hop(loop_thread, asyncio.sleep, 0) for _ in range(100)]
        nested = [hop(loop_thread, lambda: _future_with(loop_thread, 1)) for _ in range(100)]
        for future in futures:
            future.result(TIMEOUT)
        for future in nested:
            assert flatten(future).result(TIMEOUT) == 1

    async def test_many_calls_leave_the_loop_time_for_others(self):
        """The loop of a worker was held up by all the calls that had come at once."""
        loop = asyncio.get_running_loop()
        turns: list[int] = []
        begun: list[int] = []
        answers = [hop(loop, lambda n=n: begun.append(n)) for n in range(200)]
        while not answers[-1].done():
            turns.append(len(begun))
            await asyncio.sleep(0)
        turns.append(len(begun))
        assert begun == list(range(200)), "in order, and each once"
        assert max(after - before for before, after in itertools.pairwise(turns)) <= 8

    async def test_each_call_has_the_context_of_its_caller(self):
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
        loop = asyncio.get_running_loop()
        answers = []
        for number in range(5):
            variable.set(number)
            answers.append(hop(loop, variable.get))
        assert [await asyncio.wrap_future(answer) for answer in answers] == list(range(5))

    def test_calls_behind_one_that_ends_the_program_are_not_lost(self):
        loop = asyncio.new_event_loop()

        def leave():
            raise SystemExit

        first, second = hop_callback(loop, leave), hop_callback(loop, lambda: 5)
        with pytest.raises(SystemExit):
            loop.run_until_complete(_turns(3))
        loop.run_until_complete(_turns(3))
        loop.close()
        assert isinstance(first.exception(0), SystemExit)
        assert second.result(0) == 5

    async def test_from_its_own_loop_it_does_not_block(self):
        loop = asyncio.get_running_loop()
        assert await asyncio.wrap_future(hop(loop, lambda: 5)) == 5


class TestThreadFuture:
    def test_follows_a_future_of_a_loop_in_another_thread(self, loop_thread):
        source = hop(loop_thread, lambda: [loop_thread.create_future()]).result(TIMEOUT)[0]
        followed = thread_future(source)
        loop_thread.call_soon_threadsafe(source.set_result, 1)
        assert followed.result(TIMEOUT) == 1

    def test_a_closed_loop_is_an_error(self):
        loop = asyncio.new_event_loop()
        source = loop.create_future()
        loop.close()
        assert isinstance(thread_future(source).exception(0), RuntimeError)


class Target:
    """A process as far as the crossing knows one."""

    def __init__(self, pid: Any, communicator: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = pid
        self.loop = loop
        self._communicator = communicator
        self.calls: list[Any] = []
        self.threads: set[int] = set()
        self.broadcasts: list[Any] = []
        self.called = threading.Event()

    def message_receive(self, _comm: Any, msg: Any) -> Any:
        self.threads.add(threading.get_ident())
        self.calls.append(msg)
        if isinstance(msg, Exception):
            raise msg
        return msg() if callable(msg) else msg

    def broadcast_receive(
        self, _comm: Any, body: Any, sender: Any, subject: Any, correlation_id: Any
    ) -> Any:
        self.threads.add(threading.get_ident())
        self.broadcasts.append((body, sender, subject, correlation_id))
        self.called.set()


class Recorder(kiwipy.LocalCommunicator):
    """A communicator whose calls take a while, or fail, as a remote one's do."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, Any]] = []
        self.threads: set[int] = set()
        self.errors: dict[str, list[Exception]] = {}
        self.gate = threading.Event()
        self.gate.set()

    def _do(self, what: str, detail: Any) -> None:
        assert self.gate.wait(TIMEOUT)
        self.threads.add(threading.get_ident())
        errors = self.errors.get(what)
        if errors:
            raise errors.pop(0)
        self.log.append((what, detail))

    def add_rpc_subscriber(self, subscriber, identifier=None):
        self._do("subscribe", identifier)
        return super().add_rpc_subscriber(subscriber, identifier)

    def remove_rpc_subscriber(self, identifier):
        self._do("unsubscribe", identifier)
        return super().remove_rpc_subscriber(identifier)

    def broadcast_send(self, body, sender=None, subject=None, correlation_id=None):
        self._do("broadcast", (body, sender, subject))
        return super().broadcast_send(body, sender, subject, correlation_id)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


class TestLinkToAMemoryCommunicator:
    async def test_everything_happens_at_once_and_in_order(self):
        communicator = kiwipy.LocalCommunicator()
        seen: list[Any] = []
        communicator.add_broadcast_subscriber(lambda *_, **details: seen.append(details))
        target = Target(12, communicator, asyncio.get_running_loop())
        link = attach(target)
        link.state_changed(None, "created")
        assert seen == [
            {
                "body": None,
                "sender": 12,
                "subject": "state_changed.None.created",
                "correlation_id": None,
            }
        ]
        assert communicator.rpc_send("12", "hello").result(0) == "hello"
        link.detach()
        with pytest.raises(kiwipy.UnroutableError):
            communicator.rpc_send("12", "hello")

    async def test_a_second_process_of_the_same_pid_is_refused(self):
        communicator = kiwipy.LocalCommunicator()
        loop = asyncio.get_running_loop()
        first = attach(Target(1, communicator, loop))
        with pytest.raises(kiwipy.DuplicateSubscriberIdentifier, match="process 1"):
            attach(Target(1, communicator, loop))
        first.detach()
        attach(Target(1, communicator, loop)).detach()

    async def test_an_identifier_in_use_by_others_is_refused_and_leaves_nothing_behind(self):
        communicator = kiwipy.LocalCommunicator()
        communicator.add_rpc_subscriber(lambda *_: "mine", "1")
        loop = asyncio.get_running_loop()
        with pytest.raises(kiwipy.DuplicateSubscriberIdentifier):
            attach(Target(1, communicator, loop))
        communicator.remove_rpc_subscriber("1")
        attach(Target(1, communicator, loop))

    async def test_a_closed_communicator_is_no_error(self, caplog):
        communicator = kiwipy.LocalCommunicator()
        target = Target(1, communicator, asyncio.get_running_loop())
        link = attach(target)
        communicator.close()
        link.state_changed("a", "b")
        link.detach()
        assert not caplog.records

    async def test_a_call_from_another_thread_runs_on_the_loop(self):
        """E20: an unwrapped communicator called the process in its own thread."""
        communicator = kiwipy.LocalCommunicator()
        target = Target(1, communicator, asyncio.get_running_loop())
        attach(target)

        def call() -> Any:
            return flatten(communicator.rpc_send("1", "x")).result(TIMEOUT)

        assert await asyncio.to_thread(call) == "x"
        assert target.threads == {threading.get_ident()}


class TestLinkToABlockingCommunicator:
    async def test_nothing_waits_in_the_loop_and_the_order_is_kept(self, recorder):
        recorder.gate.clear()
        target = Target("p", recorder, asyncio.get_running_loop())
        link = attach(target)
        link.state_changed(None, "created")
        link.state_changed("created", "running")
        assert recorder.log == []
        recorder.gate.set()
        await asyncio.wrap_future(link.flushed())
        link.detach()
        await asyncio.wrap_future(link.flushed())
        assert recorder.log == [
            ("subscribe", "p"),
            ("broadcast", (None, "p", "state_changed.None.created")),
            ("broadcast", (None, "p", "state_changed.created.running")),
            ("unsubscribe", "p"),
        ]
        assert threading.get_ident() not in recorder.threads

    async def test_settled_tells_when_calls_can_arrive(self, recorder):
        recorder.gate.clear()
        attach(Target("p1", recorder, asyncio.get_running_loop()))
        settling = _crossing.settled("p1")
        assert settling is not None
        assert not settling.done()
        recorder.gate.set()
        assert await asyncio.wrap_future(settling) is True
        assert _crossing.settled("p1") is None

    async def test_a_subscription_that_is_not_made_yet_is_dropped_by_detach(self, recorder):
        recorder.gate.clear()
        loop = asyncio.get_running_loop()
        first = attach(Target("first", recorder, loop))
        second = attach(Target("second", recorder, loop))
        settling = second.settled()
        second.detach()
        first.state_changed("a", "b")
        recorder.gate.set()
        assert await asyncio.wrap_future(settling) is False
        await asyncio.wrap_future(first.flushed())
        assert ("subscribe", "second") not in recorder.log

    @pytest.mark.parametrize("error", [kiwipy.TimeoutError(), ConnectionResetError("gone")])
    async def test_what_a_broker_gets_over_is_tried_again(self, recorder, error, caplog):
        recorder.errors = {"subscribe": [error], "broadcast": [error, error]}
        link = attach(Target("p", recorder, asyncio.get_running_loop()))
        link.state_changed("a", "b")
        await asyncio.wrap_future(link.flushed())
        assert [what for what, _ in recorder.log] == ["subscribe", "broadcast"]
        assert "trying again" in caplog.text

    async def test_a_subscription_made_by_a_call_that_timed_out_counts(self, recorder):
        late = kiwipy.DuplicateSubscriberIdentifier("p")
        recorder.errors = {"subscribe": [kiwipy.TimeoutError(), late]}
        link = attach(Target("p", recorder, asyncio.get_running_loop()))
        settling = link.settled()
        assert await asyncio.wrap_future(settling) is True

    @pytest.mark.parametrize("error", [RuntimeError("odd"), kiwipy.CommunicatorClosed()])
    async def test_other_errors_are_reported_and_do_not_stop_the_rest(self, recorder, error):
        """E19: an unexpected error of a state broadcast made the process except."""
        recorder.errors = {"broadcast": [error]}
        link = attach(Target("p", recorder, asyncio.get_running_loop()))
        link.state_changed("a", "b")
        link.state_changed("b", "c")
        await asyncio.wrap_future(link.flushed())
        assert recorder.log[-1] == ("broadcast", (None, "p", "state_changed.b.c"))

    async def test_a_broadcast_nobody_can_use_any_more_is_given_up(self, recorder, monkeypatch):
        monkeypatch.setattr(_outbox, "BROADCAST_LIFETIME", 0.0)
        recorder.errors = {"broadcast": [kiwipy.TimeoutError("slow")]}
        link = attach(Target("p", recorder, asyncio.get_running_loop()))
        link.state_changed("a", "b")
        await asyncio.wrap_future(link.flushed())
        assert [what for what, _ in recorder.log] == ["subscribe"]

    async def test_two_loops_share_one_communicator(self, recorder, loop_thread):
        here, there = asyncio.get_running_loop(), loop_thread
        mine, other = Target("a", recorder, here), Target("b", recorder, there)
        links = [attach(mine), attach(other)]
        await asyncio.wrap_future(links[1].flushed())
        await asyncio.to_thread(recorder.broadcast_send, "text", None, "pause", None)
        await asyncio.to_thread(other.called.wait, TIMEOUT)
        while not mine.called.is_set():
            await asyncio.sleep(0)
        assert mine.broadcasts == other.broadcasts == [("text", None, "pause", None)]
        assert mine.threads == {threading.get_ident()}
        assert threading.get_ident() not in other.threads


class TestBroadcasts:
    async def test_state_changes_of_others_reach_no_process(self):
        communicator = kiwipy.LocalCommunicator()
        target = Target(1, communicator, asyncio.get_running_loop())
        attach(target)
        communicator.broadcast_send(None, 5, "state_changed.running.finished")
        assert target.broadcasts == []

    async def test_one_that_fails_keeps_it_from_no_other(self, caplog):
        communicator = kiwipy.LocalCommunicator()
        loop = asyncio.get_running_loop()

        class Bad(Target):
            def broadcast_receive(self, *_):
                raise ValueError("bad")

        good = Target(2, communicator, loop)
        attach(Bad(1, communicator, loop))
        attach(good)
        communicator.broadcast_send("t", subject="kill")
        assert len(good.broadcasts) == 1
        assert "process 1 failed on a broadcast" in caplog.text

    async def test_the_communicator_has_one_subscriber_however_many_processes(self):
        communicator = kiwipy.LocalCommunicator()
        loop = asyncio.get_running_loop()
        for pid in range(20):
            attach(Target(pid, communicator, loop))
        assert len(communicator._broadcast_subscribers) == 1


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _future_with(loop: asyncio.AbstractEventLoop, value: Any) -> asyncio.Future[Any]:
    future = loop.create_future()
    loop.call_soon(future.set_result, value)
    return future


def _done_future(value: Any) -> kiwipy.Future:
    future = kiwipy.Future()
    future.set_result(value)
    return future
