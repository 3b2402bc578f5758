"""``harness check``: tests of any project that pass without having run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from harness.check import Run, check
from harness.check.model import to_json, to_text
from harness.errors import HarnessError

HELP = "find tests, in any project, that pass without having run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="test file, directory or id (default: this directory)",
    )
    parser.add_argument(
        "--pytest",
        action="append",
        default=[],
        metavar="OPTION",
        help="hand an option to pytest; short for many of them: -- OPTION ...",
    )
    parser.add_argument(
        "--python",
        help="interpreter of the project's environment (default: the one that runs the harness)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="stop when no test has started or ended for so long (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--show-pytest", action="store_true", help="show pytest's output on stderr")


def run(args: argparse.Namespace) -> int:
    if args.limit <= 0:
        raise HarnessError(f"--limit {args.limit:g} is not a time. Give seconds above 0.")
    show = _progress_line if sys.stderr.isatty() and not args.show_pytest else _nothing
    runs = check(
        args.paths or ["."],
        python=args.python,
        options=args.pytest,
        limit=args.limit,
        output=sys.stderr if args.show_pytest else None,
        progress=show,
    )
    if show is _progress_line:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(to_json(runs), indent=2))
    else:
        print("\n\n".join(to_text(run, Path.cwd()) for run in runs))
    return _status(runs)


def _status(runs: list[Run]) -> int:
    if any(run.interrupted for run in runs):
        return 2
    if any(run.findings for run in runs):
        return 1
    return 2 if any(run.problems for run in runs) else 0


Show = Callable[[Run], None]


def _nothing(run: Run) -> None:
    pass


def _progress_line(run: Run) -> None:
    line = f"{run.ran}/{run.collected or '?'} tests, {len(run.findings)} vacuous  {run.current}"
    print(f"\r\x1b[K{line[:79]}", end="", file=sys.stderr, flush=True)
