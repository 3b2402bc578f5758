"""What the scenarios about nest_asyncio share: how it is applied, and where nothing can nest."""

import asyncio
import unittest
from typing import Awaitable, Callable, Optional


def apply(loop: Optional[asyncio.AbstractEventLoop] = None) -> None:
    """Apply nest_asyncio, or its successor where only that is installed; skip where that fails."""
    try:
        import nest_asyncio
    except ImportError:
        import nest_asyncio2 as nest_asyncio
    try:
        nest_asyncio.apply(loop)
    except AttributeError as error:
        raise unittest.SkipTest("apply() fails here: %s" % error)


async def check_nesting() -> None:
    """Skip where no task runs in a nested run, which would hide all that a scenario asks."""
    loop, one_step = asyncio.get_event_loop(), asyncio.Lock().acquire
    ran = loop.create_future()
    loop.call_later(0, lambda: loop.call_soon(ran.set_result, asyncio.ensure_future(one_step())))
    try:
        assert loop.run_until_complete(ran).done(), "no task runs in a nested run"
    except (AssertionError, AttributeError, RuntimeError) as error:
        raise unittest.SkipTest("this release cannot nest here: %s" % error)


async def nesting(main: Callable[[], Awaitable[None]]) -> None:
    """Apply nest_asyncio and await main() in a task made after that."""
    apply()
    await asyncio.ensure_future(check_nesting())
    await asyncio.ensure_future(main())


async def program(body: Callable[[asyncio.AbstractEventLoop], object]) -> object:
    """Run body(loop) in a fresh thread, where it is as in a script that applied nest_asyncio."""

    def in_thread() -> object:
        # A class of its own, because apply() patches the class, and this test's loop has that too.
        loop = type("Loop", (asyncio.SelectorEventLoop,), {})()
        asyncio.set_event_loop(loop)
        apply(loop)
        return body(loop)

    return await asyncio.get_event_loop().run_in_executor(None, in_thread)
