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
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import fault_processes as processes
import fault_stage as faults
import pytest
from fault_driver import ACTIONS, LIMIT, Action, Driver, steps_of
from fault_stage import Inflict, Stage

FULL = os.environ.get("HARNESS_FAULTS") == "full"
SEED = int(os.environ.get("HARNESS_FAULTS_SEED") or time.time())
STORM = int(os.environ.get("HARNESS_FAULTS_PROCESSES") or (10_000 if FULL else 100))

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.breaks_connections,
]


@pytest.fixture
async def driver(vhost_url: str, tmp_path: Path) -> AsyncIterator[Driver]:
    made = await asyncio.to_thread(
        Driver, vhost_url, tmp_path / "processes.db", asyncio.get_running_loop()
    )
    try:
        yield made
    finally:
        made.waiter.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.to_thread(made.communicator.close), 10)


@pytest.mark.parametrize(
    "fault", [*faults.SHORT, *(faults.LONG if FULL else [])], ids=lambda fault: fault.__name__
)
async def test_nothing_is_lost(fault, fault_broker, vhost_url, proxy_url, crew, driver, table):
    """All that can be done is under way when the fault comes, or begun meanwhile, and ends well."""
    seed = random.Random(f"{SEED} {fault.__name__}")
    stage = Stage(fault_broker, vhost_url, proxy_url, crew, seed)
    await faults.prepare(fault, stage)
    for _ in range(2):
        crew.hire()
    first = await driver.launch(processes.Steps, {"steps": 1})
    await driver.ended(first)
    start = time.monotonic()
    tasks: dict[tuple[str, str], asyncio.Task[float]] = {}

    async def timed(action: Action) -> float:
        await action(driver)
        return time.monotonic() - start

    def begin(when: str) -> None:
        for action in ACTIONS:
            tasks[action.__name__, when] = asyncio.create_task(timed(action))

    begin("before")
    await asyncio.sleep(seed.uniform(0.1, 1.5))
    begin("meanwhile")
    await fault(stage)
    await asyncio.wait(tasks.values(), timeout=LIMIT)
    failures = []
    for (name, when), task in tasks.items():
        if not task.done():
            task.cancel()
            result = "HANGS"
        elif (error := task.exception()) is not None:
            result = f"FAILED: {error!r}"
        else:
            result = f"ok, {task.result():.0f} s"
        table(fault.__name__, f"{name}, begun {when}", f"{result}; seed {SEED}")
        if not result.startswith("ok"):
            failures.append(f"{name}, begun {when}: {result}")
    assert not failures, f"seed {SEED}: {failures}\n{crew.logs()[-6000:]}"
    # A launch that was answered with an error may have been taken all the same: it ends too.
    for run in await asyncio.to_thread(driver.ledger.all):
        await driver.until(json.loads(run.pid), lambda run: not run.active)
    assert set(driver.ends().values()) == {1}


async def test_a_storm_of_faults(fault_broker, vhost_url, proxy_url, crew, driver, table):
    """Many processes on four workers, and fault after fault: each ends once, each effect is once.

    The broker, the network and the workers break at random, one at a time, until all has ended.
    """
    seed = random.Random(f"{SEED} storm")
    stage = Stage(fault_broker, vhost_url, proxy_url, crew, seed)
    kinds: list[Inflict] = [
        faults.worker_killed,
        faults.worker_terminated,
        faults.worker_paused,
        faults.connections_closed,
        faults.network_cut,
    ]
    if FULL:
        kinds += [faults.broker_killed, faults.network_held, faults.persister_full]
    for _ in range(4):
        crew.hire("--slots", "20")
    pids: list[str] = []
    inflicted: Counter[str] = Counter()

    async def send(number: int) -> None:
        for _ in range(number):
            pids.append(await driver.launch(processes.Steps, {"steps": 3, "pause": 0.02}))

    async def break_things() -> None:
        while True:
            await asyncio.sleep(seed.uniform(0.3, 2))
            fault = seed.choice(kinds)
            await fault(stage)
            inflicted[fault.__name__] += 1
            while len(crew.alive()) < 4:
                crew.hire("--slots", "20")

    breaking = asyncio.create_task(break_things())
    await asyncio.gather(*[send(STORM // 20) for _ in range(20)])
    # More come, so that it does not end before it has begun.
    while inflicted.total() < len(kinds) and not breaking.done():
        await send(20)
    end = time.monotonic() + LIMIT + STORM / 5
    while True:
        counts = await asyncio.to_thread(driver.ledger.counts)
        if counts.get("finished", 0) == len(pids):
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
    assert driver.ends() == Counter(pids)
    for pid in pids:
        assert set(await driver.recorded(pid)) == steps_of(3)
    text = ", ".join(f"{count} {name}" for name, count in sorted(inflicted.items()))
    taken = sum(run.term > 1 for run in runs.values())
    table("storm", f"{len(pids)} processes", f"ok, {taken} taken over; {text}; seed {SEED}")


test_a_storm_of_faults.private = FULL  # type: ignore[attr-defined]
