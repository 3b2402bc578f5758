"""What the scenarios about plumpy share: a process that waits, and which releases they are for."""

import asyncio
import unittest
from typing import Any, Tuple

import plumpy


def check_asyncio() -> None:
    """Skip releases before 0.16, whose processes run on tornado."""
    if not asyncio.iscoroutinefunction(plumpy.Process.step_until_terminated):
        raise unittest.SkipTest("this release of plumpy runs on tornado")


class Waits(plumpy.Process):
    """Waits until it is resumed; what it is resumed with is its result."""

    def run(self) -> Any:
        return plumpy.Wait(self.go_on)

    def go_on(self, *args: Any) -> Any:
        return args


async def waiting() -> Tuple[Any, Any]:
    """Return a process that waits, and the task that steps it."""
    process = Waits()
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state is not plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    return process, task


async def ended(task: Any) -> None:
    """Wait for the end of a task, a second at most."""
    done, _ = await asyncio.wait([task], timeout=1)
    assert done, "the task that steps the process waits for ever"
