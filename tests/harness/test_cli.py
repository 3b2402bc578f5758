"""harness.cli: one way in, three exit codes, no traceback."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import types

import pytest

from harness import cli
from harness.errors import HarnessError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Put a command of our own in the place of ``doctor``."""
    module = types.SimpleNamespace(
        add_arguments=lambda parser: parser.add_argument("--number", type=int, default=0),
        run=lambda args: args.number,
    )
    monkeypatch.setattr(cli, "_load", lambda name: module)
    return module


def test_the_exit_code_is_the_commands_own(command: types.SimpleNamespace) -> None:
    assert cli.main(["doctor", "--number", "1"]) == 1


def test_an_error_for_people_is_one_line_and_exit_2(
    command: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise HarnessError("no such thing 'x'; give y")

    command.run = run
    assert cli.main(["doctor"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "harness doctor: no such thing 'x'; give y\n")


def test_an_interrupt_is_said_and_exits_130(
    command: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command.run = run
    assert cli.main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_the_command_lets_it_finish_what_it_holds(
    command: types.SimpleNamespace, number: int
) -> None:
    undone: list[int] = []
    before = signal.getsignal(number)

    def run(args: argparse.Namespace) -> int:
        try:
            signal.raise_signal(number)
        finally:
            undone.append(number)
        return 0

    command.run = run
    assert cli.main(["doctor"]) == 128 + number
    assert undone == [number]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("words", [[], ["nonsense"], ["doctor", "--nonsense"]])
def test_words_that_mean_nothing_exit_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: harness" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: harness {name}" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = f"{sys.executable} -m harness --help | head -c 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
