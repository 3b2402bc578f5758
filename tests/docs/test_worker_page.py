"""What the page on workers has one type into two terminals works, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plumpy" / "worker.md"
#: A program that is named just before its text.
_PROGRAM = re.compile(r"`(\w+\.py)`:\n\n(?:%[^\n]*\n)?```python\n(.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"(% not run[^\n]*\n)?```console\n(.*?)```", re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> str:
    """The beginning of what either terminal is given: the commands of this checkout."""
    for name in ("plumpy", "python"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        options = "-m plumpy.cli" if name == "plumpy" else ""
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        program.chmod(0o755)
    for name, text in _PROGRAM.findall(PAGE.read_text()):
        (tmp_path / name).write_text(text)
    return f"set -e; cd {tmp_path}; export PATH={tmp_path}/bin:$PATH\n"


def test_the_terminals_show_what_the_page_says(shell: str, amqp_url: str, tmp_path: Path) -> None:
    consoles = [text for skipped, text in _CONSOLE.findall(PAGE.read_text()) if not skipped]
    first, second = (re.findall(r"^\$ (.*)$", text, re.MULTILINE) for text in consoles)
    exports = [line for line in first if line.startswith("export")]
    (start,) = [line for line in first if line not in exports]
    exports = [re.sub("amqp://.*", amqp_url, line) for line in exports]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    worker = subprocess.Popen(
        ["sh", "-c", shell + "\n".join([*exports, f"exec {start}"])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stderr is not None
        for line in worker.stderr:
            if "takes tasks" in line:
                break
        shown = {}
        for command in second:
            done = subprocess.run(
                ["sh", "-c", shell + "\n".join([*exports, command])],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            shown[command] = done.stdout
    finally:
        worker.terminate()
        printed, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert printed == "sending a book\n"
    expected = {
        "python order.py": "{'sent': True}",
        "plumpy list": "waiting",
        "plumpy list --all": "finished",
        "plumpy status d1": "state: waiting",
        "plumpy pause d1": "done",
        "plumpy play d1": "done",
        "plumpy kill d1": "done",
    }
    for beginning, text in expected.items():
        (command,) = [c for c in second if c == beginning or c.startswith(beginning + " --m")]
        assert text in shown[command], shown
