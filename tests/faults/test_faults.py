"""Nothing is lost: everything that may break, breaks while everything that can be done is done.

In full with ``make faults`` (HARNESS_FAULTS=full): every fault, and a storm of random faults over
10,000 processes. Else the faults that tell most, and a small storm. HARNESS_FAULTS_SEED chooses the
times; each test prints its seed when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import fault_processes as processes
import kiwipy
import pytest
from kiwipy.rmq import RmqThreadCommunicator

import plumpy
from harness.broker import Fault
from plumpy import ProcessState, _outbox
from plumpy.persistence import SqlitePersister
from plumpy.waiting import ProcessWaiter

FULL = os.environ.get("HARNESS_FAULTS") == "full"
SEED = int(os.environ.get("HARNESS_FAULTS_SEED") or time.time())
#: Seconds within which everything has to be in order after a fault.
LIMIT = 120
STORM = int(os.environ.get("HARNESS_FAULTS_PROCESSES") or (10_000 if FULL else 100))
RETRIED = (*_outbox.TRANSIENT, kiwipy.DeliveryFailed, kiwipy.TaskRejected, RuntimeError)


# aiormq leaves the streams of a connection that was broken to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Stage:
    """What a fault needs: the broker, the way to it, and the workers."""

    def __init__(self, broker: Any, url: str, proxy: Any, crew: Any, seed: random.Random) -> None:
        self.broker = broker
        self.url = url
        self.proxy = proxy
        self.crew = crew
        self.random = seed

    async def vhost_limit(self, connections: int) -> None:
        """Limit the connections of the vhost."""
        vhost = self.url.rpartition("/")[2]
        limits = json.dumps({"max-connections": connections})
        await asyncio.to_thread(self.broker.control, "set_vhost_limits", "-p", vhost, limits)


async def broker_killed(stage: Stage) -> None:
    await _broker(stage, Fault.KILL, 1)


async def broker_stopped(stage: Stage) -> None:
    await _broker(stage, Fault.STOP, 1)


async def broker_paused(stage: Stage) -> None:
    await _broker(stage, Fault.PAUSE, 10)


async def memory_alarm(stage: Stage) -> None:
    await _broker(stage, Fault.MEMORY_ALARM, 5)


async def _broker(stage: Stage, fault: Fault, seconds: float) -> None:
    await asyncio.to_thread(stage.broker.inflict, fault)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(stage.broker.heal, fault)


async def connections_closed(stage: Stage) -> None:
    await asyncio.to_thread(stage.broker.close_connections, stage.url)


async def network_held(stage: Stage) -> None:
    stage.proxy.hold()
    await asyncio.sleep(6)
    stage.proxy.let()


async def network_cut(stage: Stage) -> None:
    stage.proxy.cut()


async def vhost_limited(stage: Stage) -> None:
    await stage.vhost_limit(0)
    stage.proxy.cut()
    await asyncio.sleep(5)
    await stage.vhost_limit(-1)


async def consumer_timeout(stage: Stage) -> None:
    # Set before the start: see the test. Tasks are acknowledged long before it, so nothing happens.
    await asyncio.sleep(8)


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


# These break the broker for every user of it.
for _fault in (broker_killed, broker_stopped, broker_paused, memory_alarm, consumer_timeout):
    _fault.private = True  # type: ignore[attr-defined]

SHORT: list[Callable[[Stage], Awaitable[None]]] = [
    connections_closed,
    worker_killed,
    worker_paused,
]
LONG = [
    persister_full,
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


class Driver:
    """Does what users do, again when it fails, and looks at what came of it."""

    def __init__(self, url: str, database: Path) -> None:
        self.communicator = RmqThreadCommunicator(url)
        self.controller = plumpy.RemoteProcessController(self.communicator)
        self.threaded = plumpy.RemoteProcessThreadController(self.communicator)
        self.ledger = SqlitePersister(database).ledger()

    async def launch(self, process_class: Any, inputs: Any = None) -> str:
        """Have a process launched; return its pid. Sent again with the same pid, it is the same."""
        pid = f"p{uuid.uuid4()}"
        kwargs = {"pid": pid, "inputs": inputs}
        await self.again(
            lambda: self.controller.launch_process(
                process_class, init_kwargs=kwargs, persist=True, nowait=True, no_reply=True
            )
        )
        return pid

    async def again(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Do something until it works."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                return await asyncio.wait_for(action(), 10)
            except (*RETRIED, asyncio.TimeoutError, kiwipy.RemoteException) as exc:
                if time.monotonic() > end:
                    raise AssertionError(f"it did not work for {LIMIT} s: {exc!r}") from exc
                await asyncio.sleep(0.2)

    async def run_of(self, pid: str) -> Any:
        """Return what is known of a process."""
        return await asyncio.to_thread(self.ledger.find, json.dumps(pid))

    async def until(self, pid: str, condition: Callable[[Any], bool]) -> Any:
        """Wait until a condition holds for what is known of a process."""
        end = time.monotonic() + LIMIT
        while True:
            run = await self.run_of(pid)
            if run is not None and condition(run):
                return run
            assert time.monotonic() < end, f"process {pid} is still {run}"
            await asyncio.sleep(0.1)

    async def recorded(self, pid: str) -> dict[str, str]:
        """Return what a process recorded."""
        return await asyncio.to_thread(self.ledger.recorded, json.dumps(pid))


@pytest.fixture
async def driver(vhost_url: str, tmp_path: Path) -> AsyncIterator[Driver]:
    made = await asyncio.to_thread(Driver, vhost_url, tmp_path / "processes.db")
    try:
        yield made
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.to_thread(made.communicator.close), 10)


def _steps(number: int) -> set[str]:
    return {f"step {n}" for n in range(1, number + 1)}


async def launching(driver: Driver) -> None:
    """Processes launched before and during the fault finish once, each step recorded once."""
    pids = [await driver.launch(processes.Steps) for _ in range(3)]
    for pid in pids:
        run = await driver.until(pid, lambda run: run.outcome is not None)
        assert run.state == "finished", run
        assert json.loads(run.outcome) == {"result": {"steps": 4}}
        assert set(await driver.recorded(pid)) == _steps(4)


async def continuing(driver: Driver) -> None:
    """A process that was created is continued, however often that is asked for."""
    pid = f"c{uuid.uuid4()}"
    body = plumpy.process_comms.create_create_body(
        processes.Steps, init_kwargs={"pid": pid}, persist=True
    )
    communicator = driver.communicator
    send = plumpy._sending.send_task_and_wait
    await driver.again(lambda: send(communicator, body, True))
    await driver.until(pid, lambda run: True)
    for _ in range(2):
        await driver.again(lambda: driver.controller.continue_process(pid, no_reply=True))
    run = await driver.until(pid, lambda run: run.outcome is not None)
    assert run.state == "finished"
    assert set(await driver.recorded(pid)) == _steps(4)


async def calling(driver: Driver) -> None:
    """A process can be paused, played and killed by calls."""
    pid = await driver.launch(processes.Waits)
    assert await driver.again(lambda: driver.controller.pause_process(pid, "rest"))
    assert await driver.again(lambda: driver.controller.play_process(pid))
    await driver.again(lambda: driver.controller.get_status(pid))
    await driver.again(lambda: _kill(driver, pid))
    run = await driver.until(pid, lambda run: run.outcome is not None)
    assert run.state == "killed"


async def _kill(driver: Driver, pid: str) -> None:
    if (await driver.run_of(pid)).outcome is None:
        await driver.controller.kill_process(pid)


async def broadcasting(driver: Driver) -> None:
    """A broadcast reaches every process."""
    pids = [await driver.launch(processes.Waits) for _ in range(2)]
    for pid in pids:
        await driver.again(lambda pid=pid: driver.controller.pause_process(pid))
    end = time.monotonic() + LIMIT
    paused = set(pids)
    while paused:
        assert time.monotonic() < end, f"still paused: {paused}"
        with contextlib.suppress(*RETRIED):
            await asyncio.to_thread(driver.threaded.play_all)
        await asyncio.sleep(0.3)
        for pid in list(paused):
            status = await driver.again(lambda pid=pid: driver.controller.get_status(pid))
            if not status["paused"]:
                paused.discard(pid)
    for pid in pids:
        await driver.again(lambda pid=pid: _kill(driver, pid))


async def waiting(driver: Driver) -> None:
    """Who waits for a process learns of its end."""

    async def poll(pid: Any) -> str | None:
        run = await driver.run_of(pid)
        return None if run is None or run.outcome is None else run.state

    async with ProcessWaiter(driver.communicator, poll, interval=1.0) as waiter:
        pid = await driver.launch(processes.Steps, {"steps": 6})
        assert await asyncio.wait_for(waiter.wait(pid), LIMIT) is ProcessState.FINISHED


async def chaining(driver: Driver) -> None:
    """A work chain goes on when its children have ended; they are run once."""
    pid = await driver.launch(processes.Parent)
    run = await driver.until(pid, lambda run: run.outcome is not None)
    assert json.loads(run.outcome) == {"result": {"steps": 6}}, run
    assert set(await driver.recorded(pid)) == {"end"}


ACTIONS = [launching, continuing, calling, broadcasting, waiting, chaining]


@pytest.mark.parametrize(
    "fault", [*SHORT, *(LONG if FULL else [])], ids=lambda fault: fault.__name__
)
async def test_nothing_is_lost(fault, fault_broker, vhost_url, proxy_url, crew, driver, table):
    """Everything that can be done is under way when the fault comes, and all of it ends well."""
    seed = random.Random(f"{SEED} {fault.__name__}")
    if fault is consumer_timeout:
        await asyncio.to_thread(
            fault_broker.control,
            "eval",
            "application:set_env(rabbit, consumer_timeout, 5000).",
        )
    stage = Stage(fault_broker, vhost_url, proxy_url[0], crew, seed)
    for _ in range(2):
        crew.hire()
    first = await driver.launch(processes.Steps, {"steps": 1})
    await driver.until(first, lambda run: run.outcome is not None)
    actions = {action.__name__: asyncio.create_task(action(driver)) for action in ACTIONS}
    await asyncio.sleep(seed.uniform(0.1, 1.5))
    await fault(stage)
    await asyncio.wait(actions.values(), timeout=LIMIT)
    failures = []
    for name, task in actions.items():
        if not task.done():
            task.cancel()
            result = "hangs"
        elif task.exception() is not None:
            result = f"FAILED: {task.exception()!r}"
        else:
            result = "ok"
        table(fault.__name__, name, result)
        if result != "ok":
            failures.append(f"{name}: {result}")
    assert not failures, f"seed {SEED}: {failures}\n{crew.logs()[-6000:]}"
    # A launch that was answered with an error may have been taken all the same: it ends too.
    for run in await asyncio.to_thread(driver.ledger.all):
        await driver.until(json.loads(run.pid), lambda run: not run.active)


async def test_a_storm_of_faults(fault_broker, vhost_url, proxy_url, crew, driver, table):
    """Many processes on four workers, and fault after fault: each ends once, each effect is once.

    The broker, the network and the workers break at random, one at a time, until all has ended.
    """
    seed = random.Random(f"{SEED} storm")
    stage = Stage(fault_broker, vhost_url, proxy_url[0], crew, seed)
    faults: list[Callable[[Stage], Awaitable[None]]] = [
        worker_killed,
        worker_terminated,
        worker_paused,
        connections_closed,
        network_cut,
    ]
    if FULL:
        faults += [broker_killed, network_held, persister_full]
    for _ in range(4):
        crew.hire("--slots", "20")
    pids: list[str] = []
    inflicted: Counter[str] = Counter()

    async def send() -> None:
        for _ in range(STORM):
            pids.append(await driver.launch(processes.Steps, {"steps": 3, "pause": 0.02}))

    async def break_things() -> None:
        while True:
            await asyncio.sleep(seed.uniform(0.3, 2))
            fault = seed.choice(faults)
            await fault(stage)
            inflicted[fault.__name__] += 1
            while len(crew.alive()) < 4:
                crew.hire("--slots", "20")

    breaking = asyncio.create_task(break_things())
    await send()
    end = time.monotonic() + LIMIT + STORM / 5
    while True:
        counts = await asyncio.to_thread(driver.ledger.counts)
        if counts.get("finished", 0) == STORM:
            break
        assert time.monotonic() < end, f"seed {SEED}: {counts}, {dict(inflicted)}\n" + crew.logs()
        if breaking.done():
            breaking.result()
        await asyncio.sleep(0.5)
    breaking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await breaking
    runs = {run.name: run for run in driver.ledger.all()}
    assert set(runs) == set(pids)
    for pid in pids:
        assert set(await driver.recorded(pid)) == _steps(3)
    text = ", ".join(f"{count} {name}" for name, count in sorted(inflicted.items()))
    taken = sum(run.term > 1 for run in runs.values())
    table("storm", f"{STORM} processes", f"ok, {taken} taken over; {text}; seed {SEED}")


test_a_storm_of_faults.private = FULL  # type: ignore[attr-defined]
