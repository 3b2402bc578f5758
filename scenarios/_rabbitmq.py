"""A communicator of kiwipy's, and calls from another thread, as another program would make them."""

import asyncio
import concurrent.futures
import unittest
import uuid
from typing import Any, Callable

import kiwipy.rmq

# Several runs may share one RabbitMQ: each has its own exchanges and task queue.
OWN = "scenario-%s" % uuid.uuid4().hex


def connect(url: str, **options: Any) -> Any:
    """Return a communicator with a thread of its own; skip where no RabbitMQ answers."""
    try:
        return kiwipy.rmq.RmqThreadCommunicator.connect(
            connection_params={"url": url},
            message_exchange=OWN,
            task_exchange=OWN + ".tasks",
            task_queue=OWN,
            **options,
        )
    except ConnectionError as error:
        raise unittest.SkipTest("no RabbitMQ answers: %s" % error)


async def answer(call: Callable[..., Any], *args: Any) -> Any:
    """Make a remote call in another thread, as another program would, and return its answer."""

    def elsewhere() -> Any:
        value = call(*args)
        while isinstance(value, concurrent.futures.Future):
            value = value.result(timeout=5)
        return value

    return await asyncio.get_event_loop().run_in_executor(None, elsewhere)
