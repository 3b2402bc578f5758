"""plumpy's processes inside processes."""

import asyncio
from typing import Any

import plumpy
from harness.scenario import scenario


def stack_test(new_loop: bool) -> Any:
    """Return a process that executes another one inside; both note whether they are current."""
    right = []

    class Child(plumpy.Process):
        def run(self) -> None:
            right.append(plumpy.Process.current() is self)

    class Parent(plumpy.Process):
        def run(self) -> Any:
            loop = asyncio.new_event_loop() if new_loop else self.loop
            Child(loop=loop).execute()
            right.append(plumpy.Process.current() is self)
            return right

    return Parent()


@scenario(
    id="P05s",
    title="Nested processes on the same loop: the current process is right, inside and after",
    source="https://github.com/aiidateam/plumpy/pull/150",
    present=("plumpy>=0.18.6,<0.26",),
    planted=lambda: setattr(plumpy.Process, "current", classmethod(lambda cls: None)),
)
async def test_nested_process_on_the_same_loop_is_the_current_one() -> None:
    """Symptom: before 0.26 "This event loop is already running", unless nest_asyncio was applied.

    Cause: execute() ran the loop. The stack of processes is a context variable; a nested run must
    bring it in, and leave it as it was.
    Fix: plumpy 0.26 switches out through a greenlet.
    """
    process = stack_test(new_loop=False)
    await process.step_until_terminated()
    assert process.result() == [True, True]


@scenario(
    id="P05n",
    title="Nested processes on a new loop: the current process is right, inside and after",
    source="https://github.com/aiidateam/plumpy/pull/150",
    present=("plumpy>=0.18.6,<=0.26.1",),
    shown_in=("0.26.1",),
    planted=lambda: setattr(plumpy.Process, "current", classmethod(lambda cls: None)),
)
async def test_nested_process_on_a_new_loop_is_the_current_one() -> None:
    """Symptom: with asyncio, nest_asyncio and the back-port for Python 3.6 "the PROCESS_STACK is
    reset" (C01); it must not be.

    Cause: the stack must travel with the call, not with the loop.
    """
    process = stack_test(new_loop=True)
    await process.step_until_terminated()
    assert process.result() == [True, True]


@scenario(
    id="E16",
    title="execute() inside execute() inside ...: RecursionError from depth 69 on",
    source="https://github.com/aiidateam/aiida-core/issues/4876",
    present=("plumpy>=0.18.6,<=0.26.1",),
    shown_in=("0.26.1",),
)
async def test_execute_nests_a_hundred_deep() -> None:
    """Symptom: "maximum recursion depth exceeded" with deeply nested processes.

    Cause: every nested run stands on the stack of the one that called it.
    Fix: execute() switches out through a greenlet, whose stack is its own.
    """

    class Nested(plumpy.Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.input("levels")

        def run(self) -> None:
            if self.inputs.levels:
                Nested({"levels": self.inputs.levels - 1}).execute()

    process = Nested({"levels": 100})
    await process.step_until_terminated()
    assert process.exception() is None
