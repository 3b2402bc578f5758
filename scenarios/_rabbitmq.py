"""A communicator of kiwipy's, and calls from another thread, as another program would make them."""

import asyncio
import concurrent.futures
import re
import unittest
import uuid

import kiwipy
import kiwipy.rmq

# Several runs may share one RabbitMQ: each has its own exchanges and task queue.
OWN = "scenario-%s" % uuid.uuid4().hex


def connect(url, **options):
    """Return a communicator with a thread of its own; skip where no RabbitMQ answers."""
    # Older ones have other calls, or take any aio-pika and do not work with the newest.
    if [int(part) for part in re.findall("[0-9]+", kiwipy.__version__)] < [0, 7, 6]:
        raise unittest.SkipTest("kiwipy %s is older than 0.7.6" % kiwipy.__version__)
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


async def answer(call, *args):
    """Make a remote call in another thread, as another program would, and return its answer."""

    def elsewhere():
        value = call(*args)
        while isinstance(value, concurrent.futures.Future):
            value = value.result(timeout=5)
        return value

    return await asyncio.get_event_loop().run_in_executor(None, elsewhere)
