"""Which loop is used, and who closes it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any

import pytest

import plumpy
from plumpy.events import ProcessCallback


def in_thread(function: Any) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


async def test_running_loop_comes_first() -> None:
    assert plumpy.get_or_create_event_loop() is asyncio.get_running_loop()


def test_then_the_loop_that_is_set() -> None:
    def function() -> bool:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return plumpy.get_or_create_event_loop() is loop
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    assert in_thread(function)


def test_else_a_new_one_which_is_set() -> None:
    def function() -> Any:
        loop = plumpy.get_or_create_event_loop()
        assert plumpy.get_or_create_event_loop() is loop
        loop.close()
        another = plumpy.get_or_create_event_loop()
        assert another is not loop
        return another

    loop = in_thread(function)
    gc.collect()
    assert loop.is_closed(), "its thread has ended"


def test_loop_of_the_main_thread_is_closed_at_the_end_without_a_warning() -> None:
    script = """
import asyncio, plumpy
loop = plumpy.get_or_create_event_loop()
assert asyncio._get_running_loop() is None
plumpy.Process().execute()
import atexit
atexit.register(lambda: print("closed", loop.is_closed()))
"""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stderr


async def test_callback_runs_once_and_lets_go() -> None:
    process = plumpy.Process()
    seen: list[Any] = []

    async def callback(*args: Any, **kwargs: Any) -> None:
        seen.append((plumpy.Process.current(), args, kwargs))

    scheduled = ProcessCallback(process, callback, (1,), {"two": 2})
    await scheduled.run()
    await scheduled.run()
    assert seen == [(process, (1,), {"two": 2})]
    assert scheduled._process is None


@pytest.mark.parametrize("where", ["loop", "beside"])
async def test_cancelled_callback_is_not_called(where: str) -> None:
    process = plumpy.Process()
    seen: list[int] = []
    scheduled = process.call_soon(seen.append, 1)
    assert not scheduled.cancelled()
    scheduled.cancel()
    assert scheduled.cancelled()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == []
