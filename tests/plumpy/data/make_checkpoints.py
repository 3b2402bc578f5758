"""Write the checkpoints in this directory. Run it with plumpy 0.26.1, in this directory:

    python make_checkpoints.py

For each process there is a bundle as YAML and as the file of a PicklePersister.
"""

import asyncio
import os
import re
import traceback

import checkpoint_processes as cp
import yaml

import plumpy

HERE = os.path.dirname(os.path.abspath(__file__))


format_tb = traceback.format_tb


def without_directories(tb, limit=None):
    return [re.sub(r'File ".*/', 'File "', line) for line in format_tb(tb, limit)]


traceback.format_tb = without_directories


async def main():
    persister = plumpy.PicklePersister(os.path.join(HERE, "pickles"))

    def keep(process, tag=None):
        persister.save_checkpoint(process, tag)
        name = f"{process.pid}" if tag is None else f"{process.pid}.{tag}"
        with open(os.path.join(HERE, f"{name}.yaml"), "w") as handle:
            yaml.dump(plumpy.Bundle(process), handle)

    created = cp.Waiter(inputs={"number": 3, "nested": {"text": "t"}}, pid=101)
    keep(created, "created")

    waiting = cp.Waiter(inputs={"number": 4}, pid=102)
    task = asyncio.ensure_future(waiting.step_until_terminated())
    while waiting.state != plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    waiting.set_status("busy")
    keep(waiting)
    waiting.resume(9)
    await task
    keep(waiting, "finished")

    paused = cp.Waiter(pid=103)
    paused.pause("for lunch")
    keep(paused)

    failing = cp.Failing(pid=104)
    await failing.step_until_terminated()
    failing.future().exception()
    keep(failing)

    killed = cp.Waiter(pid=105)
    killed.kill("enough")
    keep(killed)

    chain = cp.Counting(inputs={"limit": 4}, pid=106)
    keep(chain, "created")
    steps = 0
    while not chain.has_terminated():
        await chain.step()
        steps += 1
        if steps == 6:
            keep(chain, "middle")
    keep(chain, "finished")


asyncio.run(main())
