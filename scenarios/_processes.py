"""What the scenarios about plumpy share: a process that waits, and which releases they are for."""

import asyncio
import unittest

import plumpy


def check_asyncio():
    """Skip releases before 0.16, whose processes run on tornado."""
    if not asyncio.iscoroutinefunction(plumpy.Process.step_until_terminated):
        raise unittest.SkipTest("this release of plumpy runs on tornado")


async def waiting_process_and_its_task():
    class Waits(plumpy.Process):
        def run(self):
            return plumpy.Wait(lambda *args: args)  # what it is resumed with is its result

    if not asyncio.iscoroutinefunction(Waits.step_until_terminated):
        raise unittest.SkipTest("this release of plumpy runs on tornado")
    process = Waits()
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state is not plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    return process, task
