"""Measure the same rows here and with the released plumpy, in turns.

A benchmark is a script that calls :func:`main` with a function that makes its rows. The script
runs itself twice as a server, once in each interpreter, and asks them by turns: one measurement
here, one there. What is printed is the ratio of the medians. Only processor time of the measured
process counts, so that other programs on the machine matter less.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each row and side")
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
    print(f"{'row':<48} {'released':>12} {'here':>12} {'ratio':>7} {'goal':>6}")
    for row, unit in here.rows.items():
        if options.row not in row:
            continue
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs.append(there.measure(row))
            ours.append(here.measure(row))
        our, their = statistics.median(ours), statistics.median(theirs)
        goal = goals.get(row)
        missed += goal is not None and their / our < goal
        wanted = "" if goal is None else f">= {goal:g}"
        figures = f"{their:>9,.1f} {unit} {our:>9,.1f} {unit} {their / our:>6.1f}x {wanted:>6}"
        print(f"{row:<48} {figures}", flush=True)
    here.close()
    there.close()
    return 1 if missed else 0


def _serve(rows: dict[str, Row]) -> None:
    """Measure rows by name, as asked on standard input."""
    import plumpy

    units = {name: row.unit for name, row in rows.items()}
    print(json.dumps({"version": plumpy.__version__, "rows": units}), flush=True)
    for line in sys.stdin:
        row = rows[line.strip()]
        start = time.process_time()
        figure = row.run()
        used = time.process_time() - start
        print(figure if figure is not None else used / row.number * 1e6, flush=True)


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
