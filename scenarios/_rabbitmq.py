"""A communicator of kiwipy's."""

import unittest
import uuid

import kiwipy
import kiwipy.rmq

OWN = dict.fromkeys(["message_exchange", "task_exchange", "task_queue"], str(uuid.uuid4()))


def connect(url, **options):
    """Return a communicator; several runs may share one RabbitMQ, but no exchange or queue."""
    try:
        assert hasattr(kiwipy.rmq.RmqThreadCommunicator, "add_close_callback"), "kiwipy is too old"
        return kiwipy.rmq.connect(url, **OWN, **options)
    except (AssertionError, ConnectionError) as error:
        raise unittest.SkipTest("no RabbitMQ: %s" % error)
