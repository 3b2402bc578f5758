"""What the scenarios about nest_asyncio share: how it is applied, and where nothing can nest.

A script brings along what its scenario uses of this: each function is short, stands by itself, and
has no annotations.
"""

import asyncio
import unittest


def apply(loop=None):
    """Apply nest_asyncio, or its successor where only that is installed; skip where that fails."""
    try:
        import nest_asyncio
    except ImportError:
        import nest_asyncio2 as nest_asyncio
    try:
        nest_asyncio.apply(loop)
    except AttributeError as error:
        raise unittest.SkipTest("apply() fails here: %s" % error)


async def check_nesting():
    """Skip where no task runs in a nested run, which would hide all that a scenario asks."""
    loop, ran, step = asyncio.get_event_loop(), asyncio.Future(), asyncio.Lock().acquire
    loop.call_later(0, lambda: loop.call_soon(ran.set_result, asyncio.ensure_future(step())))
    try:
        assert loop.run_until_complete(ran).done(), "no task runs in a nested run"
    except (AssertionError, AttributeError, RuntimeError) as error:
        raise unittest.SkipTest("this release cannot nest here: %s" % error)


async def nesting(main):
    """Apply nest_asyncio and await main() in a task made after that; skip where nothing nests."""
    try:
        import nest_asyncio
    except ImportError:
        import nest_asyncio2 as nest_asyncio

    async def nests():
        loop, ran, step = asyncio.get_event_loop(), asyncio.Future(), asyncio.Lock().acquire
        loop.call_later(0, lambda: loop.call_soon(ran.set_result, asyncio.ensure_future(step())))
        assert loop.run_until_complete(ran).done(), "no task runs in a nested run"

    try:
        nest_asyncio.apply()
        await asyncio.ensure_future(nests())
    except (AssertionError, AttributeError, RuntimeError) as error:
        raise unittest.SkipTest("this release cannot nest here: %s" % error)
    await asyncio.ensure_future(main())


async def program(body):
    """Run body(loop) in a thread, where it is as in a script that applied nest_asyncio."""
    try:
        import nest_asyncio
    except ImportError:
        import nest_asyncio2 as nest_asyncio

    def script():
        loop = type("Loop", (asyncio.SelectorEventLoop,), {})()  # apply() patches this class only
        asyncio.set_event_loop(loop)
        try:
            nest_asyncio.apply(loop)
        except AttributeError as error:
            raise unittest.SkipTest("apply() fails here: %s" % error)
        return body(loop)

    return await asyncio.get_event_loop().run_in_executor(None, script)


async def nesting_program(main):
    """Run main(loop) as program() runs its body, with a patched loop; skip where nothing nests."""
    try:
        import nest_asyncio
    except ImportError:
        import nest_asyncio2 as nest_asyncio

    async def nests(loop, ran, step):
        loop.call_later(0, lambda: loop.call_soon(ran.set_result, asyncio.ensure_future(step())))
        assert loop.run_until_complete(ran).done(), "no task runs in a nested run"

    def script():
        loop = type("Loop", (asyncio.SelectorEventLoop,), {})()  # apply() patches this class only
        asyncio.set_event_loop(loop)
        try:
            nest_asyncio.apply(loop)
            loop.run_until_complete(nests(loop, asyncio.Future(), asyncio.Lock().acquire))
        except (AssertionError, AttributeError, RuntimeError) as error:
            raise unittest.SkipTest("this release cannot nest here: %s" % error)
        loop.run_until_complete(main(loop))

    await asyncio.get_event_loop().run_in_executor(None, script)
