"""What benchmarks/rabbitmq.py measures, with the plumpy of the interpreter that runs it.

python _rabbitmq_rows.py --side NAME --url AMQP_URL [--replies N]
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
COMMUNICATOR = None
#: Whether this is the side of this project: it needs more broadcasts for a figure to mean much.
OURS = os.environ.get("PYTHONPATH") == ROOT


def main() -> None:
    """Be one side of a measurement, or a worker of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--replies", type=int, default=200)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        main_of_worker(options.worker, options.url)
        return
    import plumpy

    results = SIDES[options.side](options)
    print(json.dumps({"version": getattr(plumpy, "__version__", ""), **results}))


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


class Watch:
    """Notes the longest time between two turns of the running loop, in milliseconds."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.task = asyncio.ensure_future(self.look())

    async def look(self) -> None:
        """Look every millisecond; it is also what wakes a loop that sleeps over something."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.worst, last = max(self.worst, 1000 * (now - last) - 1), now

    async def stop(self) -> float:
        """End it and return what it noted."""
        await asyncio.sleep(0.01)
        self.task.cancel()
        return self.worst


async def create(number: int, make) -> list:
    """Create processes in portions: how many at a time is the program's own choice."""
    processes = []
    for _ in range(number):
        processes.append(make())
        if len(processes) % 20 == 0:
            await asyncio.sleep(0)
    return processes


async def start(processes: list) -> list:
    """Begin to step processes, in portions."""
    tasks = []
    for process in processes:
        tasks.append(asyncio.ensure_future(process.step_until_terminated()))
        if len(tasks) % 20 == 0:
            await asyncio.sleep(0)
    return tasks


async def are_waiting(processes: list) -> None:
    """Wait until all processes wait."""
    import plumpy

    while any(p.state != plumpy.ProcessState.WAITING for p in processes):
        await asyncio.sleep(0.001)


def measure_concurrent(options) -> dict:
    """Processes that live at the same time, with a communicator, in one loop."""
    quick, _, waits = classes()

    async def run() -> dict:
        communicator = connect(options.url)
        results = {}
        try:
            await quick(communicator=communicator).step_until_terminated()
            begin = time.perf_counter()
            processes = [quick(communicator=communicator) for _ in range(200)]
            await asyncio.gather(*[p.step_until_terminated() for p in processes])
            results["created to finished"] = 200 / (time.perf_counter() - begin)
            await asyncio.sleep(1)
            begin = time.perf_counter()
            processes = [waits(communicator=communicator) for _ in range(400)]
            tasks = [asyncio.ensure_future(p.step_until_terminated()) for p in processes]
            await are_waiting(processes)
            for p in processes:
                p.resume()
            await asyncio.gather(*tasks)
            results["wait and resume"] = 400 / (time.perf_counter() - begin)
            await asyncio.sleep(1)
            watch = Watch()
            processes = await create(200, lambda: quick(communicator=communicator))
            await asyncio.gather(*await start(processes))
            results["held by 200"] = await watch.stop()
        finally:
            communicator.close()
        return results

    return asyncio.run(run())


def measure_tasks(options) -> dict:
    """Launch tasks, worked on by another program."""
    import plumpy

    quick, reachable, _ = classes()
    results = {}
    for name, process_class, kind in (
        ("tasks", quick, "tasks"),
        ("tasks, reachable", reachable, "tasks"),
        ("held by 300 tasks", reachable, "watched"),
    ):
        with worker(options.url, kind) as process:
            communicator = connect(options.url)
            try:
                controller = plumpy.RemoteProcessThreadController(communicator)
                outcome(controller.launch_process(process_class))
                if kind == "watched":
                    say(process, "watch")
                begin = time.perf_counter()
                futures = [controller.launch_process(process_class) for _ in range(300)]
                for future in futures:
                    assert outcome(future) == {"x": 1}
                results[name] = 300 / (time.perf_counter() - begin)
                if kind == "watched":
                    results[name] = float(say(process, "report"))
            finally:
                communicator.close()
    return results


def measure_calls(options) -> dict:
    """Calls of one process in another program, which is idle but for them."""
    import plumpy

    results = {}
    with worker(options.url, "calls"):
        communicator = connect(options.url)
        try:
            controller = plumpy.RemoteProcessThreadController(communicator)
            calls = {
                "status": lambda: controller.get_status("target"),
                "pause": lambda: controller.pause_process("target"),
                "kiwipy": lambda: communicator.rpc_send("echo", {"intent": "status"}),
            }
            for name, call in calls.items():
                times_of(call, 50, 5.0)  # to open what needs to be opened
                times = sorted(times_of(call, 500, 5.0))
                results[f"{name} p50"] = 1000 * times[250]
                results[f"{name} p99"] = 1000 * times[495]
        finally:
            communicator.close()
    return results


def measure_idle(options) -> dict:
    """Replies of a worker that has nothing else to do."""
    times = replies_of("idle", options)
    return {
        "late, idle": sum(t > 0.3 for t in times),
        "lost, idle": sum(t == float("inf") for t in times),
        "slowest, idle": 1000 * max(times),
    }


def measure_busy(options) -> dict:
    """Replies of a worker that is busy with other processes."""
    times = replies_of("busy", options)
    return {
        "lost, busy": sum(t == float("inf") for t in times),
        "slowest, busy": 1000 * max(times),
    }


def replies_of(kind: str, options) -> list:
    """Return how long a worker of a kind took for its replies."""
    import plumpy

    with worker(options.url, kind):
        communicator = connect(options.url)
        try:
            controller = plumpy.RemoteProcessThreadController(communicator)
            return times_of(lambda: controller.get_status("target"), options.replies, 5.0)
        finally:
            communicator.close()


def times_of(call, number: int, patience: float) -> list:
    """Return the seconds that each call took; infinity for one without an answer."""
    times = []
    for _ in range(number):
        begin = time.perf_counter()
        try:
            outcome(call(), patience)
        except Exception:
            times.append(float("inf"))
        else:
            times.append(time.perf_counter() - begin)
    return times


def measure_broadcasts(options) -> dict:
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
        communicator = plumpy.wrap_communicator(connect(options.url))
        try:
            processes = [Hears(communicator=communicator)]
            processes += await create(count, lambda: waits(communicator=communicator))
            tasks = await start(processes)
            await are_waiting(processes)
            await asyncio.sleep(1 + count / 500)  # for what they had to say themselves
            for name, subject, number in (
                ("filtered", "state_changed.running.waiting", 2000 if count < 100 or OURS else 200),
                ("other", "something.else", 2000 if OURS else 30 if count else 200),
            ):
                watch = None
                for times in (5, number):  # the first ones are to warm up
                    heard.clear()
                    bodies = [body_of(subject)] * times + [body_of("end")]
                    if times == number:
                        watch = Watch()
                    begin = await asyncio.to_thread(publish, options.url, bodies)
                    # The warm-up of the released plumpy has to get through all its own broadcasts.
                    assert await asyncio.to_thread(heard.wait, 900), name
                results[f"{name} {count}"] = 1000 * (heard_at[-1] - begin) / number
                if count == 1000:
                    results[f"held by {name}"] = await watch.stop()
                else:
                    await watch.stop()
                await asyncio.sleep(0.5)
            for p in processes:
                p.kill()
            await asyncio.gather(*tasks)
        finally:
            communicator.close()

    for count in (0, 100, 1000, 5000) if OURS else (0, 1000):
        asyncio.run(run(count))
    return results


SIDES = {
    "concurrent": measure_concurrent,
    "tasks": measure_tasks,
    "calls": measure_calls,
    "idle": measure_idle,
    "busy": measure_busy,
    "broadcasts": measure_broadcasts,
}


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
        [sys.executable, HERE, "--worker", kind, "--url", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def say(process, word: str) -> str:
    """Tell a worker something and return what it answers."""
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline()


def main_of_worker(kind: str, url: str) -> None:
    """Work on tasks, or be a process that is called."""
    import plumpy

    quick, _, waits = classes()

    async def tick() -> None:
        """Wake the loop all the time: the released plumpy would sleep over some of its answers."""
        while True:
            await asyncio.sleep(0.002)

    async def be_busy() -> None:
        """Run one process after the other."""
        while True:
            await quick().step_until_terminated()
            await asyncio.sleep(0)  # a process that never waits gives the loop no turn

    async def run() -> None:
        global COMMUNICATOR  # the processes of the released plumpy need it
        inner = connect(url)
        communicator = COMMUNICATOR = plumpy.wrap_communicator(inner)
        inner.add_rpc_subscriber(lambda _comm, msg: msg, "echo")
        tasks = []
        if kind in ("tasks", "calls"):
            tasks.append(asyncio.ensure_future(tick()))
        if kind == "busy":
            tasks.append(asyncio.ensure_future(be_busy()))
        if kind in ("tasks", "watched"):
            communicator.add_task_subscriber(plumpy.ProcessLauncher())
        else:
            process = waits(pid="target", communicator=communicator)
            tasks.append(asyncio.ensure_future(process.step_until_terminated()))
            await asyncio.sleep(1)
        watch = Watch() if kind == "watched" else None
        print("ready", flush=True)
        while True:
            word = await asyncio.to_thread(sys.stdin.readline)
            if word == "watch\n":
                watch.worst = 0.0
                print("watching", flush=True)
            elif word == "report\n":
                print(watch.worst, flush=True)
            elif not word:
                return

    asyncio.run(run())


def outcome(future, timeout: float = 60.0):
    """Wait for the innermost result of a controller's future."""
    import kiwipy

    while isinstance(future, kiwipy.Future):
        future = future.result(timeout)
    return future


if __name__ == "__main__":
    main()
