"""A channel that is lost, however aiormq puts it, is opened again; nothing is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import kiwipy
import pytest
from kiwipy.rmq import RmqThreadCommunicator

from plumpy import _sending
from plumpy._rabbitmq._client import RabbitClient
from plumpy._rabbitmq._pipeline import Pipeline

TIMEOUT = 30


@pytest.mark.parametrize("method", ["_open", "_serve"])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), ConnectionError("broken")])
async def test_a_connection_that_breaks_ends_nothing(
    communicator: Any, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException
) -> None:
    """aiormq cancels what waits on a connection that breaks: nobody asked for that."""
    original = getattr(Pipeline, method)
    broken: set[int] = set()

    async def breaks_once(self: Pipeline, *args: Any) -> Any:
        if id(self) not in broken:
            broken.add(id(self))
            raise error
        return await original(self, *args)

    monkeypatch.setattr(Pipeline, method, breaks_once)
    sent = _sending.send_task_and_wait(communicator, {"a": 1}, True)
    await asyncio.wait_for(sent, TIMEOUT)
    assert broken


def test_what_is_said_after_the_connection_closed_starts_nothing(amqp_url: str) -> None:
    """The loop is about to stop: what it started now would be destroyed while it is pending."""
    communicator = RmqThreadCommunicator.connect({"url": amqp_url})
    try:
        client, started = RabbitClient(communicator), []

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
            started.append(coro.__qualname__)
            return asyncio.Task(coro, loop=loop, **options)

        communicator._loop_scheduler.await_(communicator._communicator.disconnect())
        communicator.loop().call_soon_threadsafe(communicator.loop().set_task_factory, factory)
        with pytest.raises(kiwipy.CommunicatorClosed):
            client.send_task({"a": 1}).wait(TIMEOUT)
        assert "Pipeline._maintain" not in started
    finally:
        communicator.close()
