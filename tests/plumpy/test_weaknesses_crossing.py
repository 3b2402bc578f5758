"""Weaknesses of plumpy 0.26.1 between threads, communicators and processes, each by its id.

Every test here uses nothing but what 0.26.1 has too, and was run on it once; its docstring says how
it fails there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy import ProcessState
from plumpy.communications import convert_to_comm

HANG = 10  # seconds

NAME = __name__


class Waits(plumpy.Process):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threads: list[int] = []

    async def run(self) -> Any:
        return plumpy.Wait(self.resumed)

    def resumed(self) -> None:
        pass

    def get_status_info(self, out_status_info: dict[str, Any]) -> None:
        self.threads.append(threading.get_ident())
        super().get_status_info(out_status_info)

    def on_paused(self, msg: str | None = None) -> None:
        self.threads.append(threading.get_ident())
        super().on_paused(msg)


class Fails(kiwipy.LocalCommunicator):
    """Cannot broadcast."""

    def broadcast_send(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("gone")


@pytest.fixture
def loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own and does nothing."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def until(condition: Any) -> None:
    async def turns() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(turns(), HANG)


def test_e1_no_answer_is_lost_on_an_idle_loop(loop_thread: asyncio.AbstractEventLoop) -> None:
    """Fails on 0.26.1: one answer in ten waits until something else wakes the loop.

    Of 2,000 answers none is given late here with a chance of 0.9 ** 2000 if one in ten would be.
    """

    def answer(_comm: Any, _msg: Any) -> int:
        return 1

    converted = convert_to_comm(answer, loop_thread)
    for _ in range(2000):
        assert converted(None, "message").result(HANG) == 1


async def test_e18_a_filter_may_be_called_with_keywords() -> None:
    """Fails on 0.26.1: IndexError, as kiwipy.LocalCommunicator calls it so."""
    received: list[Any] = []

    def subscriber(_comm: Any, body: Any, *rest: Any) -> None:
        received.append((body, *rest))

    communicator = kiwipy.LocalCommunicator()
    wrapped = plumpy.communications.wrap_communicator(communicator, asyncio.get_running_loop())
    wrapped.add_broadcast_subscriber(kiwipy.BroadcastFilter(subscriber, subject="wanted.*"))
    communicator.broadcast_send("body", sender="me", subject="other", correlation_id="c")
    communicator.broadcast_send("body", sender="me", subject="wanted.1", correlation_id="c")
    await until(lambda: received)
    assert received == [("body", "me", "wanted.1", "c")]


async def test_e19_a_communicator_that_fails_does_not_fail_the_process() -> None:
    """Fails on 0.26.1: the constructor raises the ConnectionError of the first broadcast."""
    process = plumpy.Process(communicator=Fails())
    await asyncio.wait_for(process.step_until_terminated(), HANG)
    assert process.state is ProcessState.FINISHED


async def test_e20_calls_through_an_unwrapped_communicator_run_on_the_loop() -> None:
    """Fails on 0.26.1: the process is called in the thread of the caller."""
    communicator = kiwipy.LocalCommunicator()
    process = Waits(communicator=communicator)
    stepping = asyncio.ensure_future(process.step_until_terminated())
    await until(lambda: process.state is ProcessState.WAITING)
    for message in (plumpy.MessageBuilder.status(), plumpy.MessageBuilder.pause("rest")):
        await asyncio.to_thread(communicator.rpc_send, str(process.pid), message)
    await until(lambda: process.paused)
    assert set(process.threads) == {threading.get_ident()}
    process.kill()
    await asyncio.wait_for(stepping, HANG)


async def test_e21_a_checkpoint_is_not_continued_twice_at_once() -> None:
    """Fails on 0.26.1: two processes run from the same checkpoint."""
    persister = plumpy.InMemoryPersister()
    persister.save_checkpoint(Waits(pid=1))
    launcher = plumpy.ProcessLauncher(persister=persister)
    task = plumpy.process_comms.create_continue_body(1, nowait=True)
    assert await launcher(None, task) == 1  # type: ignore[arg-type]
    with pytest.raises(kiwipy.DuplicateSubscriberIdentifier):
        await launcher(None, task)  # type: ignore[arg-type]


async def test_e21_a_process_that_has_ended_can_be_continued_again() -> None:
    """Works on 0.26.1 too."""
    persister = plumpy.InMemoryPersister()
    persister.save_checkpoint(plumpy.Process(pid=1))
    launcher = plumpy.ProcessLauncher(persister=persister)
    task = plumpy.process_comms.create_continue_body(1, nowait=False)
    for _ in range(2):
        assert await launcher(None, task) == {}  # type: ignore[arg-type]


class Makes:
    """Is no process, and does something when it is made."""

    def __init__(self, path: str) -> None:
        os.mkdir(path)


@pytest.mark.parametrize("what", ["os:mkdir", f"{NAME}:Makes"])
async def test_s3_a_task_runs_nothing_but_processes(what: str, tmp_path: Any) -> None:
    """Fails on 0.26.1: the directory is made; a class that is no process is instantiated."""
    made = tmp_path / "made"
    launcher = plumpy.ProcessLauncher()
    arguments = {"process_class": what, "init_args": [str(made)], "persist": False, "nowait": False}
    task = {"task": "launch", "args": arguments}
    with pytest.raises((ValueError, kiwipy.TaskRejected)):
        await launcher(None, task)  # type: ignore[arg-type]
    assert not made.exists()
