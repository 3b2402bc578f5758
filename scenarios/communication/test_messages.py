"""What anyone may send to a worker over RabbitMQ: broken, hostile, or for nobody."""

import asyncio
import concurrent.futures
import time

import kiwipy

import plumpy
from harness.scenario import scenario
from scenarios._rabbitmq import OWN, connect


@scenario(
    id="K10",
    title="The caller of an RPC whose subscriber is cancelled waits for ever",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("kiwipy>=0.7.6",),
    python=">=3.9",
)
async def test_cancelled_subscriber_answers_its_caller(amqp_url: str) -> None:
    """Symptom: rpc_send() never has a result.

    Cause: the communicator answers an Exception; since Python 3.8 CancelledError is none.
    Fix: answer a cancellation as one; plumpy.wrap_communicator() of this project does.
    """

    def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    communicator = connect(amqp_url)
    communicator.add_rpc_subscriber(cancelled, "me")
    answer = asyncio.wrap_future(communicator.rpc_send("me", None))
    await asyncio.wait([answer], timeout=3)
    communicator.close()
    assert answer.done(), "there was no answer"


@scenario(
    id="K10w",
    title="The caller of an RPC whose wrapped subscriber is cancelled waits for ever",
    source="https://github.com/aiidateam/aiida-core/issues/5219",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_cancelled_wrapped_subscriber_answers_its_caller(amqp_url: str) -> None:
    """Symptom: the caller of a process, or of a launcher, waits for ever.

    Cause: the wrapper runs the subscriber by create_task(), which catches an Exception only, and
    CancelledError is none since Python 3.8: the future is never done.
    Fix: the cancellation is the answer.
    """

    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    communicator = connect(amqp_url)
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_rpc_subscriber(cancelled, "me")

    async def call() -> None:
        await asyncio.wrap_future(await asyncio.wrap_future(communicator.rpc_send("me", None)))

    answer = asyncio.ensure_future(call())
    await asyncio.wait([answer], timeout=3)
    communicator.close()
    assert answer.done(), "there was no answer"


@scenario(
    id="K11",
    title="A task whose subscriber raises kiwipy.CancelledError is never answered",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/rmq/tasks.py",
    present=("kiwipy>=0.7.6",),
    python=">=3.9",
)
async def test_cancelled_task_is_answered(amqp_url: str) -> None:
    """Symptom: the task is neither acknowledged nor given back until the connection closes.

    Cause: the outcome of the task is a cancelled future, which the queue only forgets.
    Fix: answer that it was cancelled, and acknowledge.
    """

    def cancelled(*_: object) -> None:
        raise kiwipy.CancelledError

    communicator = connect(amqp_url)
    communicator.add_task_subscriber(cancelled)
    answer = asyncio.wrap_future(communicator.task_send("task"))
    await asyncio.wait([answer], timeout=3)
    communicator.close()
    assert answer.done(), "there was no answer"


@scenario(
    id="B21",
    title="A malformed call to a process is never answered",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/rmq/communicator.py",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_malformed_call_is_answered_with_an_error(amqp_url: str) -> None:
    """Symptom: the sender waits for ever, and the worker logs "Task exception was never retrieved".

    Cause: the message is acknowledged and then decoded, outside of what answers exceptions.
    Fix: what cannot be read is answered with an error.
    """
    communicator = connect(amqp_url)
    bad = connect(amqp_url, encoder=lambda _: b"\xff\xfe\xfa")  # neither text nor YAML
    process = plumpy.Process(communicator=communicator)
    await plumpy.RemoteProcessController(communicator).get_status(process.pid)
    answer = asyncio.wrap_future(bad.rpc_send(str(process.pid), "hello"))
    await asyncio.wait([answer], timeout=3)
    process.kill()
    bad.close()
    communicator.close()
    assert answer.done(), "there was no answer"
    assert answer.exception(), "the answer to nonsense was %r" % answer.result()


@scenario(
    id="B21t",
    title="A malformed task is never answered",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/rmq/tasks.py",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_malformed_task_is_answered_with_an_error(amqp_url: str) -> None:
    """Symptom: the sender waits for ever.

    Cause: the queue decodes the task outside of what answers exceptions.
    Fix: what cannot be read is answered with an error and acknowledged.
    """
    communicator = connect(amqp_url)
    bad = connect(amqp_url, encoder=lambda _: b"\xff\xfe\xfa")  # neither text nor YAML
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_task_subscriber(lambda _, task: task)
    answer = asyncio.wrap_future(bad.task_send("hello"))
    await asyncio.wait([answer], timeout=3)
    bad.close()
    communicator.close()
    assert answer.done(), "there was no answer"
    assert answer.exception(), "the answer to nonsense was %r" % answer.result()


@scenario(
    id="B22",
    title="A task that every subscriber rejects goes round as fast as the broker can",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/rmq/tasks.py",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    limit=15,  # where it is healthy it listens for three seconds
    python=">=3.9",
)
async def test_rejected_task_does_not_go_round_and_round(amqp_url: str) -> None:
    """Symptom: a worker at 100 % of a processor with nothing to do: one task of an unknown kind.

    Cause: a rejected task goes back to the queue, which offers it again at once.
    Fix: it goes back after a pause that grows, and not for ever.
    """
    offers = []

    def rejects(_: object, task: object) -> None:
        offers.append(task)
        raise kiwipy.TaskRejected

    communicator = connect(amqp_url)
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_task_subscriber(rejects)
    communicator.task_send("unknown", True)
    end = time.monotonic() + 3
    while len(offers) < 10 and time.monotonic() < end:
        await asyncio.sleep(0.01)
    communicator.close()
    assert offers, "the task did not come"
    assert len(offers) < 10, "the task came %d times" % len(offers)


@scenario(
    id="B25",
    title="One message whose id is no text closes the connection of each worker that gets it",
    source="https://www.rabbitmq.com/docs/publishers#message-properties",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    limit=30,  # where it is healthy it waits three seconds for a connection to be lost
    python=">=3.9",
)
async def test_message_with_an_unreadable_property_closes_no_connection(amqp_url: str) -> None:
    """Symptom: connections of all workers come and go: the task returns and closes the next one.

    Cause: the broker does not look at properties; pamqp raises on one that is no UTF-8, and aiormq
    gives up the connection. The task was not acknowledged.
    Fix: such a message is refused like any other that is malformed.
    """
    import aio_pika

    class NoText(str):
        def encode(self, *_: object) -> bytes:
            return b"\xff"

    communicator, other = connect(amqp_url), connect(amqp_url)
    lost = []
    communicator.add_close_callback(lambda *args: lost.append(args))
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_task_subscriber(lambda _, task: task)
    await asyncio.wrap_future(other.task_send("before"))
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(b"[task, false]")
        message.correlation_id = NoText("id")
        await channel.default_exchange.publish(message, routing_key=OWN["task_queue"])
    end = time.monotonic() + 3
    while not lost and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert not lost, "the connection was closed: %r" % (lost,)
    answer = other.task_send("after")
    while isinstance(answer, concurrent.futures.Future):
        answer = await asyncio.wrap_future(answer)
    assert answer == "after"
    other.close()
    communicator.close()
