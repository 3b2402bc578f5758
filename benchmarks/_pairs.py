"""Measure the same rows here and with the released plumpy, in turns.

A benchmark is a script that calls :func:`main` with a function that makes its rows. The script
runs itself twice as a server, once in each interpreter, and asks them by turns for short slices of
the same row: one there, one here, one there. Every slice is compared with its neighbour, and the
median of those ratios is what is printed: what slows the machine for a while slows both. Before the
first slice each side has run the row once; before each slice the garbage of the one before is
collected, and within it the collector runs as in any program. The time is that of the clock on the
wall, so the machine has to be quiet.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASED = "0.26.1"
#: How long a slice takes at least, in seconds.
_SLICE = 0.03


class Row(NamedTuple):
    """Something to be measured.

    :ivar number: how many operations ``run`` does; the figure is per operation
    :ivar run: does them; what it returns, if anything, is the figure in place of the time
    :ivar unit: of the figure
    """

    number: int
    run: Callable[[], float | None]
    unit: str = "us"


def main(script: str, make_rows: Callable[[], dict[str, Row]], goals: Mapping[str, float]) -> int:
    """Run the benchmark; return how the program ends: 1 if a goal was missed.

    :param script: path of the calling script
    :param make_rows: called in each interpreter
    :param goals: ratio to reach, by the name of the row
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--reference",
        metavar="PYTHON",
        default=os.environ.get("PLUMPY_RELEASED_PYTHON"),
        help=f"interpreter that has plumpy {RELEASED} (or $PLUMPY_RELEASED_PYTHON)",
    )
    parser.add_argument("--rounds", type=int, default=15, help="slices of each row and side")
    parser.add_argument("--row", default="", help="only rows that contain this text")
    options = parser.parse_args()
    if options.serve:
        _serve(make_rows())
        return 0
    if not options.reference:
        parser.error(f"give --reference, the path of a Python that has plumpy {RELEASED}")
    here = _Side(script, sys.executable, str(ROOT))
    there = _Side(script, options.reference, None)
    if there.version != RELEASED:
        raise SystemExit(f"{options.reference} has plumpy {there.version}, not {RELEASED}")
    missed = 0
    print(f"{'row':<40} {'released':>12} {'here':>12} {'ratio':>7} {'middle half':>14} {'goal':>6}")
    for row, unit in here.rows.items():
        if options.row not in row:
            continue
        ours, theirs = [], []
        for side in (there, here):
            side.measure(row)
        for _ in range(options.rounds):
            theirs.append(there.measure(row))
            ours.append(here.measure(row))
        ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
        ratios += [their / our for their, our in zip(theirs[1:], ours, strict=False)]
        ratio, (low, _, high) = statistics.median(ratios), statistics.quantiles(ratios)
        goal = goals.get(row)
        missed += goal is not None and ratio < goal
        print(
            f"{row:<40} {statistics.median(theirs):>9,.1f} {unit} {statistics.median(ours):>9,.1f}"
            f" {unit} {ratio:>6.1f}x {low:>5.1f} to {high:>5.1f}"
            + ("" if goal is None else f" {'>= ' + format(goal, 'g'):>7}"),
            flush=True,
        )
    here.close()
    there.close()
    return 1 if missed else 0


def _serve(rows: dict[str, Row]) -> None:
    """Measure rows by name, as asked on standard input."""
    import plumpy

    units = {name: row.unit for name, row in rows.items()}
    print(json.dumps({"version": plumpy.__version__, "rows": units}), flush=True)
    for line in sys.stdin:
        print(_slice(rows[line.strip()]), flush=True)


def _slice(row: Row) -> float:
    """Measure a row for long enough that the clock and a single hiccup do not matter."""
    gc.collect()
    operations = 0
    start = time.perf_counter()
    while (used := time.perf_counter() - start) < _SLICE:
        figure = row.run()
        if figure is not None:
            return figure
        operations += row.number
    return used / operations * 1e6


class _Side:
    """One of the two packages, in an interpreter of its own."""

    def __init__(self, script: str, python: str, path: str | None) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if path is not None:
            environment["PYTHONPATH"] = path
        self._process = subprocess.Popen(
            [python, script, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT.anchor,
            text=True,
        )
        hello = json.loads(self._answer())
        self.version: str = hello["version"]
        self.rows: dict[str, str] = hello["rows"]

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
