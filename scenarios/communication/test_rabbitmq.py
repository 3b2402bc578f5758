"""Processes that are controlled over a real RabbitMQ while they run."""

import asyncio
import concurrent.futures
import threading
import time
import unittest
from typing import Any

import plumpy
from harness.scenario import scenario
from scenarios._rabbitmq import connect


def _plant_deaf_processes() -> None:
    """Make processes that answer every message and do nothing."""
    plumpy.Process.pause = plumpy.Process.kill = lambda self, *args, **options: True


@scenario(
    id="B11r",
    title="Pause, play and kill by RPC while a process runs",
    source="https://github.com/aiidateam/plumpy/pull/150",
    library="plumpy",
    planted=_plant_deaf_processes,
    python=">=3.9",
)
async def test_process_is_controlled_by_rpc_while_it_runs(amqp_url: str) -> None:
    """Symptom: none: a guard for the way that works.

    Cause: the communicator has a thread of its own; what it receives is scheduled on the process's
    loop.
    """

    class Waits(plumpy.Process):
        def run(self) -> plumpy.Wait:
            return plumpy.Wait()

    communicator = connect(amqp_url)
    process = Waits(communicator=communicator)
    controller = plumpy.RemoteProcessController(communicator)
    task = asyncio.ensure_future(process.step_until_terminated())
    assert await controller.pause_process(process.pid)
    assert process.paused
    assert await controller.play_process(process.pid)
    assert not process.paused
    assert await controller.kill_process(process.pid)
    await task
    assert process.killed()
    communicator.close()


@scenario(
    id="B11b",
    title="Pause and kill all processes by broadcast while they run",
    source="https://github.com/aiidateam/plumpy/pull/150",
    library="plumpy",
    planted=_plant_deaf_processes,
    limit=8,
    python=">=3.9",
)
async def test_processes_are_controlled_by_broadcast_while_they_run(amqp_url: str) -> None:
    """Symptom: none: a guard for the way that works.

    Cause: each process subscribes to broadcasts when it is made, before it runs.
    """

    class Waits(plumpy.Process):
        def run(self) -> plumpy.Wait:
            return plumpy.Wait()

    communicator = connect(amqp_url)
    processes = [Waits(communicator=communicator) for _ in range(3)]
    controller = plumpy.RemoteProcessThreadController(communicator)
    tasks = [asyncio.ensure_future(process.step_until_terminated()) for process in processes]
    controller.pause_all("all")
    while not all(process.paused for process in processes):
        await asyncio.sleep(0.01)
    controller.play_all()
    while any(process.paused for process in processes):
        await asyncio.sleep(0.01)
    controller.kill_all("all")
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(process.killed() for process in processes)
    communicator.close()


@scenario(
    id="B20",
    title="A message for a process is handled in the communicator's thread",
    source="https://github.com/aiidateam/plumpy/pull/150",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_message_for_a_process_is_handled_in_its_loops_thread(amqp_url: str) -> None:
    """Symptom: a data race: a status that is read while the process changes.

    Cause: a process that is given a plain communicator subscribes its own method, and the
    communicator calls that in its thread.
    Fix: wrap_communicator(), or a process that wraps it by itself.
    """
    threads = []

    class Notes(plumpy.Process):
        def message_receive(self, *args: object) -> object:
            threads.append(threading.get_ident())
            return super().message_receive(*args)

    communicator = connect(amqp_url)
    process = Notes(communicator=communicator)
    await plumpy.RemoteProcessController(communicator).get_status(process.pid)
    communicator.close()
    assert threads == [threading.get_ident()]


@scenario(
    id="B08",
    title="A subscriber of a raw communicator runs in the communicator's thread",
    source="https://github.com/aiidateam/kiwipy/pull/52",
    present=("kiwipy>=0.7.6",),
    python=">=3.9",
)
async def test_subscriber_runs_in_the_thread_of_its_loop(amqp_url: str) -> None:
    """Symptom: "There is no current event loop", "Non-thread-safe operation", or a data race.

    Cause: the communicator calls its subscribers in the thread where it receives messages.
    Fix: plumpy.wrap_communicator(communicator, loop).
    """
    communicator = connect(amqp_url)
    communicator.add_rpc_subscriber(lambda *_: threading.get_ident(), "me")
    thread = await asyncio.wrap_future(communicator.rpc_send("me", None))
    communicator.close()
    assert thread == threading.get_ident()


@scenario(
    id="B08r",
    title="A task that a raw communicator receives is taken up in the communicator's thread",
    source="https://github.com/aiidateam/kiwipy/pull/52",
    present=("kiwipy>=0.7.6",),
    python=">=3.9",
)
async def test_task_is_taken_up_in_the_thread_of_the_loop(amqp_url: str) -> None:
    """Symptom: a process is made where no loop is current, or beside the loop it will run on.

    Cause: launch, create and continue come before there is a process that could bring them into
    its loop, and the communicator calls its subscriber where it receives messages.
    Fix: plumpy.wrap_communicator(communicator, loop) before the subscriber is added.
    """
    communicator = connect(amqp_url)
    communicator.add_task_subscriber(lambda *_: threading.get_ident())
    thread = await asyncio.wrap_future(communicator.task_send("launch"))
    communicator.close()
    assert thread == threading.get_ident()


def _plant_unwrapped_communicator() -> None:
    """Make wrap_communicator() wrap nothing."""
    plumpy.wrap_communicator = lambda communicator, loop=None: communicator


@scenario(
    id="B08w",
    title="A subscriber of a wrapped communicator runs in the thread of its loop",
    source="https://github.com/aiidateam/plumpy/pull/150",
    library="plumpy",
    planted=_plant_unwrapped_communicator,
    python=">=3.9",
)
async def test_subscriber_of_a_wrapped_communicator_runs_in_its_loop(amqp_url: str) -> None:
    """Symptom: none: a guard for the way that works. A raw communicator calls in its own thread.

    Cause: the wrapper schedules each call on the loop and hands the answer back.
    """
    threads = []
    communicator = connect(amqp_url)
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_broadcast_subscriber(lambda *_: threads.append(threading.get_ident()))
    communicator.broadcast_send(None)
    while not threads:
        await asyncio.sleep(0.01)
    communicator.close()
    assert threads == [threading.get_ident()]


@scenario(
    id="B08t",
    title="A task for which no process exists yet is taken up in the thread of the loop",
    source="https://github.com/aiidateam/plumpy/pull/150",
    library="plumpy",
    planted=_plant_unwrapped_communicator,
    python=">=3.9",
)
async def test_launch_task_is_taken_up_in_the_thread_of_the_loop(amqp_url: str) -> None:
    """Symptom: none; launch, create and continue come before there is a process that could bring
    them into its loop, so the communicator has to be wrapped by hand.

    Cause: the wrapper schedules each task on the loop and hands the answer back.
    """
    threads = []

    async def launcher(*_: object) -> None:
        threads.append(threading.get_ident())

    communicator = connect(amqp_url)
    wrapped = plumpy.wrap_communicator(communicator, asyncio.get_event_loop())
    wrapped.add_task_subscriber(launcher)
    communicator.task_send(plumpy.create_launch_body(plumpy.Process), True)
    while not threads:
        await asyncio.sleep(0.01)
    communicator.close()
    assert threads == [threading.get_ident()]


@scenario(
    id="B12",
    title="An RPC reply to an idle worker's caller is lost until the worker wakes up",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    present=("plumpy>=0.18,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_every_reply_of_an_idle_worker_is_delivered(amqp_url: str) -> None:
    """Symptom: one reply in five comes with the next unrelated event, or never.

    Cause: the reply's future is an asyncio future of the loop, made in the communicator's thread;
    if the answer is faster than the callback is added, call_soon() does not wake the loop.
    Fix: futures are only touched in the thread of their loop.
    """
    communicator, loop = connect(amqp_url), asyncio.get_event_loop()
    wrapped = plumpy.wrap_communicator(communicator, loop)
    wrapped.add_rpc_subscriber(lambda _, message: message, "echo")
    hand_over = loop.call_soon_threadsafe

    def rests_when_it_has_handed_over(*args: Any, **options: Any) -> Any:
        handle = hand_over(*args, **options)
        time.sleep(0.05)  # meanwhile the loop does what it was given, and sleeps
        return handle

    def ask() -> int:
        for number in range(5):
            answer = communicator.rpc_send("echo", number)
            try:
                while isinstance(answer, concurrent.futures.Future):
                    answer = answer.result(timeout=1)  # a delivered reply takes milliseconds
            except concurrent.futures.TimeoutError:
                return number
        return 5

    vars(loop)["call_soon_threadsafe"] = rests_when_it_has_handed_over
    answered = await loop.run_in_executor(None, ask)
    communicator.close()
    assert answered == 5, "reply %d was not delivered" % answered


def _plant_connections_that_do_not_beat() -> None:
    """Make connections that send no heartbeat, as one does whose loop is blocked."""
    import aiormq.connection

    async def silent(self: Any) -> None:
        await asyncio.sleep(3600)

    aiormq.connection.Connection._Connection__heartbeat = silent


@scenario(
    id="B10",
    title="A step that blocks its loop for several heartbeats: the process stays controllable",
    source="https://github.com/aiidateam/aiida-core/issues/4595",
    library="plumpy",
    planted=_plant_connections_that_do_not_beat,
    limit=15,  # it blocks for four heartbeats of one second
    python=">=3.9",
)
async def test_process_that_blocks_its_loop_stays_controllable(amqp_url: str) -> None:
    """Symptom: none: a guard for the way that works. A connection in the blocked loop is closed.

    Cause: the communicator's thread goes on beating; what arrives meanwhile is answered when the
    step has ended.
    """

    class Blocks(plumpy.Process):
        def run(self) -> plumpy.Wait:
            time.sleep(4)
            return plumpy.Wait()

    communicator, lost = connect(amqp_url + "?heartbeat=1"), []
    communicator.add_close_callback(lambda *args: lost.append(args))
    process = Blocks(communicator=communicator)
    controller = plumpy.RemoteProcessController(communicator)
    killing = asyncio.ensure_future(controller.kill_process(process.pid))
    task = asyncio.ensure_future(process.step_until_terminated())
    assert await killing
    await task
    assert process.killed()
    assert not lost, lost
    communicator.close()


@scenario(
    id="B10x",
    title="A step that blocks the loop of its own connection: RabbitMQ closes the connection",
    source="https://www.rabbitmq.com/docs/heartbeats",
    present=("aio-pika>=5.3.2",),
    limit=15,  # it blocks for four heartbeats of one second
    python=">=3.9",
)
async def test_connection_in_a_blocked_loop_is_kept(amqp_url: str) -> None:
    """Symptom: "missed heartbeats from client", and every process of the worker is redelivered.

    Cause: the heartbeat is a task of the loop that the step blocks.
    Workaround: a connection in a thread of its own: kiwipy's RmqThreadCommunicator.
    """
    import aio_pika

    try:
        connection = await aio_pika.connect(amqp_url + "?heartbeat=1")
    except ConnectionError as error:
        raise unittest.SkipTest("no RabbitMQ answers: %s" % error)
    channel = await connection.channel()
    time.sleep(4)
    await channel.declare_queue("after", exclusive=True)
