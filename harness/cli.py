"""``harness COMMAND``: the way in for a person and for a script.

Exit codes: 0 all as expected, 1 something unexpected found, 2 could not run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from harness import __version__
from harness.errors import HarnessError

EXIT_CANNOT_RUN = 2
#: command -> what it does; its module is ``harness.commands.COMMAND``.
COMMANDS = {
    "matrix": "run scenarios in every release and interpreter",
    "bisect": "find the first bad and the first good release of a scenario",
    "export": "write a scenario as a stand-alone script",
    "report": "write, merge or compare reports",
    "coverage": "show which lines of a release the scenarios execute",
    "check": "find async tests that pass without running",
    "catalogue": "write the table of all scenarios",
    "broker": "start, show or stop a RabbitMQ for hand work; build its image",
    "doctor": "say what this machine has and what each missing thing would enable",
}


class Command(Protocol):
    """What a module of ``harness.commands`` offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def _load(name: str) -> Command:
    module: Command = importlib.import_module(f"harness.commands.{name}")
    return module


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Reproduce event-loop bugs: one async test function, every release and Python.",
        epilog="Exit codes: 0 all as expected, 1 something unexpected found, 2 could not run.",
    )
    parser.add_argument("--version", action="version", version=f"loop-harness {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            _load(name).add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    :param arguments: the words after ``harness``; default: those of this process
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--" in words:  # what follows is meant for pytest; a command that starts none refuses it
        split = words.index("--")
        words[split:] = [f"--pytest={word}" for word in words[split + 1 :]]
    chosen = next((word for word in words if word in COMMANDS), None)
    args = _parser(chosen).parse_args(words)
    try:
        return _load(args.command).run(args)
    except HarnessError as error:
        print(f"harness {args.command}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"harness {args.command}: interrupted; what is done is kept", file=sys.stderr)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; a second error at exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return EXIT_CANNOT_RUN
