"""Processes over RabbitMQ, side by side with the released plumpy.

    python benchmarks/rabbitmq.py --reference PYTHON --url AMQP_URL [--rounds N] [--only NAME ...]

PYTHON is an interpreter with plumpy 0.26.1 and kiwipy[rmq]; AMQP_URL names a vhost that nobody else
uses. Both sides run in turn, in programs of their own, against the same broker. What counts are the
ratios; the best round of each side is taken, because other work on the machine only slows it down,
but of the replies the worst. Ends with 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

ROWS = pathlib.Path(__file__).resolve().with_name("_rabbitmq_rows.py")
ROOT = ROWS.parent.parent


class Row(NamedTuple):
    """One line of the table.

    :ivar more: True if more is better
    :ivar ratio: the goal for the ratio
    :ivar most: the goal for the figure itself
    """

    title: str
    unit: str
    more: bool = False
    ratio: float | None = None
    most: float | None = None


RESULTS = {
    "created to finished": Row("200 processes at once, created to finished", "/s", True, 20),
    "wait and resume": Row("400 processes at once, wait and resume", "/s", True, 30),
    "held by 200": Row("loop held up: 200 created, run, finished", "ms", most=20),
    "tasks": Row("300 launch tasks in flight, to their outputs", "/s", True, 4),
    "tasks, reachable": Row("the same, processes with a communicator", "/s", True, 4),
    "held by 300 tasks": Row("loop of the worker held up by that", "ms", most=20),
    "status p50": Row("call: status, median", "ms", ratio=2),
    "status p99": Row("call: status, 99th percentile", "ms", ratio=3),
    "pause p50": Row("call: pause, median", "ms", ratio=2),
    "pause p99": Row("call: pause, 99th percentile", "ms", ratio=3),
    "kiwipy p50": Row("kiwipy alone, without any process: median", "ms"),
    "kiwipy p99": Row("kiwipy alone: 99th percentile", "ms"),
    "late, idle": Row("replies of an idle worker after 0.3 s or never", "", most=0),
    "lost, idle": Row("of these, never (within 5 s)", "", most=0),
    "slowest, idle": Row("slowest reply of an idle worker", "ms"),
    "lost, busy": Row("replies of a busy worker that never came", "", most=0),
    "slowest, busy": Row("slowest reply of a busy worker", "ms"),
    "filtered 1000": Row("state broadcast, worker with 1,000 processes", "ms", ratio=20),
    "other 1000": Row("other broadcast, worker with 1,000 processes", "ms", ratio=50),
    "filtered 0": Row("state broadcast, worker with 1 process", "ms"),
    "filtered 100": Row("state broadcast, 100 processes", "ms"),
    "filtered 5000": Row("state broadcast, 5,000 processes", "ms"),
    "other 0": Row("other broadcast, 1 process", "ms"),
    "other 100": Row("other broadcast, 100 processes", "ms"),
    "other 5000": Row("other broadcast, 5,000 processes", "ms"),
    "held by filtered": Row("loop held up by a storm of state broadcasts", "ms", most=20),
    "held by other": Row("loop held up by a storm of other broadcasts", "ms", most=20),
}
SIDES = ("concurrent", "calls", "idle", "busy", "tasks", "broadcasts")


def run_side(python: str, name: str, options: argparse.Namespace, ours: bool) -> dict:
    """Measure one thing on one side."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if ours:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [python, ROWS, "--side", name, "--url", options.url, "--replies", str(options.replies)],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{python} could not measure {name}:\n{done.stderr[-2000:]}")
    results: dict = json.loads(done.stdout.splitlines()[-1])
    return results


def report(released: dict, here: dict) -> int:
    """Print the table; return the number of goals missed."""
    missed = 0
    print(f"{'':48}{'plumpy ' + released.get('version', ''):>14}{'here':>10}{'ratio':>8}  goal")
    for key, row in RESULTS.items():
        if key not in here:
            continue
        there, ours = released.get(key), here[key]
        ratio = None
        if there is not None and ours > 0 and there > 0:
            ratio = ours / there if row.more else there / ours
        goal = ""
        if row.ratio is not None:
            goal = f">= {row.ratio:g}x"
            missed += ratio is None or ratio < row.ratio
        elif row.most is not None:
            goal = f"<= {row.most:g}"
            missed += ours > row.most
        title = f"{row.title}, {row.unit}" if row.unit else row.title
        print(f"{title:48}{_figure(there):>14}{_figure(ours):>10}{_ratio(ratio):>8}  {goal}")
    return missed


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.3f}" if 0 < value < 1 else f"{value:,.1f}" if value % 1 else f"{value:,.0f}"


def _ratio(value: float | None) -> str:
    return "" if value is None or math.isinf(value) else f"{value:.1f}x"


def main() -> int:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", help="interpreter with the released plumpy")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--replies", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES)
    options = parser.parse_args()
    best: dict = {"released": {}, "here": {}}
    for _ in range(options.rounds):
        for name in options.only:
            for side, python in (("released", options.reference), ("here", sys.executable)):
                if python is None:
                    continue
                print(f"{name}: {side} ...", file=sys.stderr, flush=True)
                results = run_side(python, name, options, side == "here")
                best[side]["version"] = results.pop("version")
                for key, value in results.items():
                    choose = max if RESULTS[key].more or name in ("idle", "busy") else min
                    best[side][key] = choose(best[side].get(key, value), value)
    return 1 if report(best["released"], best["here"]) else 0


if __name__ == "__main__":
    sys.exit(main())
