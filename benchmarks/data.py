"""Specifications, work chains and checkpoints, side by side with the released plumpy 0.26.1.

    python benchmarks/data.py --released PATH_OF_ITS_PYTHON [--rounds 7]

Both packages run the same code, each in an interpreter of its own, in turns: one round of each row
here, one there, and so on. What is printed is the ratio of the medians. The interpreter with the
released package needs the same Python version; ``PLUMPY_RELEASED_PYTHON`` names it too.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What the issue asks for; rows without a goal are shown for comparison.
GOALS = {
    "construct, 100 ports in 10 namespaces": 5.0,
    "validate, a validator for each of 100 ports": 20.0,
    "work chain step, one chain": 4.0,
    "work chain step, 100 chains at once": 4.0,
    "launch child and ToContext": 4.0,
    "in-memory checkpoint, save, waiter": 4.0,
    "in-memory checkpoint, save, 100 inputs": 4.0,
    "in-memory checkpoint, save, work chain": 4.0,
    "in-memory checkpoint, load, waiter": 4.0,
    "in-memory checkpoint, load, 100 inputs": 4.0,
    "in-memory checkpoint, load, work chain": 4.0,
}


def serve() -> None:
    """Measure rows by name, as asked on standard input; answer seconds per operation."""
    import asyncio
    import tempfile
    import time

    import plumpy
    from plumpy import ToContext, while_
    from plumpy.ports import InputPort, PortNamespace

    class Waiter(plumpy.Process):
        async def run(self):
            return plumpy.Wait(self.after)

        def after(self):
            pass

    class Flat(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            for index in range(100):
                spec.input(f"p{index}", valid_type=int)

    class Nested(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            for outer in range(10):
                for index in range(10):
                    spec.input(f"n{outer}.p{index}", valid_type=int)

    class Chain(plumpy.WorkChain):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.input("rounds", default=100)
            spec.outline(cls.start, while_(cls.goes_on)(cls.step_a, cls.step_b))

        def start(self):
            self.ctx.count = 0

        def goes_on(self):
            return self.ctx.count < self.inputs.rounds

        def step_a(self):
            self.ctx.count += 1

        def step_b(self):
            pass

    class Child(plumpy.Process):
        async def run(self):
            pass

    class Parent(plumpy.WorkChain):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.outline(cls.start, while_(cls.goes_on)(cls.launch_child))

        def start(self):
            self.ctx.count = 0

        def goes_on(self):
            return self.ctx.count < 50

        def launch_child(self):
            self.ctx.count += 1
            return ToContext(child=self.launch(Child))

    # Identifiers lead back to these.
    here = sys.modules["__main__"]
    for cls in (Waiter, Flat, Nested, Chain, Child, Parent):
        setattr(here, cls.__name__, cls)

    flat = {f"p{index}": index for index in range(100)}
    nested = {f"n{o}": {f"p{i}": i for i in range(10)} for o in range(10)}
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def namespace(validator=None):
        result = PortNamespace("inputs")
        for name in flat:
            result[name] = InputPort(name, valid_type=int, validator=validator)
        return result

    async def waiting():
        process = Waiter(pid=1)
        while process.state != plumpy.ProcessState.RUNNING:
            await process.step()
        await process.step()
        return process

    async def chain_half_way():
        chain = Chain(pid=1)
        for _ in range(20):
            await chain.step()
        return chain

    processes = {
        "waiter": loop.run_until_complete(waiting()),
        "100 inputs": Flat(inputs=flat, pid=1),
        "work chain": loop.run_until_complete(chain_half_way()),
    }
    plain, validated = namespace(), namespace(lambda value, port: None)

    async def chains(number, rounds):
        made = [Chain(inputs={"rounds": rounds}) for _ in range(number)]
        await asyncio.gather(*(chain.step_until_terminated() for chain in made))

    async def children():
        await Parent().step_until_terminated()

    def repeat(number, function, *args):
        for _ in range(number):
            function(*args)

    def save(persister, process):
        persister.save_checkpoint(process)

    def load(persister):
        persister.load_checkpoint(1).unbundle(plumpy.LoadSaveContext(loop=loop))

    # name: how many operations, and the function that does them
    rows = {
        "construct, 100 ports": (200, lambda: repeat(200, lambda: Flat(inputs=flat, loop=loop))),
        "construct, 100 ports in 10 namespaces": (
            200,
            lambda: repeat(200, lambda: Nested(inputs=nested, loop=loop)),
        ),
        "fill in defaults, 100 ports": (300, lambda: repeat(300, plain.pre_process, flat)),
        "validate, 100 ports": (300, lambda: repeat(300, plain.validate, flat)),
        "validate, a validator for each of 100 ports": (
            50,
            lambda: repeat(50, validated.validate, flat),
        ),
        "work chain step, one chain": (
            1000,
            lambda: loop.run_until_complete(chains(1, 500)),
        ),
        "work chain step, 100 chains at once": (
            4000,
            lambda: loop.run_until_complete(chains(100, 20)),
        ),
        "launch child and ToContext": (50, lambda: loop.run_until_complete(children())),
    }
    directory = tempfile.mkdtemp()
    for label, process in processes.items():
        memory = plumpy.InMemoryPersister()
        files = plumpy.PicklePersister(os.path.join(directory, label))
        save(memory, process)
        save(files, process)
        rows[f"in-memory checkpoint, save, {label}"] = (
            200,
            lambda m=memory, p=process: repeat(200, save, m, p),
        )
        rows[f"in-memory checkpoint, load, {label}"] = (
            200,
            lambda m=memory: repeat(200, load, m),
        )
        rows[f"pickle checkpoint, load, {label}"] = (100, lambda f=files: repeat(100, load, f))

    print(json.dumps({"version": plumpy.__version__, "rows": list(rows)}), flush=True)
    for line in sys.stdin:
        number, function = rows[line.strip()]
        # of this process alone: other programs on the machine do not count
        start = time.process_time()
        function()
        print((time.process_time() - start) / number, flush=True)


class Side:
    """One of the two packages, in an interpreter of its own."""

    def __init__(self, python: str, path: str | None) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if path is not None:
            environment["PYTHONPATH"] = path
        self._process = subprocess.Popen(
            [python, "-P", __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT.anchor,
            text=True,
        )
        hello = json.loads(self._answer())
        self.version: str = hello["version"]
        self.rows: list[str] = hello["rows"]

    def measure(self, row: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(row + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended with {self._process.wait()}")
        return line


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--released",
        metavar="PYTHON",
        default=os.environ.get("PLUMPY_RELEASED_PYTHON"),
        help="interpreter that has plumpy 0.26.1",
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each row and side")
    parser.add_argument("--row", help="only rows that contain this text")
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    if not options.released:
        parser.error("give --released, the path of a Python that has plumpy 0.26.1")
    here, released = Side(sys.executable, str(ROOT)), Side(options.released, None)
    if released.version != "0.26.1":
        raise SystemExit(f"{options.released} has plumpy {released.version}, not 0.26.1")
    missed = 0
    print(f"{'row':<48} {'released':>10} {'here':>10} {'ratio':>7} {'goal':>6}")
    for row in here.rows:
        if options.row and options.row not in row:
            continue
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs.append(released.measure(row))
            ours.append(here.measure(row))
        our, their = statistics.median(ours), statistics.median(theirs)
        goal = GOALS.get(row)
        missed += goal is not None and their / our < goal
        shown = "" if goal is None else f">= {goal:.0f}"
        figures = f"{their * 1e6:>8.1f}us {our * 1e6:>8.1f}us {their / our:>6.1f}x {shown:>6}"
        print(f"{row:<48} {figures}", flush=True)
    here.close()
    released.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
