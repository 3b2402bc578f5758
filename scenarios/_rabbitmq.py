"""A communicator of kiwipy's, and calls from another thread, as another program would make them."""

import asyncio
import concurrent.futures
from typing import Any, Callable

import kiwipy.rmq


def connect(url: str) -> Any:
    """Return a communicator with a thread of its own."""
    return kiwipy.rmq.RmqThreadCommunicator.connect(connection_params={"url": url})


async def answer(call: Callable[..., Any], *args: Any) -> Any:
    """Make a remote call in another thread, as another program would, and return its answer."""

    def elsewhere() -> Any:
        value = call(*args)
        while isinstance(value, concurrent.futures.Future):
            value = value.result(timeout=5)
        return value

    return await asyncio.get_event_loop().run_in_executor(None, elsewhere)
