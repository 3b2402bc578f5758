"""harness.entry: Ctrl-C ends a command quietly, also while what it runs is still imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "module"),
    [("harness", "harness.cli"), ("harness", "harness.commands.doctor"), ("plumpy", "plumpy.cli")],
)
def test_an_interrupt_in_an_import_is_no_traceback(command: str, module: str) -> None:
    start = f"""
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
sys.argv = [{command!r}, "doctor"]
from harness.entry import {command}
sys.exit({command}())
"""
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_way_to_the_entry_imports_nothing_that_takes_long() -> None:
    """What is imported before it is imported without protection."""
    code = "import sys; before = set(sys.modules); import harness.entry\n"
    code += "print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "['harness', 'harness.entry']\n"


@pytest.mark.parametrize("command", ["harness", "plumpy"])
def test_the_installed_commands_begin_at_the_entry(command: str) -> None:
    scripts = (PROJECT / "pyproject.toml").read_text()
    assert f'\n{command} = "harness.entry:{command}"\n' in scripts
