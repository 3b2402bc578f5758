"""Futures: actions, calls from any thread, what resolves to what."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy import futures

from .helpers import HANG


def test_names() -> None:
    assert futures.Future is asyncio.Future
    assert futures.gather is asyncio.gather
    assert futures.CancelledError is concurrent.futures.CancelledError
    assert plumpy.chain is kiwipy.chain


async def test_action_has_the_result_of_what_it_does() -> None:
    action = futures.CancellableAction(lambda *args, **kwargs: (args, kwargs), "cookie")
    assert action.cookie == "cookie"
    action.run(1, two=2)
    assert action.result() == ((1,), {"two": 2})
    with pytest.raises(futures.InvalidStateError, match="already been ran"):
        action.run()


async def test_action_has_the_exception_of_what_it_does() -> None:
    action = futures.CancellableAction(lambda: 1 / 0)
    action.run()
    assert isinstance(action.exception(), ZeroDivisionError)


async def test_cancelled_action_is_not_carried_out() -> None:
    action = futures.CancellableAction(lambda: 1 / 0)
    action.cancel()
    with pytest.raises(futures.InvalidStateError):
        action.run()


async def test_create_task_from_another_thread_runs_on_the_loop() -> None:
    loop = asyncio.get_running_loop()
    made: list[asyncio.Future[Any]] = []

    async def where() -> Any:
        return threading.current_thread()

    def work() -> None:
        made.append(plumpy.create_task(where, loop))

    await loop.run_in_executor(None, work)
    assert await asyncio.wait_for(made[0], HANG) is threading.current_thread()


async def test_create_task_passes_exceptions_on() -> None:
    async def breaks() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await asyncio.wait_for(plumpy.create_task(breaks), HANG)


async def test_create_task_whose_future_was_cancelled() -> None:
    ran = asyncio.Event()

    async def runs() -> None:
        ran.set()

    future = plumpy.create_task(runs)
    future.cancel()
    await asyncio.wait_for(ran.wait(), HANG)
    await asyncio.sleep(0)
    assert future.cancelled()


def test_unwrap_gets_to_the_innermost_result() -> None:
    inner, outer = kiwipy.Future(), kiwipy.Future()
    unwrapped = futures.unwrap_kiwi_future(outer)
    outer.set_result(inner)
    assert not unwrapped.done()
    inner.set_result("value")
    assert unwrapped.result(HANG) == "value"
