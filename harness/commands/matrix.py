"""``harness matrix``: run scenarios in every release and interpreter, and print the grid.

For one scenario file while its ``present`` is being measured::

    harness matrix scenarios/nested_loops/test_running_loop.py
    harness matrix N05 --python 3.8 --python 3.12 --release '>=1.3,<1.5'

Under each grid stands where the bug was seen, in the form that ``present`` takes.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.matrix import interpreters
from harness.matrix.cache import say_on_stderr
from harness.matrix.cells import ReleaseChoice, plan, shard
from harness.matrix.engine import Engine, Grid, Interrupted
from harness.matrix.engine import Progress as Told
from harness.matrix.ranges import present_lines
from harness.outcome import Verdict
from harness.report import terminal
from harness.report.grid import release_key
from harness.report.model import Report, Result
from harness.report.text import counted
from harness.selection import select

HELP = "run scenarios in every release and interpreter"
EXIT_AS_EXPECTED, EXIT_UNEXPECTED, EXIT_COULD_NOT = 0, 1, 2
_MOST_LISTED = 20
#: Columns of a grid that is not printed to a terminal.
_WIDTH = 200
#: Seconds between two lines about the progress, where there is no terminal.
_SILENCE = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_selection(parser)
    parser.add_argument(
        "--shard", metavar="I/N", help="run only part I of N; 'harness report --merge' joins them"
    )
    parser.add_argument(
        "--repeat",
        metavar="K",
        type=at_least_one,
        default=1,
        help="run each cell K times; one whose outcomes differ is inconclusive",
    )
    parser.add_argument(
        "--list", action="store_true", help="show the interpreters and releases, and run nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--output", metavar="FILE", type=Path, help="save the report as JSON")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Declare what every command about cells takes."""
    parser.add_argument(
        "scenarios",
        metavar="SCENARIO",
        nargs="*",
        help="an id (N05), a file, a directory or file::name; default: all of ./scenarios",
    )
    parser.add_argument(
        "--python",
        metavar="WHICH",
        action="append",
        default=[],
        help="a version (3.8), a specifier ('>=3.9') or a program; default: all that are found",
    )
    parser.add_argument(
        "--release",
        metavar="WHICH",
        action="append",
        default=[],
        help="a release (1.5.2), a specifier ('>=1.3,<1.5'), a requirement "
        "(nest-asyncio2==1.7.4), newest, all or none (Python alone); "
        "default: all that matter",
    )
    parser.add_argument("--pre", action="store_true", help="try pre-releases too")
    parser.add_argument("--yanked", action="store_true", help="try yanked releases too")
    parser.add_argument("--offline", action="store_true", help="use only what the cache has")
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=at_least_one,
        help="runs at once; default: one more than processors",
    )
    parser.add_argument("--fresh", action="store_true", help="run also what is known already")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    unreadable: list[str] = []
    records = select(args.scenarios, unreadable)
    found = interpreters_for(args)
    cells, problems = plan(
        records,
        found.interpreters,
        ReleaseChoice.parse(args.release),
        pre=args.pre,
        yanked=args.yanked,
        offline=args.offline,
        thin=True,
    )
    if args.shard:
        cells = shard(cells, args.shard)
    if args.list:
        _print_list(found, sorted({(c.library or "", c.release or "") for c in cells}))
        return EXIT_AS_EXPECTED
    interrupted = False
    try:
        with progress_bar("cells") as progress, engine_for(args) as engine:
            grid = engine.run(cells, progress, repeat=args.repeat)
    except Interrupted as stop:
        grid, interrupted = stop.grid, True
    grid.problems[:0] = [*unreadable, *problems, *(map(str, found.rejected) if args.python else ())]
    report = grid.report(records)
    if interrupted:
        told = f"yes, {len(report.results)} of {len(cells)} cells are known"
        report = replace(report, environment={**report.environment, "interrupted": told})
    if args.output:
        report.save(args.output)
    if args.json:
        print(report.to_text(), end="")
    else:
        lines = [] if interrupted else _grids(report, grid)
        print("\n".join([*lines, terminal.summary_line(report)]))
    if interrupted:
        raise KeyboardInterrupt
    for problem in grid.problems:
        say_on_stderr(f"could not run: {problem}")
    if grid.differing or any(one.verdict.is_failure for one in grid.results):
        return EXIT_UNEXPECTED
    return EXIT_COULD_NOT if grid.problems else EXIT_AS_EXPECTED


def interpreters_for(args: argparse.Namespace) -> interpreters.Found:
    """Find the interpreters that a command line asks for.

    :raises HarnessError: if there is none of them
    """
    found = interpreters.select(args.python)
    if not found.interpreters:
        reasons = "; ".join(map(str, found.rejected)) or "none was found"
        raise HarnessError(f"there is no interpreter to run in: {reasons}; see --list without it")
    return found


def engine_for(args: argparse.Namespace) -> Engine:
    """Return the engine that a command line asks for."""
    return Engine(jobs=args.jobs, fresh=args.fresh, offline=args.offline)


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Told]:
    """Show a bar on standard error; where that is no terminal, a line from time to time."""
    if not sys.stderr.isatty():
        yield _in_lines(what)
        return
    # What costs a tenth of a second to import is not needed in a pipe.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _in_lines(what: str) -> Told:
    next_line = time.monotonic() + _SILENCE

    def tell(done: int, total: int) -> None:
        nonlocal next_line
        if time.monotonic() > next_line:
            next_line = time.monotonic() + _SILENCE
            say_on_stderr(f"{what}: {done} of {total}")

    return tell


def at_least_one(text: str) -> int:
    """Read a number of the command line that must not be 0 or less."""
    if not text.lstrip("-").isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number; give one from 1 on")
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def _grids(report: Report, grid: Grid) -> list[str]:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    lines = terminal.grid_lines(report, width=width, colour=sys.stdout.isatty())
    for info in report.scenarios:
        lines += [f"{info.id}: {line}" for line in present_lines(report, info.id)]
    unexpected = [one for one in report.results if one.verdict.is_failure]
    lines += _listed("unexpected", unexpected)
    return lines + _listed("inconclusive", grid.differing)


def _listed(title: str, results: Sequence[Result]) -> list[str]:
    lines = [
        f"{title}: {one.scenario} {_verdict(one)} with {one.where}: {terminal.seen(one)}"
        f"\n  replay: {one.command}"
        for one in results[:_MOST_LISTED]
    ]
    if len(results) > _MOST_LISTED:
        lines.append(f"{title}: and {len(results) - _MOST_LISTED} more")
    return lines


def _verdict(result: Result) -> str:
    return "" if result.verdict is Verdict.INCONCLUSIVE else result.verdict.value


def _print_list(found: interpreters.Found, places: Sequence[tuple[str, str]]) -> None:
    for one in found.interpreters:
        print(f"Python {one.version}  {one.path}  [{one.build}]")
    for rejected in found.rejected:
        print(f"left out: {rejected}")
    for library in dict.fromkeys(library for library, _ in places):
        releases = sorted((r for name, r in places if name == library), key=release_key)
        told = f"{counted(len(releases), 'release')}: {', '.join(releases)}"
        print(f"{library}: {told}" if library else "none")
