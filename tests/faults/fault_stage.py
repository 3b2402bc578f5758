"""What breaks: the broker, the way to it, the workers, their database. It is seen to bite."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiormq

from harness.broker import Fault

Inflict = Callable[["Stage"], Awaitable[None]]


class Stage:
    """What a fault needs: the broker, the way to it, the workers and their database."""

    def __init__(
        self, broker: Any, url: str, proxy: tuple[Any, str], crew: Any, seed: random.Random
    ) -> None:
        self.broker = broker
        self.url = url
        self.proxy, self.proxied = proxy
        self.crew = crew
        self.random = seed

    @property
    def database(self) -> Path:
        """The file of the persister."""
        path: Path = self.crew.database
        return path

    async def vhost_limit(self, connections: int) -> None:
        """Limit the connections of the vhost."""
        vhost = self.url.rpartition("/")[2]
        limits = json.dumps({"max-connections": connections})
        await asyncio.to_thread(self.broker.control, "set_vhost_limits", "-p", vhost, limits)

    async def evaluate(self, *expressions: str) -> None:
        """Evaluate Erlang expressions in the broker."""
        for expression in expressions:
            await asyncio.to_thread(self.broker.control, "eval", expression)


async def denied(url: str) -> None:
    """Make sure that nobody who comes now can use the broker: else the fault is none."""

    def attempt() -> None:
        # In a loop of its own, which takes along what a cut connection leaves behind.
        asyncio.run(asyncio.wait_for(_publish(url), 2))

    try:
        await asyncio.to_thread(attempt)
    except Exception:
        return
    raise AssertionError(f"the fault does not bite: {url} can be used")


async def _publish(url: str) -> None:
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    queue = await channel.queue_declare(exclusive=True)
    for _ in range(3):  # a broker that blocks publishers still takes the first message of each
        await channel.basic_publish(b"", routing_key=str(queue.queue))
    await connection.close()


@contextlib.asynccontextmanager
async def _witness(url: str) -> AsyncIterator[aiormq.abc.AbstractConnection]:
    """A connection that is to be lost meanwhile."""
    connection = await aiormq.connect(url)
    try:
        yield connection
        await asyncio.wait([connection.closing], timeout=10)
        assert connection.is_closed, "the fault does not bite"
    finally:
        with contextlib.suppress(Exception):
            await connection.close()


async def broker_killed(stage: Stage) -> None:
    await _broker(stage, Fault.KILL, 0)


async def broker_stopped(stage: Stage) -> None:
    await _broker(stage, Fault.STOP, 0)


async def broker_paused(stage: Stage) -> None:
    await _broker(stage, Fault.PAUSE, 8)


async def memory_alarm(stage: Stage) -> None:
    await _broker(stage, Fault.MEMORY_ALARM, 4)


async def _broker(stage: Stage, fault: Fault, seconds: float) -> None:
    await asyncio.to_thread(stage.broker.inflict, fault)
    try:
        await denied(stage.url)
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(stage.broker.heal, fault)


async def connections_closed(stage: Stage) -> None:
    async with _witness(stage.url):
        await asyncio.to_thread(stage.broker.close_connections, stage.url)


async def network_held(stage: Stage) -> None:
    stage.proxy.hold()
    await denied(stage.proxied)
    await asyncio.sleep(4)
    stage.proxy.let()


async def network_cut(stage: Stage) -> None:
    async with _witness(stage.proxied):
        stage.proxy.cut()


async def vhost_limited(stage: Stage) -> None:
    await stage.vhost_limit(0)
    try:
        stage.proxy.cut()
        await denied(stage.url)
        await asyncio.sleep(3)
    finally:
        await stage.vhost_limit(-1)


async def consumer_timeout(stage: Stage) -> None:
    """See :func:`prepare`. A witness that does not acknowledge loses its channel."""
    witness = await aiormq.connect(stage.url)
    channel = await witness.channel()
    queue = str((await channel.queue_declare(exclusive=True)).queue)

    async def keep(_: Any) -> None:
        """Do not acknowledge."""

    await channel.basic_consume(queue, keep)
    await channel.basic_publish(b"", routing_key=queue)
    await asyncio.wait([channel.closing], timeout=30)
    assert channel.is_closed, "the fault does not bite"
    await witness.close()


async def worker_killed(stage: Stage) -> None:
    stage.random.choice(stage.crew.alive()).kill()
    stage.crew.hire()


async def worker_paused(stage: Stage) -> None:
    worker = stage.random.choice(stage.crew.alive())
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(6)  # twice its lease
    worker.send_signal(signal.SIGCONT)


async def worker_terminated(stage: Stage) -> None:
    stage.random.choice(stage.crew.alive()).terminate()
    stage.crew.hire()


async def persister_full(stage: Stage) -> None:
    stage.crew.full_disk(True)
    await asyncio.sleep(3)
    stage.crew.full_disk(False)


async def persister_locked(stage: Stage) -> None:
    """Somebody else writes for longer than the leases last."""

    def hold() -> sqlite3.Connection:
        connection = sqlite3.connect(
            stage.database, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.execute("BEGIN IMMEDIATE")
        return connection

    connection = await asyncio.to_thread(hold)
    await asyncio.sleep(5)
    connection.execute("ROLLBACK")
    connection.close()


async def prepare(fault: Inflict, stage: Stage) -> None:
    """Do what has to be done before the workers come."""
    if fault is consumer_timeout:
        # Checked every minute else.
        await stage.evaluate(
            "application:set_env(rabbit, consumer_timeout, 5000).",
            "application:set_env(rabbit, channel_tick_interval, 1000).",
        )


# These break the broker for every user of it.
for _fault in (broker_killed, broker_stopped, broker_paused, memory_alarm, consumer_timeout):
    _fault.private = True  # type: ignore[attr-defined]

SHORT: list[Inflict] = [connections_closed, worker_killed, worker_paused, persister_full]
LONG: list[Inflict] = [
    persister_locked,
    broker_killed,
    broker_stopped,
    broker_paused,
    memory_alarm,
    network_held,
    network_cut,
    vhost_limited,
    consumer_timeout,
    worker_terminated,
]
