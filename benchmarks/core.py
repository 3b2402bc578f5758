"""The heart of the runtime, side by side with the released plumpy 0.26.1.

python benchmarks/core.py --reference PATH_OF_ITS_PYTHON [--rounds 7]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from typing import Any

from _pairs import Row, main

GOALS = {
    "create and execute, empty": 5,
    "10,000 empty at once": 5,
    "10,000 wait and resume": 4,
    "nested execute, depth 100": 4,
    "memory of a waiting process": 3,
}


def make_rows() -> dict[str, Row]:
    import plumpy
    from plumpy import Process, ProcessState, Wait

    class Empty(Process):
        async def run(self) -> None:
            pass

    class Plain(Process):
        def run(self) -> None:
            pass

    class Ports(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.input("a", valid_type=int)
            spec.input("b", valid_type=int, default=2)
            spec.output("sum", valid_type=int)

        async def run(self) -> None:
            self.out("sum", self.inputs.a + self.inputs.b)

    class Waits(Process):
        async def run(self) -> Any:
            return Wait(self.resumed)

        def resumed(self) -> None:
            pass

    class Nested(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.input("levels")

        def run(self) -> None:
            if self.inputs.levels:
                Nested({"levels": self.inputs.levels - 1}).execute()

    class Launches(Nested):
        async def run(self) -> None:  # type: ignore[override]
            if self.inputs.levels:
                await self.launch(Launches, {"levels": self.inputs.levels - 1}).future()

    class Emits(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.output("o", valid_type=int)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def construct(number: int) -> None:
        for _ in range(number):
            Empty(loop=loop)

    def execute(cls: Any, inputs: Any, number: int) -> None:
        for _ in range(number):
            cls(inputs).execute()

    def one_by_one(number: int) -> None:
        async def run() -> None:
            for _ in range(number):
                await Empty().step_until_terminated()

        loop.run_until_complete(run())

    def at_once(number: int) -> None:
        async def run() -> None:
            await asyncio.gather(*(Empty().step_until_terminated() for _ in range(number)))

        loop.run_until_complete(run())

    async def waiting(number: int) -> tuple[list[Any], list[Any]]:
        processes = [Waits() for _ in range(number)]
        tasks = [loop.create_task(process.step_until_terminated()) for process in processes]
        while processes[-1].state != ProcessState.WAITING:
            await asyncio.sleep(0)
        return processes, tasks

    def wait_and_resume(number: int) -> None:
        async def run() -> None:
            processes, tasks = await waiting(number)
            for process in processes:
                process.resume()
            await asyncio.gather(*tasks)

        loop.run_until_complete(run())

    def control(number: int) -> None:
        async def run() -> None:
            processes, tasks = await waiting(number)
            await asyncio.gather(*(process.pause() for process in processes))
            for process in processes:
                process.play()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for process in processes:
                process.kill()
            await asyncio.gather(*tasks)

        loop.run_until_complete(run())

    def memory() -> float:
        async def run() -> float:
            number = 2000
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            processes, tasks = await waiting(number)
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            for process in processes:
                process.resume()
            await asyncio.gather(*tasks)
            return used / number

        return loop.run_until_complete(run())

    def nested(cls: Any, levels: int) -> None:
        # The released package needs it; here nothing changes.
        sys.setrecursionlimit(10_000)
        cls({"levels": levels}).execute()

    emitter = Emits(loop=loop)

    def emit(number: int) -> None:
        for index in range(number):
            emitter.out("o", index)

    del plumpy
    return {
        "construct an empty process": Row(2000, lambda: construct(2000)),
        "create and execute, empty": Row(500, lambda: execute(Empty, None, 500)),
        "create and execute, plain function": Row(500, lambda: execute(Plain, None, 500)),
        "create and execute, 2 inputs, 1 output": Row(500, lambda: execute(Ports, {"a": 1}, 500)),
        "create and step to the end, in one loop": Row(1000, lambda: one_by_one(1000)),
        "1,000 empty at once": Row(1000, lambda: at_once(1000)),
        "10,000 empty at once": Row(10_000, lambda: at_once(10_000)),
        "1,000 wait and resume": Row(1000, lambda: wait_and_resume(1000)),
        "10,000 wait and resume": Row(10_000, lambda: wait_and_resume(10_000)),
        "create, pause, play and kill": Row(1000, lambda: control(1000)),
        "nested launch and await, depth 100": Row(101, lambda: nested(Launches, 100)),
        "nested execute, depth 100": Row(101, lambda: nested(Nested, 100)),
        "emit an output": Row(5000, lambda: emit(5000)),
        "memory of a waiting process": Row(1, memory, "B "),
    }


if __name__ == "__main__":
    sys.exit(main(__file__, make_rows, GOALS))
