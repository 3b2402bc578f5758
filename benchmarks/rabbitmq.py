"""Processes over RabbitMQ, side by side with the released plumpy.

    python benchmarks/rabbitmq.py --reference PYTHON --url AMQP_URL [--rounds N] [--only NAME ...]

PYTHON is an interpreter with plumpy 0.26.1 and kiwipy[rmq]; AMQP_URL names a vhost that nobody else
uses. Both sides run in turn, in programs of their own, against the same broker. What counts are the
ratios; the best round of each side is taken, because other work on the machine only slows it down.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.abspath(__file__)
ROOT = os.path.dirname(os.path.dirname(HERE))

#: name: (title, unit, True if more is better, what the ratio should be at least)
RESULTS = {
    "created to finished": ("200 processes at once, created to finished", "/s", True, 20),
    "wait and resume": ("400 processes at once, wait and resume", "/s", True, 30),
    "loop held up": ("longest time the loop was held up by that", "ms", False, None),
    "tasks": ("300 launch tasks in flight, to their outputs", "/s", True, 4),
    "tasks, reachable": ("the same, processes with a communicator", "/s", True, 4),
    "status p50": ("call of an idle worker: status, median", "ms", False, 2),
    "status p99": ("the same, 99th percentile", "ms", False, 3),
    "pause p50": ("call of an idle worker: pause, median", "ms", False, 2),
    "pause p99": ("the same, 99th percentile", "ms", False, 3),
    "late answers": ("answers of 200 later than 0.3 s", "", False, None),
    "filtered 1000": ("state broadcasts handled, 1,000 processes", "/s", True, 20),
    "other 1000": ("other broadcasts handled, 1,000 processes", "/s", True, 50),
    "filtered 10": ("state broadcasts handled, 10 processes", "/s", True, None),
    "other 10": ("other broadcasts handled, 10 processes", "/s", True, None),
}


# ---------------------------------------------------------------------- one side


def main_of_side(name: str, url: str) -> None:
    """Measure one thing with the plumpy of this interpreter, and print the results as JSON."""
    import plumpy

    sides = {
        "concurrent": measure_concurrent,
        "tasks": measure_tasks,
        "calls": measure_calls,
        "broadcasts": measure_broadcasts,
    }
    print(json.dumps({"version": plumpy.__version__, **sides[name](url)}))


def connect(url: str):
    """Return a communicator."""
    from kiwipy.rmq import RmqThreadCommunicator

    return RmqThreadCommunicator(url)


def classes():
    """Return the process classes, which need plumpy to be defined."""
    import plumpy

    class Quick(plumpy.Process):
        """Finishes at once."""

        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.outputs.dynamic = True

        def run(self):
            self.out("x", 1)

    class Reachable(Quick):
        """The same, with the communicator of the worker."""

        def __init__(self, inputs=None, pid=None, logger=None, loop=None, communicator=None):
            super().__init__(inputs, pid, logger, loop, COMMUNICATOR or communicator)

    class Waits(plumpy.Process):
        """Waits to be resumed."""

        def run(self):
            return plumpy.Wait(self.go_on)

        def go_on(self, *_):
            """Finish."""

    for made in (Quick, Reachable, Waits):
        made.__module__ = "__main__"
        globals()[made.__name__] = made
    return Quick, Reachable, Waits


COMMUNICATOR = None
#: Whether this is the side of this project: it needs more broadcasts for a figure to mean much.
OURS = os.environ.get("PYTHONPATH") == ROOT


async def longest_gap(stop: asyncio.Event) -> float:
    """Return the longest time between two turns of the loop, in seconds."""
    worst, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        worst, last = max(worst, now - last - 0.001), now
    return worst


def measure_concurrent(url: str) -> dict:
    """Processes that live at the same time, with a communicator, in one loop."""
    quick, _, waits = classes()

    async def run() -> dict:
        communicator = connect(url)
        results = {}
        stop = asyncio.Event()
        try:
            await quick(communicator=communicator).step_until_terminated()
            start = time.perf_counter()
            processes = [quick(communicator=communicator) for _ in range(200)]
            await asyncio.gather(*[p.step_until_terminated() for p in processes])
            results["created to finished"] = 200 / (time.perf_counter() - start)
            gap = asyncio.ensure_future(longest_gap(stop))
            await asyncio.sleep(0.01)
            start = time.perf_counter()
            processes = []
            for _ in range(400):
                processes.append(waits(communicator=communicator))
                if len(processes) % 20 == 0:
                    await asyncio.sleep(0)  # the creation itself is not to be blamed
            tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
            while any(p.state != plumpy_waiting() for p in processes):
                await asyncio.sleep(0.001)
            for p in processes:
                p.resume()
            await asyncio.gather(*tasks)
            results["wait and resume"] = 400 / (time.perf_counter() - start)
            stop.set()
            results["loop held up"] = 1000 * await gap
        finally:
            communicator.close()
        return results

    return asyncio.run(run())


def plumpy_waiting():
    """Return the state."""
    import plumpy

    return plumpy.ProcessState.WAITING


def measure_tasks(url: str) -> dict:
    """Launch tasks, worked on by another program."""
    import plumpy

    quick, reachable, _ = classes()
    results = {}
    for name, process_class in (("tasks", quick), ("tasks, reachable", reachable)):
        with worker(url, "tasks"):
            communicator = connect(url)
            try:
                controller = plumpy.RemoteProcessThreadController(communicator)
                outcome(controller.launch_process(process_class))
                start = time.perf_counter()
                futures = [controller.launch_process(process_class) for _ in range(300)]
                for future in futures:
                    assert outcome(future) == {"x": 1}
                results[name] = 300 / (time.perf_counter() - start)
            finally:
                communicator.close()
    return results


def measure_calls(url: str) -> dict:
    """Calls of one process in another program, which is idle but for them."""
    import plumpy

    results = {}

    def measure(call, number: int, patience: float) -> list:
        times = []
        for _ in range(number):
            start = time.perf_counter()
            with contextlib.suppress(Exception):
                outcome(call("target"), patience)
            times.append(time.perf_counter() - start)
        return sorted(times)

    with worker(url, "calls"):
        communicator = connect(url)
        try:
            controller = plumpy.RemoteProcessThreadController(communicator)
            measure(controller.get_status, 20, 5.0)  # to open what needs to be opened
            for name, call in (
                ("status", controller.get_status),
                ("pause", controller.pause_process),
            ):
                times = measure(call, 300, 5.0)
                results[f"{name} p50"] = 1000 * times[150]
                results[f"{name} p99"] = 1000 * times[297]
        finally:
            communicator.close()
    with worker(url, "idle"):
        communicator = connect(url)
        try:
            controller = plumpy.RemoteProcessThreadController(communicator)
            late = [t for t in measure(controller.get_status, 200, 0.3) if t > 0.3]
            results["late answers"] = len(late)
        finally:
            communicator.close()
    return results


def measure_broadcasts(url: str) -> dict:
    """Broadcasts that a program with many processes has to look at."""
    import plumpy

    _, _, waits = classes()
    results = {}
    heard = threading.Event()
    heard_at: list = []

    class Hears(waits):
        """Tells when the last broadcast has come; it is the first to hear each."""

        def broadcast_receive(self, _comm, body, sender, subject, correlation_id):
            if subject == "end":  # and behind what the ones before it have put into the loop
                self.loop.call_soon_threadsafe(self.note)

        def note(self):
            """Note the time."""
            heard_at.append(time.perf_counter())
            heard.set()

    async def run(count: int) -> None:
        communicator = plumpy.wrap_communicator(connect(url))
        try:
            processes = [Hears(communicator=communicator)]
            processes += [waits(communicator=communicator) for _ in range(count - 1)]
            tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
            while any(p.state != plumpy.ProcessState.WAITING for p in processes):
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            for name, subject, number in (
                ("filtered", "state_changed.running.waiting", 1000 if count < 100 or OURS else 200),
                ("other", "something.else", 1000 if OURS else 30),
            ):
                for times in (5, number):  # the first ones are to warm up
                    heard.clear()
                    bodies = [body_of(subject)] * times + [body_of("end")]
                    start = await asyncio.to_thread(publish, url, bodies)
                    # The warm-up of the released plumpy has to get through all its own broadcasts.
                    assert await asyncio.to_thread(heard.wait, 900), name
                    rate = times / (heard_at[-1] - start)
                results[f"{name} {count}"] = rate
                await asyncio.sleep(0.5)
            for p in processes:
                p.kill()
            await asyncio.gather(*tasks)
        finally:
            communicator.close()

    for count in (10, 1000):
        asyncio.run(run(count))
    return results


def body_of(subject: str) -> bytes:
    """Return a broadcast as kiwipy encodes it."""
    from kiwipy.rmq import defaults

    message = {"body": None, "sender": 12, "subject": subject, "correlation_id": None}
    return defaults.ENCODER(message)


def publish(url: str, bodies: list) -> float:
    """Publish broadcasts as fast as the broker takes them, from a program of its own.

    Returns the time when it began.
    """
    code = (
        "import asyncio, sys, aiormq\n"
        "async def main():\n"
        "    connection = await aiormq.connect(sys.argv[1])\n"
        "    channel = await connection.channel(publisher_confirms=False)\n"
        "    bodies = eval(sys.stdin.readline())\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for body in bodies:\n"
        "        await channel.basic_publish(body, exchange='kiwipy.messages',"
        " routing_key='[broadcast]', wait=body is bodies[-1])\n"
        "    await asyncio.sleep(0.5)\n"
        "    await connection.close()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(f"{bodies!r}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    start = time.perf_counter()
    process.communicate("go\n")
    return start


# ---------------------------------------------------------------------- the worker of a side


@contextlib.contextmanager
def worker(url: str, kind: str):
    """Run a worker in a program of its own."""
    process = subprocess.Popen(
        [sys.executable, HERE, "--worker", kind, "--url", url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def main_of_worker(kind: str, url: str) -> None:
    """Work on tasks, or be a process that is called."""
    import plumpy

    _, _, waits = classes()

    async def tick() -> None:
        """Wake the loop all the time: the released plumpy would sleep over some of its answers."""
        while True:
            await asyncio.sleep(0.002)

    async def run() -> None:
        global COMMUNICATOR  # the processes of the released plumpy need it
        communicator = COMMUNICATOR = plumpy.wrap_communicator(connect(url))
        if kind != "idle":
            ticking = asyncio.ensure_future(tick())
            assert not ticking.done()
        if kind == "tasks":
            communicator.add_task_subscriber(plumpy.ProcessLauncher())
        else:
            process = waits(pid="target", communicator=communicator)
            stepping = asyncio.ensure_future(process.step_until_terminated())
            await asyncio.sleep(1)
        print("ready", flush=True)
        if kind == "tasks":
            await asyncio.Event().wait()
        await stepping

    asyncio.run(run())


def outcome(future, timeout: float = 60.0):
    """Wait for the innermost result of a controller's future."""
    import kiwipy

    while isinstance(future, kiwipy.Future):
        future = future.result(timeout)
    return future


# ---------------------------------------------------------------------- both sides


def run_side(python: str, name: str, url: str, ours: bool) -> dict:
    """Measure one thing on one side."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if ours:
        environment["PYTHONPATH"] = ROOT
    done = subprocess.run(
        [python, HERE, "--side", name, "--url", url],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{python} could not measure {name}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def better(first: float, second: float, more: bool) -> float:
    """Return the better of two figures."""
    return max(first, second) if more else min(first, second)


def main() -> int:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", help="interpreter with the released plumpy")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="concurrent, tasks, calls, broadcasts")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        main_of_worker(options.worker, options.url)
        return 0
    if options.side:
        main_of_side(options.side, options.url)
        return 0
    if not options.reference:
        parser.error("give --reference, an interpreter with plumpy 0.26.1")
    best: dict = {"ours": {}, "reference": {}}
    for _ in range(options.rounds):
        for name in options.only or ("concurrent", "calls", "tasks", "broadcasts"):
            for side, python in (("reference", options.reference), ("ours", sys.executable)):
                print(f"{name}: {side} ...", file=sys.stderr, flush=True)
                results = run_side(python, name, options.url, side == "ours")
                versions = best[side].setdefault("version", results.pop("version"))
                assert versions
                for key, value in results.items():
                    if key == "version":
                        continue
                    more = RESULTS[key][2]
                    best[side][key] = better(best[side].get(key, value), value, more)
    print(f"{'':58}{'plumpy ' + best['reference']['version']:>16}{'here':>10}  ratio  target")
    for key, (title, unit, more, target) in RESULTS.items():
        if key not in best["ours"]:
            continue
        there, here = best["reference"][key], best["ours"][key]
        ratio = (here / there if more else there / here) if there and here else float("nan")
        goal = "" if target is None else f"{target:>7g}"
        print(
            f"{title + (', ' + unit if unit else ''):58}{there:16.1f}{here:10.1f}{ratio:7.1f}{goal}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
