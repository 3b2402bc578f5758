"""``harness COMMAND``: the way in for a person and for a script.

Exit codes: 0 all as expected, 1 something unexpected found, 2 could not run; 128 and the number of
the signal if it was interrupted: 130 for Ctrl-C, 143 for SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Protocol

from harness import __version__
from harness.errors import HarnessError

EXIT_CANNOT_RUN, EXIT_SIGNAL = 2, 128
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
        epilog="Exit codes: 0 all as expected, 1 something unexpected found, 2 could not run, "
        "130 interrupted (143 by SIGTERM).",
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
    told: list[int] = []
    try:
        with _ended_like_interrupted(told):
            return _load(args.command).run(args)
    except HarnessError as error:
        print(f"harness {args.command}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"harness {args.command}: interrupted; what is done is kept", file=sys.stderr)
        return EXIT_SIGNAL + (told[0] if told else signal.SIGINT)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; a second error at exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return EXIT_CANNOT_RUN


@contextlib.contextmanager
def _ended_like_interrupted(told: list[int]) -> Iterator[None]:
    """Leave as after Ctrl-C when somebody ends this process: nothing lost, nothing left.

    :param told: takes the number of the signal
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {
        number: signal.signal(number, interrupt)
        for number in signals
        if signal.getsignal(number) is signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
