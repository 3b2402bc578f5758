"""A loop that has nothing else to do is not started for a coroutine that does not wait."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import gc
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from plumpy import _idle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="other loops are simply run")


@pytest.fixture
def loop() -> Iterator[Any]:
    loop = asyncio.SelectorEventLoop()
    loop.set_debug(False)  # whatever PYTHONASYNCIODEBUG says
    yield loop
    loop.close()


@pytest.fixture
def turns(loop: Any, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with every turn of the loop."""
    turns: list[None] = []
    run_once = loop._run_once

    def counted() -> None:
        turns.append(None)
        run_once()

    monkeypatch.setattr(loop, "_run_once", counted)
    return turns


async def answer() -> int:
    return 42


async def waits() -> int:
    await asyncio.sleep(0)
    return 42


def test_what_does_not_wait_takes_no_turn_of_the_loop(loop: Any, turns: list[None]) -> None:
    assert _idle.run(loop, answer()) == 42
    assert turns == []
    assert _idle.run(loop, waits()) == 42
    assert turns


def test_surroundings_are_those_of_a_running_loop(loop: Any) -> None:
    seen: list[Any] = []

    async def look() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio_timeout(60):
            seen.append(
                (asyncio.get_running_loop(), loop.is_running(), task in asyncio.all_tasks())
            )

    hooks = sys.get_asyncgen_hooks()
    for _ in range(2):
        _idle.run(loop, look())
    loop.run_until_complete(look())
    assert seen == [(loop, True, True)] * 3
    assert asyncio._get_running_loop() is None
    assert not loop.is_running()
    assert sys.get_asyncgen_hooks() == hooks
    assert not asyncio.all_tasks(loop)


def asyncio_timeout(seconds: float) -> Any:
    """A part of asyncio that insists on a current task, where there is one."""
    if sys.version_info >= (3, 11):
        return asyncio.timeout(seconds)

    class Nothing:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

    return Nothing()


def test_context_is_a_copy_of_the_callers(loop: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("outer")

    async def change() -> str:
        before = variable.get()
        variable.set("inner")
        return before

    assert _idle.run(loop, change()) == "outer"
    assert variable.get() == "outer"


def test_exception_is_raised_and_never_reported_again(loop: Any) -> None:
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, report: reports.append(report))

    async def fail(error: type[BaseException]) -> None:
        raise error("it failed")

    for error in (ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        with pytest.raises(error):
            _idle.run(loop, fail(error))
        assert asyncio._get_running_loop() is None
        assert not loop.is_running()
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("leave", ["callback", "task", "timer", "reader", "threadsafe"])
def test_what_is_left_on_the_loop_gets_the_turns_that_it_always_got(loop: Any, leave: str) -> None:
    """As much of it is done when the call returns as by ``run_until_complete``."""
    left, right = socket.socketpair()

    def make(done: list[str]) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            done.append(leave)

        async def main() -> None:
            if leave == "callback":
                loop.call_soon(done.append, leave)
            elif leave == "task":
                done.append(loop.create_task(note()))  # type: ignore[arg-type]
            elif leave == "timer":
                loop.call_later(0, done.append, leave)
            elif leave == "reader":
                right.send(b"x")
                loop.add_reader(left, lambda: (left.recv(1), done.append(leave)))
            else:
                thread = threading.Thread(
                    target=loop.call_soon_threadsafe, args=(done.append, leave)
                )
                thread.start()
                thread.join()

        return main

    here: list[str] = []
    there: list[str] = []
    _idle.run(loop, make(here)())
    loop.remove_reader(left)
    loop.run_until_complete(make(there)())
    loop.remove_reader(left)
    left.close()
    right.close()
    assert here[-1] == there[-1] == leave


def busy_with_callback(loop: Any) -> None:
    loop.call_soon(lambda: None)


def busy_with_timer(loop: Any) -> None:
    loop.call_later(0, lambda: None)


def busy_with_signal(loop: Any) -> None:
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)


def debugged(loop: Any) -> None:
    loop.set_debug(True)


def with_task_factory(loop: Any) -> None:
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))


def instrumented(loop: Any) -> None:
    class Recorded(collections.deque[Any]):
        pass

    loop._ready = Recorded()


@pytest.mark.parametrize(
    "prepare",
    [
        busy_with_callback,
        busy_with_timer,
        busy_with_signal,
        debugged,
        with_task_factory,
        instrumented,
    ],
)
def test_loop_that_has_something_to_do_is_run(
    loop: Any, turns: list[None], prepare: Callable[[Any], None]
) -> None:
    prepare(loop)
    assert _idle.run(loop, answer()) == 42
    assert turns


def test_loop_that_watches_a_file_is_run(loop: Any, turns: list[None]) -> None:
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, lambda: None)
        assert _idle.run(loop, answer()) == 42
        loop.remove_reader(left)
    assert turns


def test_loop_of_another_class_is_run() -> None:
    class Other(asyncio.SelectorEventLoop):
        runs = 0

        def run_until_complete(self, future: Any) -> Any:
            self.runs += 1
            return super().run_until_complete(future)

    loop = Other()
    assert _idle.run(loop, answer()) == 42
    loop.close()
    assert loop.runs == 1


def test_loop_that_is_stopped_says_so(loop: Any) -> None:
    async def stop_and_wait() -> None:
        loop.stop()
        await loop.create_future()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            _idle.run(loop, stop_and_wait())
    assert not loop.is_running()
    assert _idle.run(loop, answer()) == 42


def test_private_attributes_are_where_this_python_keeps_them(loop: Any) -> None:
    """If this fails, loops are still run, but slower: see what has moved."""
    assert type(loop) is _idle._KNOWN
    assert _idle._has_nothing_to_do(loop)
    loop.call_soon(lambda: None)
    assert not _idle._has_nothing_to_do(loop)
