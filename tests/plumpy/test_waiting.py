"""Waiting for processes that run elsewhere: by broadcast, by polling, by both."""

from __future__ import annotations

import asyncio
from typing import Any

import kiwipy
import pytest
from kiwipy.rmq import RmqThreadCommunicator

import plumpy
from plumpy import ProcessState
from plumpy.waiting import ProcessWaiter, state_in_persister

TIMEOUT = 10


class Polled:
    """A poll function whose answers come from the test."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    def poll(self):
        async def poll(pid):
            self.asked.append(pid)
            return await self.answers.get()

        return poll


def ended(communicator: Any, pid: Any, label: str = "finished") -> None:
    communicator.broadcast_send(None, sender=pid, subject=f"state_changed.running.{label}")


class TestByBroadcast:
    @pytest.mark.parametrize("label", ["finished", "excepted", "killed"])
    async def test_the_broadcast_alone_ends_the_wait(self, label):
        communicator = kiwipy.LocalCommunicator()
        async with ProcessWaiter(communicator) as waiter:
            waiting = asyncio.create_task(waiter.wait(5))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended(communicator, 5, label)
            assert await asyncio.wait_for(waiting, TIMEOUT) is ProcessState(label)

    async def test_other_processes_and_other_states_do_not_count(self):
        communicator = kiwipy.LocalCommunicator()
        async with ProcessWaiter(communicator) as waiter:
            waiting = asyncio.create_task(waiter.wait(5))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended(communicator, 6)
            ended(communicator, 5, "waiting")
            communicator.broadcast_send(None, sender=5, subject="finished")
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()

    async def test_over_rabbitmq_from_another_communicator(self, communicator, amqp_url):

        other = await asyncio.to_thread(RmqThreadCommunicator, amqp_url)
        try:
            process = Waits(communicator=other)
            async with ProcessWaiter(communicator) as waiter:
                waiting = asyncio.create_task(waiter.wait(process.pid))
                await plumpy.RemoteProcessController(communicator).get_status(process.pid)
                stepping = asyncio.create_task(process.step_until_terminated())
                while not (waiter._listening and waiter._listening.done()):
                    await asyncio.sleep(0.001)
                await plumpy.RemoteProcessController(communicator).kill_process(process.pid)
                await stepping
                assert await asyncio.wait_for(waiting, TIMEOUT) is ProcessState.KILLED
        finally:
            await asyncio.to_thread(other.close)


class TestByPolling:
    async def test_polling_alone_ends_the_wait(self):
        polled = Polled()
        async with ProcessWaiter(poll=polled.poll(), interval=0.001) as waiter:
            waiting = asyncio.create_task(waiter.wait(5))
            for answer in (None, None, "killed"):
                polled.answers.put_nowait(answer)
            assert await asyncio.wait_for(waiting, TIMEOUT) is ProcessState.KILLED
        assert polled.asked == [5, 5, 5]

    async def test_with_broadcasts_cut_polling_ends_it(self):
        class Deaf(kiwipy.LocalCommunicator):
            def add_broadcast_subscriber(self, subscriber, identifier=None):
                raise kiwipy.TimeoutError

        polled = Polled()
        polled.answers.put_nowait(ProcessState.FINISHED)
        async with ProcessWaiter(Deaf(), polled.poll(), interval=0.01) as waiter:
            assert await asyncio.wait_for(waiter.wait(5), TIMEOUT) is ProcessState.FINISHED

    async def test_the_first_look_is_at_once(self):
        polled = Polled()
        polled.answers.put_nowait("finished")
        async with ProcessWaiter(
            kiwipy.LocalCommunicator(), polled.poll(), interval=3600
        ) as waiter:
            assert await asyncio.wait_for(waiter.wait(5), TIMEOUT) is ProcessState.FINISHED

    async def test_many_waiters_for_one_process_poll_once(self):
        polled = Polled()
        async with ProcessWaiter(poll=polled.poll(), interval=3600) as waiter:
            waiting = [asyncio.create_task(waiter.wait(5)) for _ in range(100)]
            polled.answers.put_nowait("finished")
            results = await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT)
        assert set(results) == {ProcessState.FINISHED}
        assert polled.asked == [5]

    async def test_a_look_that_fails_is_repeated(self, caplog):
        answers = iter([OSError("away"), None, "finished"])

        def poll(pid):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with ProcessWaiter(poll=poll, interval=0.001) as waiter:
            assert await asyncio.wait_for(waiter.wait(5), TIMEOUT) is ProcessState.FINISHED
        assert "cannot see whether process 5 has ended" in caplog.text

    async def test_one_that_gives_up_leaves_the_others_waiting(self):
        communicator = kiwipy.LocalCommunicator()
        async with ProcessWaiter(communicator) as waiter:
            first, second = (asyncio.create_task(waiter.wait(5)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            await asyncio.sleep(0)
            ended(communicator, 5)
            assert await asyncio.wait_for(second, TIMEOUT) is ProcessState.FINISHED

    async def test_a_persister_can_be_polled(self, tmp_path):
        persister = plumpy.PicklePersister(str(tmp_path))
        poll = state_in_persister(persister)
        process = Waits()
        assert poll(process.pid) is None
        persister.save_checkpoint(process)
        assert poll(process.pid) is None
        process.kill()
        persister.save_checkpoint(process)
        assert poll(process.pid) is ProcessState.KILLED


class TestClosing:
    async def test_those_who_still_wait_are_told(self):
        waiter = ProcessWaiter(kiwipy.LocalCommunicator())
        waiting = asyncio.create_task(waiter.wait(5))
        await asyncio.sleep(0)
        waiter.close()
        waiter.close()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        with pytest.raises(RuntimeError, match="closed"):
            await waiter.wait(5)

    async def test_without_any_way_to_know_it_is_refused(self):
        with pytest.raises(ValueError, match="needs a communicator"):
            ProcessWaiter()
        with pytest.raises(ValueError, match="interval must be positive"):
            ProcessWaiter(kiwipy.LocalCommunicator(), interval=0)


class Waits(plumpy.Process):
    """Waits until it is killed."""

    def run(self):
        return plumpy.Wait()
