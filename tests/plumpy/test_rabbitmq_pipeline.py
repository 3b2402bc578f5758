"""A channel that is lost, however aiormq puts it, is opened again; nothing is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plumpy import _sending
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
