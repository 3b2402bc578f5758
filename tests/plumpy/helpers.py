"""What several tests of the runtime share."""

from __future__ import annotations

import asyncio
from typing import Any

import plumpy
from plumpy.base.state_machine import StateEventHook

#: Seconds after which something that should have happened is taken to hang.
HANG = 10


async def entered(process: plumpy.Process, label: plumpy.ProcessState) -> None:
    """Wait until the process has entered a state, and is executing it if it is being stepped."""
    reached = asyncio.get_running_loop().create_future()

    def notice(machine: Any, hook: Any, state: Any) -> None:
        if machine.state is label and not reached.done():
            reached.set_result(None)

    if process.state is not label:
        process.add_state_event_callback(StateEventHook.ENTERED_STATE, notice)
        await asyncio.wait_for(reached, HANG)
        process.remove_state_event_callback(StateEventHook.ENTERED_STATE, notice)
    await asyncio.sleep(0)


async def ended(task: asyncio.Task[Any]) -> Any:
    """Wait for the task that steps a process, and fail if it hangs."""
    return await asyncio.wait_for(task, HANG)


def stepping(process: plumpy.Process) -> asyncio.Task[None]:
    """Step the process in a task of its own."""
    return asyncio.get_running_loop().create_task(process.step_until_terminated())


class Waits(plumpy.Process):
    """Waits once, and finishes with what it was resumed with."""

    async def run(self) -> Any:
        return plumpy.Wait(self.resumed, "the resume")

    def resumed(self, *args: Any) -> Any:
        return args


class Runs(plumpy.Process):
    """Runs until ``go`` is set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.go = asyncio.Event()
        self.left_by: BaseException | None = None

    async def run(self) -> str:
        try:
            await self.go.wait()
        except BaseException as exc:
            self.left_by = exc
            raise
        return "ran"
