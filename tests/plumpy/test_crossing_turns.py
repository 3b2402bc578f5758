"""However much there is to be done, the loop has its turns: plumpy._crossing and what it bounds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy import _crossing
from plumpy._crossing import _hubs, _turns
from plumpy._rabbitmq import _pace

TIMEOUT = 10


class TurnCounter:
    """Counts the turns of the running loop."""

    def __init__(self) -> None:
        self.now = 0
        asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self.now += 1
        asyncio.get_running_loop().call_soon(self._count)


@pytest.fixture
async def turns() -> TurnCounter:
    return TurnCounter()


@pytest.fixture
def no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of a turn is over as soon as it has begun."""
    monkeypatch.setattr(_turns, "SHARE", -1.0)
    monkeypatch.setattr(_hubs, "SHARE", -1.0)


@pytest.mark.usefixtures("no_share")
class TestTurns:
    async def test_all_begin_in_the_order_they_came_and_each_in_a_turn_of_its_own(self, turns):
        begun: list[tuple[int, int]] = []

        async def work(number: int) -> None:
            await _crossing.turn()
            begun.append((number, turns.now))

        await asyncio.gather(*[work(number) for number in range(20)])
        assert [number for number, _ in begun] == list(range(20))
        assert len({turn for _, turn in begun}) == 20

    async def test_one_that_gives_up_keeps_nobody_waiting(self):
        tasks = [asyncio.ensure_future(_crossing.turn()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[3:7]:
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=TIMEOUT)
        assert len(done) == 10
        assert [task.cancelled() for task in tasks] == [3 <= n < 7 for n in range(10)]

    async def test_when_all_have_begun_nothing_goes_on(self):
        await asyncio.gather(*[_crossing.turn() for _ in range(3)])
        loop = asyncio.get_running_loop()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not loop._ready


async def test_a_loop_need_not_take_attributes():
    """Such as one that is written in C."""

    class Fixed:
        __slots__ = ("__weakref__", "call_soon", "create_future")

    loop, fixed = asyncio.get_running_loop(), Fixed()
    fixed.call_soon, fixed.create_future = loop.call_soon, loop.create_future
    asyncio._set_running_loop(fixed)
    try:
        with pytest.raises(StopIteration):
            _crossing.turn().send(None)
    finally:
        asyncio._set_running_loop(loop)


async def test_what_fits_into_a_turn_begins_in_it(monkeypatch, turns):
    monkeypatch.setattr(_turns, "SHARE", float("inf"))
    await asyncio.sleep(0)
    begun: set[int] = set()

    async def work() -> None:
        await _crossing.turn()
        begun.add(turns.now)

    await asyncio.gather(*[work() for _ in range(50)])
    assert len(begun) == 1


async def test_portions_follow_the_time_that_they_take(monkeypatch, turns):
    """Quick work is not let out one by one."""
    monkeypatch.setattr(_turns, "SHARE", 1000.0)
    loop = asyncio.get_running_loop()
    turn_of = [0] * 100

    async def work(number: int) -> None:
        await _crossing.turn()
        turn_of[number] = turns.now

    await work(0)
    _turns._turns[loop].since = -1e9  # the turn has been going on for long
    await asyncio.gather(*[work(number) for number in range(1, 100)])
    assert turn_of == sorted(turn_of)
    assert turn_of[-1] - turn_of[1] <= 8, "1, 2, 4, ... 64"


class Waits(plumpy.Process):
    """Waits until it is resumed, and notes in which turns it was stepped."""

    def __init__(self, turns: TurnCounter, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.turns = turns
        self.began = self.ended = 0

    def run(self) -> Any:
        self.began = self.turns.now
        return plumpy.Wait(self.go_on)

    def go_on(self, *_: Any) -> None:
        self.ended = self.turns.now


async def reached(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.usefixtures("no_share")
class TestProcesses:
    async def run_all(self, processes: list[Waits]) -> None:
        tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
        await asyncio.wait_for(
            reached(lambda: all(p.state.value == "waiting" for p in processes)), 9
        )
        for process in processes:
            process.resume()
        await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT)

    async def test_many_that_can_be_reached_begin_and_go_on_in_several_turns(self, turns):
        """1,000 that were started or resumed at once held up the loop of those who call them."""
        communicator = kiwipy.LocalCommunicator()
        processes = [Waits(turns, communicator=communicator) for _ in range(20)]
        await self.run_all(processes)
        assert len({p.began for p in processes}) == 20
        assert len({p.ended for p in processes}) == 20

    async def test_those_that_nobody_calls_are_stepped_at_once(self, turns):
        processes = [Waits(turns) for _ in range(20)]
        await self.run_all(processes)
        assert len({p.began for p in processes}) == 1
        assert len({p.ended for p in processes}) == 1

    async def test_one_that_is_killed_before_its_turn_ends(self, turns):
        communicator = kiwipy.LocalCommunicator()
        processes = [Waits(turns, communicator=communicator) for _ in range(5)]
        tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
        await asyncio.sleep(0)
        assert [p.kill() for p in processes][1:] == 4 * [True], "only the first has begun"
        await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT)
        assert all(p.killed() for p in processes)

    async def test_one_that_is_cancelled_before_its_turn_can_be_stepped_later(self, turns):
        communicator = kiwipy.LocalCommunicator()
        first, second = (Waits(turns, communicator=communicator) for _ in range(2))
        tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in (first, second)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        first.kill()
        await tasks[0]
        await self.run_all([second])
        assert second.successful()

    async def test_launch_tasks_make_their_processes_in_several_turns(self, turns):
        made: list[int] = []

        class Notes(plumpy.ProcessLauncher):
            def make(self, *args: Any) -> Any:
                made.append(turns.now)
                return super().make(*args)

        launcher = Notes()
        task = plumpy.create_launch_body(plumpy.Process, nowait=False)
        calls = [launcher(kiwipy.LocalCommunicator(), task) for _ in range(10)]
        await asyncio.wait_for(asyncio.gather(*calls), TIMEOUT)
        assert len(set(made)) == 10


class Hears(plumpy.Process):
    """Notes the broadcasts that it hears, with the turn."""

    heard: list[tuple[Any, Any, int]]
    turns: TurnCounter

    def run(self) -> Any:
        return plumpy.Wait(self.go_on)

    def go_on(self, *_: Any) -> None:
        """End."""

    def broadcast_receive(
        self, _comm: Any, msg: Any, sender: Any, subject: Any, correlation_id: Any
    ) -> Any:
        self.heard.append((self.pid, subject, self.turns.now))


async def broadcast(communicator: Any, *subjects: str) -> None:
    """Broadcast from another thread, as a remote communicator does."""

    def send() -> None:
        for subject in subjects:
            communicator.broadcast_send(None, subject=subject)

    await asyncio.to_thread(send)


@pytest.mark.usefixtures("no_share")
class TestBroadcasts:
    async def test_every_process_hears_all_in_order_and_few_of_them_in_one_turn(self, turns):
        communicator = kiwipy.LocalCommunicator()
        Hears.heard, Hears.turns = heard, _ = [], turns
        processes = [Hears(pid=n, communicator=communicator) for n in range(10)]
        subjects = ["first", "second", "third"]
        await broadcast(communicator, *subjects)
        await asyncio.wait_for(reached(lambda: len(heard) == 30), TIMEOUT)
        assert [entry[:2] for entry in heard] == [(n, s) for s in subjects for n in range(10)]
        assert len({turn for *_, turn in heard}) == 30
        for process in processes:
            process.close()

    @pytest.mark.parametrize("subject", ["pause", "kill"])
    async def test_all_processes_do_as_they_are_told(self, turns, subject):
        communicator = kiwipy.LocalCommunicator()
        processes = [Waits(turns, communicator=communicator) for _ in range(30)]
        tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
        await broadcast(communicator, subject)
        await asyncio.wait_for(
            reached(lambda: all(p.paused or p.killed() for p in processes)), TIMEOUT
        )
        for process in processes:
            process.kill()
        await asyncio.gather(*tasks)

    async def test_one_that_raises_a_cancellation_keeps_the_next_from_nobody(self, turns, caplog):
        class Cancels(Hears):
            def broadcast_receive(self, *_: Any) -> Any:
                raise asyncio.CancelledError

        communicator = kiwipy.LocalCommunicator()
        Hears.heard, Hears.turns = heard, _ = [], turns
        processes = [cls(communicator=communicator) for cls in (Cancels, Hears)]
        await broadcast(communicator, "first", "second")
        await asyncio.wait_for(reached(lambda: len(heard) == 2), TIMEOUT)
        assert caplog.text.count("failed on a broadcast") == 2
        for process in processes:
            process.close()

    async def test_a_broadcast_for_a_loop_that_is_closed_is_dropped(self, turns):
        loop = asyncio.new_event_loop()
        communicator = kiwipy.LocalCommunicator()
        Hears.heard, Hears.turns = [], turns
        process = Hears(communicator=communicator, loop=loop)
        loop.close()
        await broadcast(communicator, "first")
        assert process.heard == []
        process.close()


_NESTED = """
import asyncio, kiwipy, nest_asyncio, plumpy
heard = []
class Hears(plumpy.Process):
    def broadcast_receive(self, _comm, msg, sender, subject, correlation_id):
        heard.append(subject)
        if subject == "first":
            self.loop.run_until_complete(asyncio.wait_for(number(2), 10))
            heard.append("end of first")
async def number(count):
    while len(heard) < count:
        await asyncio.sleep(0)
async def main():
    communicator = kiwipy.LocalCommunicator()
    process = Hears(communicator=communicator)
    for subject in ("first", "second"):
        await asyncio.to_thread(communicator.broadcast_send, None, subject=subject)
    await asyncio.wait_for(number(3), 20)
    assert heard == ["first", "second", "end of first"], heard
    process.close()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
nest_asyncio.apply(loop)
loop.run_until_complete(main())
"""


def test_a_process_that_nests_its_loop_in_a_broadcast_can_wait_for_the_next():
    pytest.importorskip("nest_asyncio")
    done = subprocess.run(
        [sys.executable, "-c", _NESTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


class TestPace:
    @pytest.fixture
    def clocks(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        clocks = {"clock": 0.0, "worked": 0.0, "slept": 0.0}
        monkeypatch.setattr(time, "monotonic", lambda: clocks["clock"])
        monkeypatch.setattr(time, "thread_time", lambda: clocks["worked"])

        def sleep(seconds: float) -> None:
            clocks["slept"] += seconds

        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(_pace, "_present", _pace._Present())
        return clocks

    def test_a_thread_that_works_without_end_pauses(self, clocks):
        for _ in range(100):
            clocks["clock"] += _pace._STRETCH / 10
            clocks["worked"] += _pace._STRETCH / 10
            _pace.breathe()
        assert clocks["slept"] == pytest.approx(10 * _pace._PAUSE, rel=0.2)

    def test_one_that_waits_now_and_then_does_not(self, clocks):
        for _ in range(100):
            clocks["clock"] += _pace._STRETCH
            clocks["worked"] += _pace._STRETCH / 10
            assert not _pace.breathe()
        assert clocks["slept"] == 0

    def test_each_thread_has_a_pace_of_its_own(self, clocks):
        clocks["clock"] = clocks["worked"] = 1.0
        assert _pace.breathe()
        breathed: list[bool] = []
        thread = threading.Thread(target=lambda: breathed.append(_pace.breathe()))
        thread.start()
        thread.join(TIMEOUT)
        assert breathed == [False]
