"""kiwipy's RabbitMQ communicator, without its round trips.

kiwipy awaits the broker once for every queue, binding, publication and acknowledgement. Here all of
that goes down a channel as it comes, and the answers are matched as they arrive; AMQP keeps the
order within a channel. The connection, the exchanges, the queues, the routing keys and the bodies
are kiwipy's, so that either end may be either.

When a channel or the connection is lost, everything is set up again as soon as the broker allows
it, and what was not confirmed is sent again: a message may then arrive twice, and never not at all.
"""

from plumpy._rabbitmq._client import RabbitClient, Sending
from plumpy._rabbitmq._outbox import RabbitOutbox
from plumpy._rabbitmq._tasks import TaskConsumer, TaskMessage, TaskSubscribers

__all__ = [
    "RabbitClient",
    "RabbitOutbox",
    "Sending",
    "TaskConsumer",
    "TaskMessage",
    "TaskSubscribers",
]
