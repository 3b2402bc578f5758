"""Whatever is sent to a process, a launcher or a worker is answered or logged, and life goes on.

The messages go over a real broker, published without kiwipy and without plumpy.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import struct
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import aiormq
import pamqp.frame
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

import plumpy
from plumpy import _codec
from plumpy._rabbitmq import _tasks
from plumpy.persistence import SqlitePersister
from plumpy.worker import Worker

from . import hostile_corpus as corpus

# Some of the frames have the broker break the connection.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.breaks_connections,
]

TIMEOUT = 60
NAME = __name__


class Adds(plumpy.Process):
    """Finishes at once, with an output."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("a", valid_type=int, default=1)
        spec.output("sum", valid_type=int)

    def run(self):
        self.out("sum", self.inputs.a + 1)


class Waits(plumpy.Process):
    """Waits until it is resumed or killed."""

    def run(self):
        return plumpy.Wait(self.go_on, "waiting")

    def go_on(self, *_):
        """Finish."""


class Sender:
    """Publishes bytes as they are, and collects the answers."""

    def __init__(self, channel: Any, replies: Any) -> None:
        self._channel = channel
        self._replies = replies
        self.answers: dict[str, asyncio.Future[bytes]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Sender]:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            replies = await channel.declare_queue(exclusive=True)
            for name in ("kiwipy.messages", "kiwipy.tasks"):
                exchange = await channel.get_exchange(name, ensure=False)
                await replies.bind(exchange, routing_key=replies.name)
            sender = cls(channel, replies)
            await replies.consume(sender._on_answer, no_ack=True)
            yield sender

    async def _on_answer(self, message: Any) -> None:
        answer = self.answers.get(message.correlation_id)
        if answer is not None and not answer.done():
            answer.set_result(message.body)

    async def send(self, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        target = await self._channel.get_exchange(exchange, ensure=False)
        await target.publish(aio_pika.Message(body, **properties), routing_key=key)

    async def ask(self, exchange: str, key: str, body: bytes, **properties: Any) -> Any:
        """Publish a message that wants an answer, and return what it is."""
        identifier = str(uuid.uuid4())
        answer = self.answers[identifier] = asyncio.get_running_loop().create_future()
        properties = {**properties, "reply_to": self._replies.name, "correlation_id": identifier}
        await self.send(exchange, key, body, **properties)
        try:
            return yaml.safe_load(await asyncio.wait_for(answer, TIMEOUT))
        except asyncio.TimeoutError:
            pytest.fail(f"no answer from {key} to {body[:200]!r}")
        finally:
            del self.answers[identifier]

    async def waiting_in(self, queue: str) -> int:
        """Return the number of messages that a queue has to give."""
        declared = await self._channel.declare_queue(queue, passive=True)
        return int(declared.declaration_result.message_count)


class Place:
    """A process, a launcher and a worker, and who sends them messages."""

    def __init__(self, sender: Sender, controller: Any, process: Any, heard: Any) -> None:
        self.sender = sender
        self.controller = controller
        self.process = process
        self.heard = heard

    def call(self, body: bytes, **properties: Any) -> Any:
        return self.sender.ask("kiwipy.messages", "[rpc].target", body, **properties)

    def task(self, queue: str, body: bytes, **properties: Any) -> Any:
        return self.sender.ask("kiwipy.tasks", queue, body, **properties)

    async def broadcast(self, body: bytes, **properties: Any) -> None:
        await self.sender.send("kiwipy.messages", "[broadcast]", body, **properties)

    async def is_well(self) -> None:
        """Fail unless proper messages work, and nothing was executed or is left behind."""
        # Heard after all that was broadcast before: reading that may take longer than a call does.
        mark = str(uuid.uuid4())
        await self.broadcast(yaml.safe_dump(_broadcast("mark", mark)).encode())
        while await asyncio.wait_for(self.heard.get(), TIMEOUT) != mark:
            pass
        status = await self.controller.get_status("target")
        assert status["state"] == "ProcessState.WAITING"
        assert not status["paused"]
        task = plumpy.create_launch_body(Adds, nowait=False)
        for queue in ("kiwipy.tasks", "worker"):
            answer = await self.task(queue, yaml.safe_dump([task, False]).encode())
            assert "exception" not in answer  # a worker's first answer is that it takes longer
            assert await self.sender.waiting_in(queue) == 0
        assert corpus.calls == []


def _broadcast(subject: str, body: Any = None) -> dict[str, Any]:
    return {"body": body, "sender": None, "subject": subject, "correlation_id": None}


@pytest.fixture
async def place(
    communicator: Any, loop_communicator: Any, amqp_url: str, tmp_path: Path, monkeypatch: Any
) -> AsyncIterator[Place]:
    monkeypatch.setattr(_tasks, "_REJECTION_PAUSES", (0.01, 0.01, 0.01))
    corpus.calls.clear()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def hear(_comm: Any, body: Any, _sender: Any, subject: Any, _correlation_id: Any) -> None:
        if subject == "mark":
            heard.put_nowait(body)

    process = Waits(pid="target", communicator=loop_communicator)
    stepping = asyncio.create_task(process.step_until_terminated())
    loop_communicator.add_broadcast_subscriber(hear)
    persister = plumpy.InMemoryPersister()
    loop_communicator.add_task_subscriber(plumpy.ProcessLauncher(persister=persister))
    worker = Worker(
        communicator, SqlitePersister(str(tmp_path / "processes.db")), queue="worker", poll=0.2
    )
    working = asyncio.create_task(worker.run())
    controller = plumpy.RemoteProcessController(communicator)
    await controller.get_status("target")
    async with Sender.connected(amqp_url) as sender:
        while True:
            with contextlib.suppress(aio_pika.exceptions.ChannelClosed):
                await sender.waiting_in("worker")
                break
        yield Place(sender, controller, process, heard)
    worker.stop()
    await asyncio.wait_for(working, TIMEOUT)
    await controller.kill_process("target")
    await asyncio.wait_for(stepping, TIMEOUT)


class TestTheCorpus:
    async def test_every_call_is_answered(self, place):
        for name, body in corpus.call_bodies().items():
            answer = await place.call(body)
            assert "exception" in answer, (name, answer)
            assert "Traceback" not in str(answer)
        await place.is_well()

    @pytest.mark.parametrize("queue", ["kiwipy.tasks", "worker"])
    async def test_every_task_is_answered(self, place, queue):
        for name, body in corpus.task_bodies().items():
            answer = await place.task(queue, body)
            assert "exception" in answer, (name, answer)
            assert "Traceback" not in str(answer)
        await place.is_well()

    async def test_no_broadcast_hurts(self, place):
        for body in corpus.broadcast_bodies().values():
            await place.broadcast(body)
        await place.is_well()

    @pytest.mark.parametrize("name", corpus.PROPERTIES)
    async def test_no_property_hurts(self, place, name):
        properties = corpus.PROPERTIES[name]
        for body in (b"", b"[" * 1000, b"{intent: dance}", b"[{task: explode}, false]"):
            await place.broadcast(body, **properties)
            await place.sender.send("kiwipy.messages", "[rpc].target", body, **properties)
            for queue in ("kiwipy.tasks", "worker"):
                await place.sender.send("kiwipy.tasks", queue, body, **properties)
        await place.is_well()

    async def test_a_body_of_100_mb_is_refused_and_costs_little(self, place, caplog):
        body = b"[" + b"1," * 50_000_000 + b"]"
        await place.broadcast(body)
        for answer in (await place.call(body), await place.task("kiwipy.tasks", body)):
            assert f"{len(body)} bytes, more than {_codec.LARGEST_BODY}" in answer["exception"]
        assert f"ignoring a malformed broadcast of {len(body)} bytes" in caplog.text
        await place.is_well()


class TestPoison:
    async def test_what_nobody_can_do_is_given_up(self, place, caplog):
        """A rejected task went round for ever, at the speed of the broker."""
        with caplog.at_level(logging.ERROR):
            task = yaml.safe_dump([{"task": "explode", "args": {}}, False]).encode()
            answer = await place.task("kiwipy.tasks", task)
        assert "nobody here can work on this task, which came 4 times" in answer["exception"]
        assert "giving up task" in caplog.text
        assert await place.sender.waiting_in("kiwipy.tasks") == 0

    async def test_a_call_without_a_sender_is_logged(self, place, caplog):
        await place.sender.send("kiwipy.messages", "[rpc].target", b"{intent: kill}")
        await place.is_well()
        assert "ignoring a call to process target without a sender" in caplog.text

    @pytest.mark.parametrize("fault", ["a time after the year 9999", "an id that is no text"])
    async def test_properties_that_cannot_be_decoded_close_no_connection(
        self, place, amqp_url, caplog, fault
    ):
        """They make aiormq give up the connection; the task came back, and closed the next one."""
        connection = await aiormq.connect(amqp_url)
        channel = await connection.channel(publisher_confirms=False)
        for exchange, key in (
            ("kiwipy.messages", "[broadcast]"),
            ("kiwipy.messages", "[rpc].target"),
            ("kiwipy.tasks", "kiwipy.tasks"),
            ("kiwipy.tasks", "worker"),
        ):
            payload = _with_bad_properties(channel.number, exchange, key, fault)
            frame = aiormq.abc.ChannelFrame(payload=payload, should_close=False)
            await channel.write_queue.put(frame)
        await place.is_well()
        await connection.close()
        assert caplog.text.count("the properties cannot be decoded") == 3
        assert "is lost" not in caplog.text


def _with_bad_properties(channel: int, exchange: str, key: str, fault: str) -> bytes:
    time = datetime.datetime.fromtimestamp(1700000000, tz=datetime.timezone.utc)
    properties = commands.Basic.Properties(correlation_id="AAAA", timestamp=time)
    header = pamqp.frame.marshal(ContentHeader(body_size=1, properties=properties), channel)
    if "time" in fault:
        header = header.replace(struct.pack(">Q", 1700000000), struct.pack(">Q", 2**63 - 1))
    else:
        header = header.replace(b"AAAA", b"\xff\xfe\xfa\xff")
    publish = commands.Basic.Publish(exchange=exchange, routing_key=key)
    body = pamqp.frame.marshal(ContentBody(b"1"), channel)
    return pamqp.frame.marshal(publish, channel) + header + body


_KEYS = (
    st.sampled_from(["intent", "message", "force_kill", "task", "args", "pid", "tag", "nowait"])
    | st.sampled_from(["process_class", "init_args", "init_kwargs", "persist"])
    | st.sampled_from(["body", "sender", "subject", "correlation_id"])
)
_WORDS = st.sampled_from(
    ["dance", "status", "launch", "continue", "create", "os:system", f"{NAME}:Adds", "other"]
) | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes()
    | _WORDS
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_KEYS | _WORDS | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
_BODIES = (_VALUES | st.tuples(_VALUES, st.just(False)).map(list)).map(
    lambda value: yaml.safe_dump(value).encode()
) | st.binary(max_size=200)


def wants_no_answer(body: bytes) -> bool:
    try:
        value = _codec.decode_safely(body)
    except ValueError:
        return False
    return isinstance(value, list) and value[1:] == [True]


class TestAnythingAtAll:
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_any_value_is_answered(self, data):
        """What can be said without a broker: reading never fails otherwise than by ValueError."""
        body = data.draw(_BODIES)
        with contextlib.suppress(ValueError):
            _codec.decode_safely(body)

    async def test_any_call_task_and_broadcast(self, place):
        """300 of each, drawn by Hypothesis; the draws are the same in every run."""
        bodies: list[bytes] = []

        @settings(max_examples=300, deadline=None, derandomize=True, phases=[Phase.generate])
        @given(_BODIES)
        def draw(body: bytes) -> None:
            bodies.append(body)

        await asyncio.to_thread(draw)
        assert len(bodies) >= 200
        for body in bodies:
            await place.broadcast(body)
            assert await place.call(body)
            if not wants_no_answer(body):
                for queue in ("kiwipy.tasks", "worker"):
                    assert await place.task(queue, body)
        await place.is_well()
