"""What the released plumpy gets wrong over RabbitMQ, by the names in its list of weaknesses.

E1, E18 to E21 and S3, which need none, are in test_weaknesses_crossing.py; here is what needs a
broker and no process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import time
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy.futures import unwrap_kiwi_future

TIMEOUT = 10


def _outcome(kind: str) -> Any:
    if kind == "result":
        return 5
    if kind == "exception":
        raise ValueError("on purpose")
    raise asyncio.CancelledError if kind == "asyncio's" else concurrent.futures.CancelledError


def _subscriber(form: str, kind: str) -> Any:
    def plain(_comm: Any, _msg: Any) -> Any:
        return _outcome(kind)

    async def coroutine(_comm: Any, _msg: Any) -> Any:
        await asyncio.sleep(0)
        return _outcome(kind)

    def settle(future: Any) -> Any:
        try:
            future.set_result(_outcome(kind))
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            future.cancel()
        except Exception as exc:
            future.set_exception(exc)
        return future

    def asyncio_future(_comm: Any, _msg: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(settle, future)
        return future

    def thread_future(_comm: Any, _msg: Any) -> Any:
        future = kiwipy.Future()
        asyncio.get_running_loop().call_soon(settle, future)
        return future

    return locals()[form]


FORMS = ["plain", "coroutine", "asyncio_future", "thread_future"]
KINDS = ["result", "exception", "asyncio's", "kiwipy's"]


async def check_answer(answer: Any, kind: str) -> None:
    """Fail unless a future comes to what a subscriber of a kind has to say."""
    outcome = asyncio.wrap_future(unwrap_kiwi_future(answer))
    await asyncio.wait([outcome], timeout=TIMEOUT)
    assert outcome.done(), "there was no answer"
    if kind == "result":
        assert outcome.result() == 5
    elif kind == "exception":
        assert isinstance(outcome.exception(), kiwipy.RemoteException)
        assert "Traceback" not in str(outcome.exception())
    else:
        assert outcome.cancelled()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["call", "task"])
async def test_every_subscriber_gives_the_caller_one_answer(
    communicator, loop_communicator, form, kind, way
):
    """E15, and kiwipy's own: a cancelled call or task was never answered."""
    direct = form in ("plain", "coroutine")
    if sys.version_info < (3, 11) and direct and (way, kind) == ("task", "asyncio's"):
        pytest.skip("before Python 3.11 this cannot be told from the end of the program")
    subscriber = _subscriber(form, kind)
    controller = plumpy.RemoteProcessThreadController(communicator)
    if way == "call":
        loop_communicator.add_rpc_subscriber(subscriber, "target")
        sends = (controller.get_status, communicator.rpc_send, loop_communicator.rpc_send)
        arguments: list[tuple[Any, ...]] = [("target",), ("target", {}), ("target", {})]
    else:
        loop_communicator.add_task_subscriber(subscriber)
        sends = (controller.task_send, communicator.task_send, loop_communicator.task_send)
        arguments = [("task",)] * 3
    for send, args in zip(sends, arguments, strict=True):
        await check_answer(await asyncio.to_thread(send, *args), kind)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "coroutine"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_process_gives_the_caller_one_answer(
    communicator, loop_communicator, wrapped, form, kind
):
    """A process may answer by any future too, over any communicator; it is called on its loop."""
    subscriber = _subscriber(form, kind)
    threads: list[int] = []

    class Answers(plumpy.Process):
        def message_receive(self, comm: Any, msg: Any) -> Any:
            threads.append(threading.get_ident())
            return subscriber(comm, msg)

    process = Answers(communicator=loop_communicator if wrapped else communicator)
    controller = plumpy.RemoteProcessThreadController(communicator)
    answer = await asyncio.to_thread(controller.get_status, process.pid)
    await check_answer(answer, kind)
    process.kill()
    assert threads == [threading.get_ident()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_broadcast_subscriber_keeps_the_next_broadcast_away(loop_communicator, form, kind):
    subscriber = _subscriber(form, kind)
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def hear(comm: Any, body: Any, *_: Any) -> Any:
        heard.put_nowait(body)
        return subscriber(comm, body)

    loop_communicator.add_broadcast_subscriber(hear)
    loop_communicator.add_broadcast_subscriber(lambda _, body, *__: heard.put_nowait(body))
    for body in ("first", "second"):
        await asyncio.to_thread(loop_communicator.broadcast_send, body)
    received = [await asyncio.wait_for(heard.get(), TIMEOUT) for _ in range(4)]
    assert received == ["first", "first", "second", "second"]


async def test_a_task_that_is_interrupted_goes_to_another_subscriber(
    communicator, loop_communicator
):
    """Work that is cancelled as its program ends is not done: somebody else has to do it."""
    began = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def work(_comm: Any, task: Any) -> Any:
        tasks.append(asyncio.current_task())
        began.set()
        if len(tasks) > 1:
            return "done"
        await asyncio.Event().wait()

    loop_communicator.add_task_subscriber(work)
    answer = await asyncio.to_thread(loop_communicator.task_send, "task")
    await asyncio.wait_for(began.wait(), TIMEOUT)
    tasks[0].cancel()
    outcome = asyncio.wrap_future(unwrap_kiwi_future(answer))
    assert await asyncio.wait_for(outcome, TIMEOUT) == "done"


async def test_a_rejected_task_is_offered_to_the_next_subscriber(loop_communicator):
    seen: list[str] = []

    def rejects(_comm: Any, _task: Any) -> Any:
        seen.append("rejects")
        raise kiwipy.TaskRejected

    def takes(_comm: Any, task: Any) -> Any:
        seen.append("takes")
        return task

    loop_communicator.add_task_subscriber(rejects)
    loop_communicator.add_task_subscriber(takes)
    answer = await asyncio.to_thread(loop_communicator.task_send, "x")
    assert await asyncio.wait_for(asyncio.wrap_future(unwrap_kiwi_future(answer)), TIMEOUT) == "x"
    assert seen == ["rejects", "takes"]


async def test_a_blocked_loop_costs_neither_the_connection_nor_an_answer(amqp_url):
    """A step blocks its loop for several heartbeats; its process answers when it is over."""
    from kiwipy.rmq import RmqThreadCommunicator

    mine = await asyncio.to_thread(RmqThreadCommunicator, f"{amqp_url}?heartbeat=1")
    other = await asyncio.to_thread(RmqThreadCommunicator, amqp_url)
    closed: list[Any] = []
    mine.add_close_callback(lambda *args: closed.append(args))
    asked = threading.Event()

    class Blocks(plumpy.Process):
        def run(self) -> Any:
            asked.wait(TIMEOUT)
            end = time.monotonic() + 3.5
            while time.monotonic() < end:
                pass
            return plumpy.Wait()

    try:
        process = Blocks(communicator=mine)
        await plumpy.RemoteProcessController(mine).get_status(process.pid)

        def ask() -> Any:
            controller = plumpy.RemoteProcessThreadController(other)
            answer = controller.kill_process(process.pid)
            asked.set()
            while isinstance(answer, kiwipy.Future):
                answer = answer.result(TIMEOUT)
            return answer

        asking = asyncio.get_running_loop().run_in_executor(None, ask)
        await process.step_until_terminated()
        assert await asyncio.wait_for(asking, TIMEOUT)
        assert process.killed()
        assert not closed
    finally:
        await asyncio.to_thread(other.close)
        await asyncio.to_thread(mine.close)
