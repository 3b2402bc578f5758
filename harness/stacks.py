"""Where a process that hangs or crashes was: written down in the child, read in the parent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import traceback
from pathlib import Path

from harness.matrix.resident.awaits import awaited_frames

#: Last line of a complete dump.
END = "-- end of stacks --\n"
_FRAME = re.compile(r'^  File "(.*)", line (\d+),? in (.*)$', re.MULTILINE)
_HARNESS = f"{Path(__file__).parent}{os.sep}"


def write_tasks(fd: int) -> None:
    """Write the stack of every task of every loop; runs in the hanging process."""
    lines = []
    loops = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.AbstractEventLoop)]
    for loop in loops:
        with contextlib.suppress(Exception):
            for task in asyncio.all_tasks(loop):
                lines.append(f"\nTask {task.get_name()} of {loop!r}:\n")
                if getattr(task.get_coro(), "cr_running", False):
                    lines.append("  (it is the one that runs: see its thread)\n")
                    continue
                for frame in awaited_frames(task):
                    lines += traceback.format_stack(frame, limit=1)
    os.write(fd, ("".join(lines) + "\n" + END).encode(errors="replace"))


def without_runner(stacks: str) -> str:
    """Leave out the frames below the scenario: they are the harness's and the test runner's."""
    kept = []
    below = False
    for line in stacks.splitlines():
        if not line.startswith("  "):
            below = False
        below = below or f'"{_HARNESS}' in line
        if not below:
            kept.append(line)
    return "".join(f"{line}\n" for line in kept).lstrip()


def where_it_waits(stacks: str) -> str:
    """Find the innermost frame that is not the standard library's: of the thread that got the
    signal, else of a task, else of another thread.
    """
    threads, _, tasks = stacks.partition("\nTask ")
    others, _, current = threads.partition("Current thread ")
    frames = _own_frames(current)[:1] or _own_frames(tasks)[-1:] or _own_frames(others)
    return frames[0] if frames else ""


def _own_frames(text: str) -> list[str]:
    library = f"{Path(os.__file__).parent}{os.sep}"
    frames = []
    for path, number, function in _FRAME.findall(text):
        if not path.startswith(library):
            frames.append(f"{Path(path).name}:{number} in {function}")
    return frames
