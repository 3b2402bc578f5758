"""Specifications, work chains and checkpoints, side by side with the released plumpy 0.26.1.

python benchmarks/data.py --reference PATH_OF_ITS_PYTHON [--rounds 7]
"""

from __future__ import annotations

import os
import sys

from _pairs import Row, main

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


def make_rows() -> dict[str, Row]:
    import asyncio
    import tempfile

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
            return self.ctx.count < 500

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

    rows = {
        "construct, 100 ports": Row(200, lambda: repeat(200, lambda: Flat(inputs=flat, loop=loop))),
        "construct, 100 ports in 10 namespaces": Row(
            200,
            lambda: repeat(200, lambda: Nested(inputs=nested, loop=loop)),
        ),
        "fill in defaults, 100 ports": Row(300, lambda: repeat(300, plain.pre_process, flat)),
        "validate, 100 ports": Row(300, lambda: repeat(300, plain.validate, flat)),
        "validate, a validator for each of 100 ports": Row(
            50,
            lambda: repeat(50, validated.validate, flat),
        ),
        "work chain step, one chain": Row(
            1000,
            lambda: loop.run_until_complete(chains(1, 500)),
        ),
        "work chain step, 100 chains at once": Row(
            4000,
            lambda: loop.run_until_complete(chains(100, 20)),
        ),
        "launch child and ToContext": Row(500, lambda: loop.run_until_complete(children())),
    }
    directory = tempfile.mkdtemp()
    for label, process in processes.items():
        memory = plumpy.InMemoryPersister()
        files = plumpy.PicklePersister(os.path.join(directory, label))
        save(memory, process)
        save(files, process)
        rows[f"in-memory checkpoint, save, {label}"] = Row(
            1000,
            lambda m=memory, p=process: repeat(1000, save, m, p),
        )
        rows[f"in-memory checkpoint, load, {label}"] = Row(
            1000,
            lambda m=memory: repeat(1000, load, m),
        )
        rows[f"pickle checkpoint, save, {label}"] = Row(
            100,
            lambda f=files, p=process: repeat(100, save, f, p),
        )
        rows[f"pickle checkpoint, load, {label}"] = Row(100, lambda f=files: repeat(100, load, f))
        # What is meant for checkpoints on disk, against the only thing that 0.26.1 has for them.
        durable = files
        if hasattr(plumpy.persistence, "SqlitePersister"):
            path = os.path.join(directory, f"{label}.sqlite")
            durable = plumpy.persistence.SqlitePersister(path)
            save(durable, process)
        rows[f"SQLite checkpoint (released: pickle), save, {label}"] = Row(
            100,
            lambda d=durable, p=process: repeat(100, save, d, p),
        )
        rows[f"SQLite checkpoint (released: pickle), load, {label}"] = Row(
            100,
            lambda d=durable: repeat(100, load, d),
        )

    return rows


if __name__ == "__main__":
    sys.exit(main(__file__, make_rows, GOALS))
