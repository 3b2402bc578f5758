"""What a run showed, judged by its evidence, in a text that can be shown on another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.outcome import (
    EXIT_BUG,
    EXIT_CANNOT_RUN,
    EXIT_HEALTHY,
    Observation,
    Outcome,
    signal_name,
)

#: The program that is started in each interpreter; its frames are no part of the evidence.
RESIDENT = Path(__file__).with_name("resident")
_END_OF_STACKS = "-- end of stacks --\n"
_FRAME = re.compile(r'^  File "(.*)", line (\d+),? in (.*)$', re.MULTILINE)


def observe(event: Mapping[str, Any], clean: Callable[[str], str] = str) -> Observation:
    """Judge a run by its evidence.

    :param event: what a resident saw
    :param clean: makes a text fit to be shown on another machine
    """
    if "unparsable" in event:
        return Observation(Outcome.BROKEN, f"this Python cannot read it: {event['unparsable']}")
    if "failed" in event:
        return Observation(Outcome.BROKEN, str(event["failed"]))
    seconds = round(float(event["seconds"]), 3)
    printed = clean(event["stdout"])
    evidence = clean(event["stderr"]).replace(_END_OF_STACKS, "")
    last = next((line for line in reversed(evidence.splitlines()) if line.strip()), "")
    kind, _, said = last.partition(": ")

    def seen(outcome: Outcome, message: str) -> Observation:
        return Observation(outcome, message, evidence, printed, seconds)

    if "runaway" in event:
        size = event["runaway"] // (1024 * 1024)
        return seen(Outcome.BROKEN, f"printed more than {size} MiB and was ended; print less")
    if "hang" in event:
        return seen(Outcome.HANG, _with_place(event["hang"], evidence))
    if "signal" in event:
        return seen(Outcome.CRASH, f"killed by {signal_name(event['signal'])}")
    status = event["status"]
    if status == EXIT_HEALTHY and last == "healthy":
        return Observation(Outcome.HEALTHY, "", "", printed, seconds)
    if status == EXIT_BUG and kind == "bug":
        return seen(Outcome.BUG, said)
    if status == EXIT_BUG and kind == "hang":
        return seen(Outcome.HANG, _with_place(said, evidence))
    # What a library prints while the interpreter ends comes behind it.
    refused = [line for line in evidence.splitlines() if line.startswith("cannot run: ")]
    if status == EXIT_CANNOT_RUN and refused:
        return seen(Outcome.NOT_APPLICABLE, refused[-1].partition(": ")[2])
    if status == EXIT_BUG and "Traceback (most recent call last)" in evidence:
        return seen(Outcome.BROKEN, f"the script failed outside the scenario: {last}")
    return seen(Outcome.CRASH, f"the process ended itself with status {status} before the end")


def is_told_by_the_clock(observation: Observation) -> bool:
    """Whether only its limit says that a run hangs: a machine may stand still for as long."""
    told = observation.message.startswith(("deadlock: ", "spin: "))
    return observation.outcome is Outcome.HANG and not told


def without_resident(text: str) -> str:
    """Leave out the frames below the script, which are this harness's."""
    kept = []
    skipping = False
    for line in text.splitlines(keepends=True):
        if line.startswith("  File "):
            skipping = f'"{RESIDENT}{os.sep}' in line or 'File "<string>"' in line
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return "".join(kept)


def _with_place(reason: str, evidence: str) -> str:
    """Add where a hang waits: the innermost own frame of a task, else of a thread."""
    threads, found, tasks = evidence.partition("\nTask ")
    own = [
        f"{os.path.basename(path)}:{line} in {function}"
        for text, order in ((tasks if found else "", -1), (threads, 1))
        for path, line, function in _FRAME.findall(text)[::order]
        if not path.startswith(("lib/", "/usr/lib/python", "<")) and function != "_hang"
    ]
    return f"{reason}; waits at {own[0]}" if own else reason
