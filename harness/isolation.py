"""One scenario in one pristine process, and what its run means.

``nest_asyncio.apply()`` cannot be undone and a hung loop cannot be interrupted from inside, so a
scenario runs in a forked child that is thrown away.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from harness.child import Channel, ChildRun, captured, run_in_child
from harness.outcome import Observation, Outcome
from harness.scenario import AsyncTest, Scenario


def drive(
    record: Scenario,
    arguments: Mapping[str, Any],
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Run a scenario the way its exported script does: on a new loop that is the current one.

    pytest's warning filters are put aside, so that function and script agree. The loop is left
    open, because the process ends with the run.

    :param arguments: what the body is called with
    :param loop: the loop to run on, where an argument is bound to it; default: a new one, made
        after ``prepare``
    """
    with warnings.catch_warnings():
        warnings.resetwarnings()
        if record.prepare is not None:
            record.prepare()
        loop = loop or asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(record.function(**arguments))


def classify(error: BaseException | None, function: AsyncTest) -> Outcome:
    """Say what an exception out of a scenario body means; None is a body that came to its end.

    A name that does not exist, raised by the body itself, is a mistake in the scenario and no bug
    of the library; so is a library under test that cannot be imported. One whose files this Python
    cannot read is not for this Python.
    """
    if error is None:
        return Outcome.HEALTHY
    if type(error).__name__ in ("SkipTest", "Skipped"):
        return Outcome.NOT_APPLICABLE
    if isinstance(error, SyntaxError) and os.path.isfile(error.filename or ""):
        return Outcome.NOT_APPLICABLE
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    own = innermost is not None and (
        innermost.tb_frame.f_code.co_filename == function.__code__.co_filename
    )
    if isinstance(error, ImportError) or (own and isinstance(error, (NameError, SyntaxError))):
        return Outcome.BROKEN
    return Outcome.BUG


def left_threads(known: Collection[threading.Thread]) -> str:
    """Name the threads that a body left running, for a message; empty if there are none.

    :param known: the threads that ran before the body; the idle workers of an executor do not count
    """
    idle = getattr(concurrent.futures.thread, "_threads_queues", ())
    left = [one.name for one in threading.enumerate() if one not in known and one not in idle]
    return f"left thread {', '.join(left)} running" if left else ""


def observe(
    record: Scenario,
    arguments: Mapping[str, Any] | None = None,
    *,
    planted: bool = False,
) -> Observation:
    """Run one scenario in a pristine process and say what it showed.

    :param arguments: what the body is called with
    :param planted: plant the record's defect first, to show that the scenario is able to fail
    :raises HarnessError: where processes cannot be forked
    """

    def body(channel: Channel) -> None:
        error: BaseException | None = None
        detail = ""
        known = threading.enumerate()
        # A test runner may have put its own streams in front of the descriptors we capture.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        try:
            if planted and record.planted is not None:
                record.planted()
            drive(record, arguments or {})
        except BaseException as caught:
            error = caught
            detail = traceback.format_exc()
        message = left_threads(known) if error is None else summary_of(error)
        outcome = classify(error, record.function)
        channel.send({"outcome": outcome.value, "message": message, "detail": detail})

    with captured() as kept:
        run = run_in_child(body, limit=record.limit)
        output = kept()
    seen = run.failure(record.limit) or Observation.from_json(run.messages[0])
    return finish(seen, run, output)


def finish(seen: Observation, run: ChildRun, output: str) -> Observation:
    """Complete an observation with what only the parent knows."""
    message = seen.message
    if run.leftovers:
        left = f"left process {', '.join(run.leftovers)} behind; killed"
        message = f"{message}; {left}" if message else left
    return Observation(seen.outcome, message, seen.detail, output, round(run.seconds, 3))


def summary_of(error: BaseException) -> str:
    """Return the exception as one line, ``Type: first line of the message``."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
