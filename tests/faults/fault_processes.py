"""Processes for the fault suite; workers import them by the name of this module."""

from __future__ import annotations

import asyncio

import plumpy
from plumpy import ToContext
from plumpy.worker import record_async, submit


class Steps(plumpy.Process):
    """Does steps, each of which it records, and finishes with their number."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("steps", valid_type=int, default=4)
        spec.input("pause", default=0.2)
        spec.output("steps", valid_type=int)

    def run(self):
        return plumpy.Continue(self.step_on, 1)

    async def step_on(self, number):
        await record_async(f"step {number}", number)
        await asyncio.sleep(self.inputs.pause)
        if number < self.inputs.steps:
            return plumpy.Continue(self.step_on, number + 1)
        self.out("steps", number)
        return None


class Waits(plumpy.Process):
    """Waits until it is killed."""

    def run(self):
        return plumpy.Wait(self.go_on, "waiting")

    def go_on(self, *_):
        """Finish."""


class Parent(plumpy.WorkChain):
    """Waits for two children that any worker runs."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.start, cls.end)
        spec.output("steps", valid_type=int)

    def start(self):
        return ToContext(first=submit(Steps, {"steps": 3}), second=submit(Steps, {"steps": 3}))

    async def end(self):
        await record_async("end", 1)
        self.out("steps", self.ctx.first["steps"] + self.ctx.second["steps"])
