"""How long the loop of 1,000 processes is held up by what comes in over RabbitMQ, and by whom.

    python benchmarks/held.py --url AMQP_URL [--rounds N] [--only NAME ...]

AMQP_URL names a vhost that nobody else uses. Each case runs in a program of its own. A beat of 1 ms
notes the longest time that the loop did not get round to it. What the runtime itself does is told
by the longest turn of the loop in processor time of its thread; what it can do nothing about by the
longest collection of garbage, and by the cases without any process. Ends with 1 if a turn took more
than 20 ms of processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import _rabbitmq_rows as rows

import plumpy

COUNT = 1000
BEAT = 0.001
GOAL = 0.020

Results = dict[str, float]


class Observer:
    """Watches the running loop for as long as its context is open."""

    def __init__(self) -> None:
        self.gap = self.turn = self.collection = 0.0
        self._loop: Any = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._began = self._collected = 0.0
        self._turn_began = time.thread_time()

    def results(self) -> Results:
        """Return what was seen, in seconds."""
        return {"gap": self.gap, "turn": self.turn, "collection": self.collection}

    def __enter__(self) -> Observer:
        self._selector = self._loop._selector
        self._loop._selector = self
        gc.callbacks.append(self._collects)
        self._task = asyncio.ensure_future(self._beat())
        return self

    def __exit__(self, *_: object) -> None:
        self._task.cancel()
        gc.callbacks.remove(self._collects)
        self._loop._selector = self._selector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        """Be the selector of the loop, which is asked once in each turn."""
        self.turn = max(self.turn, time.thread_time() - self._turn_began - self._collected)
        try:
            return self._selector.select(timeout)
        finally:
            self._collected = 0.0
            self._turn_began = time.thread_time()

    def _collects(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began, self._began_cpu = time.perf_counter(), time.thread_time()
            return
        self.collection = max(self.collection, time.perf_counter() - self._began)
        if threading.get_ident() == self._thread:
            self._collected += time.thread_time() - self._began_cpu

    async def _beat(self) -> None:
        while True:
            last = time.perf_counter()
            await asyncio.sleep(BEAT)
            self.gap = max(self.gap, time.perf_counter() - last - BEAT)


@contextlib.asynccontextmanager
async def population(url: str) -> AsyncIterator[tuple[Any, list[Any]]]:
    """Processes that wait, and their communicator."""
    _, _, waits = rows.classes()
    communicator = plumpy.wrap_communicator(rows.connect(url))
    try:
        processes = await rows.create(COUNT, lambda: waits(communicator=communicator))
        tasks = await rows.start(processes)
        await rows.are_waiting(processes)
        await asyncio.wrap_future(processes[-1]._link.flushed())
        yield communicator, processes
        for process in processes:
            process.kill()
        await asyncio.gather(*tasks)
    finally:
        communicator.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has to be looked at."""
    while not condition():
        await asyncio.sleep(0.005)


async def child(code: str, *arguments: str) -> Callable[[], Awaitable[None]]:
    """Start a program, and return what lets it begin and waits for its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"

    async def go() -> None:
        await asyncio.to_thread(process.communicate, b"go\n")
        assert process.returncode == 0

    return go


# ---------------------------------------------------------------------- the cases


def storm(subject: str, number: int) -> Callable[[str], Awaitable[Results]]:
    """Broadcasts as fast as the broker takes them."""

    async def case(url: str) -> Results:
        async with population(url):
            bodies = [rows.body_of(subject)] * number
            with Observer() as observer:
                await asyncio.to_thread(rows.publish, url, bodies)
                await asyncio.sleep(1)
        return observer.results()

    return case


def control(subject: str) -> Callable[[str], Awaitable[Results]]:
    """One broadcast that every process obeys."""

    async def case(url: str) -> Results:
        async with population(url) as (_, processes):
            with Observer() as observer:
                await asyncio.to_thread(rows.publish, url, [rows.body_of(subject)])
                await until(lambda: all(p.paused or p.killed() for p in processes))
                await asyncio.sleep(0.5)
        return observer.results()

    return case


_CALLER = """
import sys, plumpy
from kiwipy.rmq import RmqThreadCommunicator
from plumpy import _sending
communicator = RmqThreadCommunicator(sys.argv[1])
client = _sending.client_of(communicator)
print("ready", flush=True)
sys.stdin.readline()
calls = [client.call(pid, {"intent": "status"}) for pid in sys.argv[2].split()]
for call in calls:
    call.answer.result(60)
communicator.close()
"""


async def called(url: str) -> Results:
    """Calls of another program, to every process at once."""
    async with population(url) as (_, processes):
        go = await child(_CALLER, url, " ".join(str(p.pid) for p in processes))
        with Observer() as observer:
            await go()
    return observer.results()


async def calling(url: str) -> Results:
    """Calls to every process at once, from a loop."""
    async with population(url) as (communicator, processes):
        controller = plumpy.RemoteProcessController(communicator)
        await controller.get_status(processes[0].pid)
        with Observer() as observer:
            await asyncio.gather(*[controller.get_status(p.pid) for p in processes])
    return observer.results()


async def resumed(url: str) -> Results:
    """All resumed at once; each goes through two states to its end."""
    async with population(url) as (_, processes):
        for process in processes:
            process.resume()
        with Observer() as observer:
            await until(lambda: all(p.has_terminated() for p in processes))
            await asyncio.sleep(1)
    return observer.results()


async def started(url: str) -> Results:
    """All begin at once, and end at once."""
    quick, _, _ = rows.classes()
    communicator = plumpy.wrap_communicator(rows.connect(url))
    try:
        processes = await rows.create(COUNT, lambda: quick(communicator=communicator))
        await asyncio.wrap_future(processes[-1]._link.flushed())
        with Observer() as observer:
            await asyncio.gather(*[p.step_until_terminated() for p in processes])
            await asyncio.sleep(1)
    finally:
        communicator.close()
    return observer.results()


_LAUNCHER = """
import sys, plumpy
from kiwipy.rmq import RmqThreadCommunicator
from plumpy import _sending
communicator = RmqThreadCommunicator(sys.argv[1])
controller = plumpy.RemoteProcessThreadController(communicator)
class Reachable(plumpy.Process):
    pass
inputs = eval(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
futures = [
    controller.launch_process(Reachable, init_kwargs={"inputs": inputs}) for _ in range(300)
]
for future in futures:
    while hasattr(future, "result"):
        future = future.result(60)
communicator.close()
"""


def launches(inputs: str) -> Callable[[str], Awaitable[Results]]:
    """Launch tasks in flight, each with inputs."""

    async def case(url: str) -> Results:
        _, reachable, _ = rows.classes()
        reachable.spec().inputs.dynamic = True
        sys.modules["__main__"].Reachable = reachable  # type: ignore[attr-defined]
        communicator = plumpy.wrap_communicator(rows.connect(url))
        try:
            communicator.add_task_subscriber(plumpy.ProcessLauncher())
            go = await child(_LAUNCHER, url, inputs)
            with Observer() as observer:
                await go()
        finally:
            communicator.close()
        return observer.results()

    return case


async def kiwipy_alone(url: str) -> Results:
    """The same storm at a subscriber of kiwipy's own that does nothing, and no process."""
    communicator = rows.connect(url)
    try:
        communicator.add_broadcast_subscriber(lambda *_, **__: None)
        with Observer() as observer:
            await asyncio.to_thread(rows.publish, url, [rows.body_of("something.else")] * 10_000)
            # It works on them for 4 s and more, and does not get closed before.
            await asyncio.sleep(8)
    finally:
        communicator.close()
    return observer.results()


async def thread_alone(_: str) -> Results:
    """A thread that computes, beside a loop that has nothing to do."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    with Observer() as observer:
        await asyncio.sleep(3)
    over.set()
    thread.join()
    return observer.results()


CASES: dict[str, tuple[str, Callable[[str], Awaitable[Results]]]] = {
    "state": ("10,000 state broadcasts", storm("state_changed.running.waiting", 10_000)),
    "other": ("10,000 other broadcasts", storm("something.else", 10_000)),
    "pause": ("all paused by one broadcast", control("pause")),
    "kill": ("all killed by one broadcast", control("kill")),
    "called": ("a call to each at once", called),
    "calling": ("the same, and the caller's loop", calling),
    "resumed": ("all resumed at once, to their ends", resumed),
    "started": ("1,000 begun at once, to their ends", started),
    "launches": ("300 launch tasks", launches("{}")),
    "texts": ("300 launch tasks, a text of 100 kB each", launches("{'a': 'x' * 100_000}")),
    "lists": ("300 launch tasks, 2,000 numbers each", launches("{'a': list(range(2000))}")),
    "kiwipy": ("floor: kiwipy alone, 10,000 broadcasts", kiwipy_alone),
    "thread": ("floor: any thread that computes", thread_alone),
}


def main() -> int:
    """Measure each case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(asyncio.run(CASES[options.case][1](options.url))))
        return 0
    missed = 0
    print(
        f"{'milliseconds, median (and worst)':42}{'loop held up':>16}{'turn':>14}{'collection':>15}"
    )
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[1])}
    for name in options.only:
        results: list[Results] = []
        for _ in range(options.rounds):
            done = subprocess.run(
                [sys.executable, __file__, "--url", options.url, "--case", name],
                env=environment,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            if done.returncode != 0:
                raise SystemExit(f"{name} could not be measured:\n{done.stderr[-2000:]}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
        line = f"{CASES[name][0]:42}"
        for key, width in (("gap", 16), ("turn", 14), ("collection", 15)):
            values = [1000 * result[key] for result in results]
            line += f"{statistics.median(values):.1f} ({max(values):.1f})".rjust(width)
        print(line, flush=True)
        missed += statistics.median(result["turn"] for result in results) > GOAL
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
