"""Communicators seen from a loop: subscribers run there, and callers get one answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy import communications
from plumpy._crossing import flatten
from plumpy.communications import LoopCommunicator, convert_to_comm, plum_to_kiwi_future

TIMEOUT = 5


async def in_thread(function, *args: Any) -> Any:
    """Call a blocking function in another thread and wait for it."""
    return await asyncio.to_thread(function, *args)


class TestConvertToComm:
    async def test_the_subscriber_runs_on_the_loop(self):
        threads = []

        def subscriber(_comm, msg):
            threads.append(threading.get_ident())
            return msg

        converted = convert_to_comm(subscriber)
        future = await in_thread(converted, None, "hello")
        assert isinstance(future, kiwipy.Future)
        assert await asyncio.wrap_future(future) == "hello"
        assert threads == [threading.get_ident()]

    async def test_coroutine_functions_are_awaited(self):
        async def subscriber(_comm, msg):
            await asyncio.sleep(0)
            return msg + 1

        assert await asyncio.wrap_future(convert_to_comm(subscriber)(None, 1)) == 2

    async def test_a_future_as_result_is_a_nested_thread_future(self):
        loop = asyncio.get_running_loop()

        def subscriber(_comm, msg):
            future = loop.create_future()
            loop.call_soon(future.set_result, msg)
            return future

        inner = await asyncio.wrap_future(convert_to_comm(subscriber)(None, 5))
        assert isinstance(inner, kiwipy.Future)
        assert await asyncio.wrap_future(inner) == 5

    async def test_exceptions_come_back(self):
        def subscriber(_comm, msg):
            raise ValueError(msg)

        with pytest.raises(ValueError, match="why"):
            await asyncio.wrap_future(convert_to_comm(subscriber)(None, "why"))

    async def test_cancellations_come_back(self):
        async def subscriber(_comm, msg):
            raise asyncio.CancelledError

        future = convert_to_comm(subscriber)(None, "x")
        while not future.done():
            await asyncio.sleep(0)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)

    async def test_a_closed_loop_is_an_error(self):
        loop = asyncio.new_event_loop()
        loop.close()
        with pytest.raises(RuntimeError, match="loop is closed"):
            convert_to_comm(print, loop)(None, "x").result(0)

    @pytest.mark.parametrize("by_keyword", [False, True])
    async def test_a_filter_is_asked_in_the_calling_thread(self, by_keyword):
        """E18: arguments given by keyword, as kiwipy.LocalCommunicator does, were an IndexError."""
        received = []
        broadcast_filter = kiwipy.BroadcastFilter(
            lambda _comm, body, *rest: received.append((body, *rest)), subject="wanted.*"
        )
        converted = convert_to_comm(broadcast_filter)

        def send(subject):
            if by_keyword:
                return converted(None, body="b", sender="s", subject=subject, correlation_id="c")
            return converted(None, "b", "s", subject, "c")

        assert send("other").done()
        assert send("other").result() is None
        await asyncio.wrap_future(send("wanted.1"))
        assert received == [("b", "s", "wanted.1", "c")]


class TestPlumToKiwiFuture:
    async def test_the_outcome_is_followed(self):
        loop = asyncio.get_running_loop()
        good, bad, gone, nested = (loop.create_future() for _ in range(4))
        followers = [plum_to_kiwi_future(future) for future in (good, bad, gone, nested)]
        good.set_result(1)
        bad.set_exception(KeyError("k"))
        gone.cancel()
        nested.set_result(good)
        await asyncio.sleep(0)
        assert followers[0].result(0) == 1
        assert isinstance(followers[1].exception(0), KeyError)
        assert followers[2].cancelled()
        assert isinstance(followers[3].result(0), kiwipy.Future)


class TestLoopCommunicator:
    async def test_wrapping_is_idempotent_for_a_loop(self):
        inner = kiwipy.LocalCommunicator()
        wrapped = plumpy.wrap_communicator(inner)
        loop = asyncio.get_running_loop()
        assert wrapped.loop() is loop
        assert wrapped.inner is inner
        assert plumpy.wrap_communicator(wrapped) is wrapped
        assert plumpy.wrap_communicator(wrapped, loop) is wrapped
        other = asyncio.new_event_loop()
        assert plumpy.wrap_communicator(wrapped, other) is not wrapped
        other.close()

    def test_none_is_refused(self):
        loop = asyncio.new_event_loop()
        with pytest.raises(ValueError, match="no communicator to wrap"):
            LoopCommunicator(None, loop)
        loop.close()

    async def test_a_call_from_another_thread(self):
        inner = kiwipy.LocalCommunicator()
        wrapped = LoopCommunicator(inner)
        seen = []

        def subscriber(communicator, msg):
            seen.append((communicator, threading.get_ident()))
            return msg

        identifier = wrapped.add_rpc_subscriber(subscriber, "me")
        assert identifier == "me"
        answer = flatten(await in_thread(inner.rpc_send, "me", "hi"))
        assert await asyncio.wrap_future(answer) == "hi"
        assert seen == [(wrapped, threading.get_ident())]
        wrapped.remove_rpc_subscriber("me")
        with pytest.raises(kiwipy.UnroutableError):
            wrapped.rpc_send("me", "hi")

    async def test_tasks(self):
        inner = kiwipy.LocalCommunicator()
        wrapped = LoopCommunicator(inner)

        async def worker(_comm, task):
            await asyncio.sleep(0)
            return task * 2

        identifier = wrapped.add_task_subscriber(worker)
        assert await asyncio.wrap_future(flatten(wrapped.task_send(4))) == 8
        assert wrapped.task_send(4, no_reply=True) is None
        wrapped.remove_task_subscriber(identifier)

    async def test_broadcasts_with_and_without_a_filter(self):
        inner = kiwipy.LocalCommunicator()
        wrapped = LoopCommunicator(inner)
        everything, filtered = asyncio.Queue(), asyncio.Queue()

        def note_all(_comm, body, sender, subject, correlation_id):
            everything.put_nowait((body, sender, subject, correlation_id))

        def note(_comm, body, sender, subject, correlation_id):
            filtered.put_nowait((body, sender, subject, correlation_id))

        first = wrapped.add_broadcast_subscriber(note_all)
        wrapped.add_broadcast_subscriber(kiwipy.BroadcastFilter(note, sender=2))
        wrapped.broadcast_send("x", sender=1, subject="s", correlation_id="c")
        wrapped.broadcast_send("y", sender=2)
        assert await filtered.get() == ("y", 2, None, None)
        assert await everything.get() == ("x", 1, "s", "c")
        assert await everything.get() == ("y", 2, None, None)
        wrapped.remove_broadcast_subscriber(first)
        wrapped.broadcast_send("z", sender=2)
        await filtered.get()
        assert everything.empty()

    async def test_closing_closes_the_inner_one(self):
        inner = kiwipy.LocalCommunicator()
        wrapped = LoopCommunicator(inner)
        assert not wrapped.is_closed()
        wrapped.close()
        assert inner.is_closed()
        assert wrapped.is_closed()

    async def test_it_is_a_communicator(self):
        assert issubclass(LoopCommunicator, kiwipy.Communicator)
        assert communications.Communicator is kiwipy.Communicator
