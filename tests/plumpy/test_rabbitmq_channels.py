"""The channels of plumpy._rabbitmq: writing at once, what comes back, what is set up anew."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import kiwipy
import pytest
from kiwipy.rmq import RmqThreadCommunicator

import plumpy
from plumpy import _codec
from plumpy.futures import unwrap_kiwi_future

TIMEOUT = 10


async def outcome(answer: Any) -> Any:
    return await asyncio.wait_for(asyncio.wrap_future(unwrap_kiwi_future(answer)), TIMEOUT)


async def send_task(communicator: Any, task: Any) -> Any:
    return await outcome(await asyncio.to_thread(communicator.task_send, task))


async def delete_queue(url: str, name: str) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.queue_delete(name)


async def test_a_queue_that_is_deleted_is_made_again(loop_communicator, amqp_url):
    """The broker tells the consumer, and it was not listened to: no task ever came again."""
    loop_communicator.add_task_subscriber(lambda _, task: task)
    assert await send_task(loop_communicator, 1) == 1
    await delete_queue(amqp_url, "kiwipy.tasks")

    async def try_again() -> Any:
        while True:
            try:
                return await send_task(loop_communicator, 2)
            except kiwipy.UnroutableError:
                await asyncio.sleep(0.01)

    assert await asyncio.wait_for(try_again(), TIMEOUT) == 2


@pytest.mark.parametrize("size", [0, 1, 131_000, 131_072, 2_000_000])
async def test_a_body_of_any_number_of_frames_arrives(loop_communicator, size):
    loop_communicator.add_task_subscriber(lambda _, task: task)
    assert await send_task(loop_communicator, "x" * size) == "x" * size


async def test_an_answer_may_be_larger_than_what_comes_unasked(loop_communicator, monkeypatch):
    monkeypatch.setattr(_codec, "LARGEST_BODY", 1000)
    loop_communicator.add_task_subscriber(lambda _, size: "x" * size)
    assert await send_task(loop_communicator, 5000) == "x" * 5000


async def test_a_call_that_has_no_recipient_is_sent_back(loop_communicator):
    with pytest.raises(kiwipy.UnroutableError):
        await asyncio.to_thread(loop_communicator.rpc_send, "nobody", {})
    loop_communicator.add_rpc_subscriber(lambda _, msg: msg, "somebody")
    assert await outcome(await asyncio.to_thread(loop_communicator.rpc_send, "somebody", 1)) == 1


async def test_many_calls_at_once_get_each_its_own_answer(loop_communicator):
    loop_communicator.add_rpc_subscriber(lambda _, msg: msg, "echo")

    def send() -> list[Any]:
        return [loop_communicator.rpc_send("echo", number) for number in range(300)]

    answers = await asyncio.to_thread(send)
    assert [await outcome(answer) for answer in answers] == list(range(300))


async def test_broadcasts_keep_their_order_whether_few_or_many(communicator, loop_communicator):
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def hear(_comm: Any, _body: Any, sender: Any, subject: Any, _correlation_id: Any) -> None:
        heard.put_nowait((sender, subject))

    loop_communicator.add_broadcast_subscriber(hear)
    process = plumpy.Process(pid="p", communicator=communicator)
    link = process._link
    expected = [("p", "state_changed.None.created")]
    for number in range(500):
        link.state_changed(number, number + 1)
        expected.append(("p", f"state_changed.{number}.{number + 1}"))
        if number % 100 == 0:
            await asyncio.wrap_future(link.flushed())
    received = [await asyncio.wait_for(heard.get(), TIMEOUT) for _ in expected]
    assert received == expected


async def test_nobody_waits_for_a_connection_that_is_closed(amqp_url):
    """Also when much was said just before, and the thread was listened to without being woken."""
    for _ in range(5):
        communicator = await asyncio.to_thread(RmqThreadCommunicator, amqp_url)
        process = plumpy.Process(communicator=communicator)
        link = process._link
        await asyncio.wrap_future(link.flushed())
        flushes = []
        for number in range(200):
            link.state_changed(number, number + 1)
            flushes.append(link.flushed())
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await asyncio.to_thread(communicator.close)
        flushes.append(link.flushed())
        await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, flushes)), TIMEOUT)
        process.kill()


class TestReadingBodies:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"x" * (_codec.LARGEST_BODY + 1), "bytes, more than"),
            (b"[" * 101 + b"]" * 101, "nested deeper than 100"),
            (b"[" + b"1," * 600_000 + b"]", "more than 500000 values"),
            (b"&a [*a]", "contains itself"),
            (b"a: &a [" + b"1, " * 9 + b"]\nb: " + b"[" + b"*a, " * 60_000 + b"]", "values"),
            (b"1" + b":1" * 5000, "more than 4300 digits"),
            (b"!!python/name:os.system ''", "no plain YAML"),
            (b"!!python/object/apply:os.getpid []", "no plain YAML"),
            (b"2020-99-99", "cannot be read"),
            (b"\xff", "no plain YAML"),
        ],
    )
    def test_what_is_refused_says_why(self, body, reason):
        with pytest.raises(ValueError, match=reason):
            _codec.decode_safely(body)

    def test_values_of_messages_survive(self):
        value = {"a": [1, 2.5, None, True, "x", b"y"], "t": (1, (2,)), "c": 1 + 2j, "s": {1, 2}}
        assert _codec.decode_safely(_codec.encode(value)) == value

    def test_as_deep_as_may_be_is_read(self):
        assert _codec.decode_safely(b"[" * 100 + b"]" * 100)
