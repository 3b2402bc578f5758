"""What the matrix costs: one warm cell, the same cell as a warm tox-uv environment, a new scenario.

    python benchmarks/matrix.py [--rounds 5] [--cells 200]
    python benchmarks/matrix.py --whole

Releases are in the cache and tox's environments are made before anything is measured. CPU time is
that of every process that took part; the two ways to run the cell take turns. ``--whole`` measures
the whole library instead, from empty caches of the harness and of uv on.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.matrix.bisect import bisect
from harness.matrix.cache import remove
from harness.matrix.cells import Cell, ReleaseChoice, plan
from harness.matrix.engine import Engine
from harness.matrix.interpreters import Interpreter, discover
from harness.matrix.releases import Release, obtain
from harness.matrix.runner import Run, Runner
from harness.outcome import Outcome
from harness.selection import select

SCRIPT = """
import asyncio, os, sys
import nest_asyncio


async def inner():
    await asyncio.sleep(0)
    return 42


async def main():
    assert loop.run_until_complete(inner()) == 42


loop = asyncio.new_event_loop()
nest_asyncio.apply(loop)
loop.run_until_complete(main())
print("healthy", file=sys.stderr, flush=True)
os._exit(0)
"""
TOX = """
[tox]
requires = tox-uv
env_list = cell
no_package = true

[testenv]
base_python = {python}
deps = nest-asyncio==1.6.0
commands = python {script}
"""
#: A scenario that no cache knows: the name of its file makes its script new.
SCENARIO = """
import asyncio

from harness.scenario import scenario


@scenario(id="B{number}", title="A nested run returns", source="https://example.org/{number}",
          present=("nest-asyncio<0.9",), library="nest-asyncio")
async def test_nested_run_returns():
    import nest_asyncio

    async def inner():
        await asyncio.sleep(0)
        return {number}

    loop = asyncio.get_event_loop()
    try:
        nest_asyncio.apply(loop)
        assert loop.run_until_complete(inner()) == {number}
    except RuntimeError as error:
        raise AssertionError(str(error))
"""


def cpu() -> float:
    """Return the CPU seconds of this process and of every child that has ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU seconds and the wall-clock seconds of some work."""
    before, started = cpu(), time.perf_counter()
    work()
    return cpu() - before, time.perf_counter() - started


def session(interpreters: Sequence[Interpreter], release: Release, cells: int) -> None:
    """Start the residents, run one cell in each, and ``cells`` more in turns."""
    path = (str(release.directory),)
    first = [Run("cell", SCRIPT, one, path) for one in interpreters]
    more = [Run("cell", SCRIPT, interpreters[i % len(interpreters)], path) for i in range(cells)]
    seen = []
    with Runner(os.cpu_count()) as runner:
        for runs in (first, more):
            runner.run(runs, lambda _, ran: seen.append(ran.observation))
    bad = [one for one in seen if one.outcome is not Outcome.HEALTHY]
    if bad:
        raise HarnessError(f"the cell is not healthy: {bad[0]}")


def one_cell(interpreters: Sequence[Interpreter], rounds: int, cells: int) -> None:
    newest = interpreters[-1]
    release = obtain("nest-asyncio", "1.6.0", newest)
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "cell.py")
        script.write_text(SCRIPT)
        Path(directory, "tox.ini").write_text(TOX.format(python=newest.path, script=script))
        command = [sys.executable, "-m", "tox", "run", "-qq", "-e", "cell"]
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        ours, tox, wall = [], [], []
        for _ in range(rounds):
            start_up, _ = measured(lambda: session(interpreters, release, 0))
            whole, seconds = measured(lambda: session(interpreters, release, cells))
            ours.append((whole - start_up) / cells)
            wall.append(seconds)
            used, _ = measured(
                lambda: subprocess.run(command, cwd=directory, check=True, capture_output=True)
            )
            tox.append(used)
    mine, theirs = statistics.median(ours), statistics.median(tox)
    print("| what | median (range) | goal |\n| --- | --- | --- |")
    print(f"| CPU of one warm cell | {_ms(ours)} | 8 ms |")
    print(f"| CPU of the same cell, warm tox-uv | {_ms(tox)} | |")
    print(f"| ratio | {theirs / mine:.0f} | 50 |")
    print(
        f"| residents of {len(interpreters)} interpreters, start to end | {start_up:.2f} s CPU | |"
    )


def new_scenario(directory: str, number: int, interpreters: Sequence[Interpreter]) -> list[Cell]:
    """Return the cells of a scenario that was never run before."""
    file = Path(directory, f"test_{number}.py")
    file.write_text(SCENARIO.format(number=number))
    return plan(select([str(file)]), interpreters, ReleaseChoice())[0]


def grid(cells: Sequence[Cell]) -> None:
    with Engine() as engine:
        engine.run(cells)


def find(cells: Sequence[Cell]) -> None:
    with Engine() as engine:
        bisect(engine, cells[0].record, cells)


def grids(interpreters: Sequence[Interpreter], rounds: int) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            mark = time.time_ns()
            first = new_scenario(directory, mark, interpreters)
            second = new_scenario(directory, mark + 1, interpreters)
            for name, work, cells in (
                ("a new scenario | 8 s", grid, first),
                ("the same again | ", grid, first),
                ("a bisect of a new scenario | 3 s", find, second),
            ):
                rows.setdefault(name, []).append(measured(functools.partial(work, cells)))
    for row, times in rows.items():
        name, _, goal = row.partition(" | ")
        used, seconds = ([time[column] for time in times] for column in range(2))
        print(
            f"| {name}, {len(first)} cells | {statistics.median(seconds):.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f}), {statistics.median(used):.1f} s of CPU "
            f"| {goal} |"
        )


def whole() -> None:
    """Run every scenario in every cell, with nothing in any cache; then what should be quick."""
    directory = Path(tempfile.mkdtemp())
    caches = {
        "HARNESS_CACHE_DIR": str(directory / "harness"),
        "UV_CACHE_DIR": str(directory / "uv"),
    }
    print("| what | time | goal |\n| --- | --- | --- |")
    try:
        for name, goal, words in (
            ("the whole library, nothing in the cache", "300 s", ["matrix"]),
            ("the same again", "3 s", ["matrix"]),
            ("a bisect of a spin in every Python", "", ["bisect", "N08", "--fresh"]),
            ("the same in one Python", "3 s", ["bisect", "N08", "--fresh", "--python", "3.11"]),
        ):
            command = [sys.executable, "-m", "harness", *words]
            run = functools.partial(
                subprocess.run, command, env={**os.environ, **caches}, stdout=subprocess.DEVNULL
            )
            used, seconds = measured(run)
            print(f"| {name} | {seconds:.1f} s, {used:.1f} s of CPU | {goal} |", flush=True)
    finally:
        remove(directory)


def _ms(values: Sequence[float]) -> str:
    low, high = min(values) * 1000, max(values) * 1000
    return f"{statistics.median(values) * 1000:.1f} ms ({low:.1f} to {high:.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--cells", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--whole", action="store_true", help="measure the whole library instead")
    args = parser.parse_args(arguments)
    if args.whole:
        whole()
        return 0
    newest = {one.minor: one for one in discover().interpreters}
    interpreters = list(newest.values())
    one_cell(interpreters, args.rounds, args.cells)
    grids(interpreters, args.rounds)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
