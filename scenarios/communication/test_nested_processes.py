"""plumpy's processes inside processes."""

import asyncio
import contextvars
import unittest
from typing import Any

import plumpy
from harness.scenario import scenario
from scenarios._processes import check_asyncio


@scenario(
    id="P05s",
    title="Nested processes on the same loop: the current process is right, inside and after",
    source="https://github.com/aiidateam/plumpy/pull/150",
    present=("plumpy>=0.17,<0.26",),
    planted=lambda: setattr(plumpy.Process, "current", classmethod(lambda cls: None)),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_nested_process_on_the_same_loop_is_the_current_one() -> None:
    """Symptom: before 0.26 "This event loop is already running", unless nest_asyncio was applied.

    Cause: execute() ran the loop. The stack of processes is a context variable; a nested run must
    bring it in, and leave it as it was.
    Fix: plumpy 0.26 switches out through a greenlet.
    """
    right = []

    class Child(plumpy.Process):
        def run(self) -> None:
            right.append(plumpy.Process.current() is self)

    class Parent(plumpy.Process):
        def run(self) -> Any:
            Child(loop=self.loop).execute()
            right.append(plumpy.Process.current() is self)
            return right

    process = Parent()
    await process.step_until_terminated()
    assert process.result() == [True, True]


@scenario(
    id="P05n",
    title="Nested processes on a new loop: the current process is right, inside and after",
    source="https://github.com/aiidateam/plumpy/pull/150",
    present=("plumpy>=0.17,<=0.26.1",),
    shown_in=("0.26.1",),
    planted=lambda: setattr(plumpy.Process, "current", classmethod(lambda cls: None)),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_nested_process_on_a_new_loop_is_the_current_one() -> None:
    """Symptom: with asyncio, nest_asyncio and the back-port for Python 3.6 "the PROCESS_STACK is
    reset"; it must not be.

    Cause: the stack must travel with the call, not with the loop; 0.26.1 cannot run a second loop
    inside a running one at all.
    Fix: execute() steps the other loop from a greenlet. Workaround: nest on the same loop.
    """
    right = []

    class Child(plumpy.Process):
        def run(self) -> None:
            right.append(plumpy.Process.current() is self)

    class Parent(plumpy.Process):
        def run(self) -> Any:
            Child(loop=asyncio.new_event_loop()).execute()
            right.append(plumpy.Process.current() is self)
            return right

    process = Parent()
    await process.step_until_terminated()
    assert process.result() == [True, True]


@scenario(
    id="P03",
    title="Entering and leaving a process's own loop leaves the current loop as it is",
    source="https://github.com/erdewit/nest_asyncio/pull/25",
    library="plumpy",
    planted=lambda: setattr(plumpy.Process, "execute", set_its_loop_and_execute),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_current_loop_is_the_same_after_a_process_on_its_own_loop() -> None:
    """Symptom: with nest_asyncio "after entering and leaving the process loop, the current event
    loop is changed to the process one"; it must not be.

    Cause: execute() runs the process's loop and sets nothing.
    """

    def program() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        plumpy.Process(loop=asyncio.new_event_loop()).execute()
        assert asyncio.get_event_loop() is loop

    await asyncio.get_event_loop().run_in_executor(None, program)


def set_its_loop_and_execute(process: Any) -> None:
    """Do what must not be done."""
    asyncio.set_event_loop(process.loop)


@scenario(
    id="P64",
    title="A nested process sees the caller's context variables, and the caller sees its",
    source="https://peps.python.org/pep-0567/",
    present=("plumpy>=0.16,<0.17",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_context_variables_go_into_a_nested_process_and_come_back() -> None:
    """Symptom: what a nested process set in a context variable is lost when execute() returns.

    Cause: 0.16 applies nest_asyncio and steps the nested process in a task, which changes its own
    copy of the context. 0.17 to 0.25 cannot nest at all.
    Fix: plumpy 0.26: execute() switches out, and stays in the caller's context.
    """
    who, seen = contextvars.ContextVar("who"), []

    class Child(plumpy.Process):
        def run(self) -> None:
            seen.append(who.get())
            who.set("child")

    class Parent(plumpy.Process):
        def run(self) -> None:
            who.set("parent")
            Child(loop=self.loop).execute()
            seen.append(who.get())

    process = Parent()
    await process.step_until_terminated()
    if "already running" in str(process.exception()):
        raise unittest.SkipTest("this release cannot nest: %s" % process.exception())
    assert seen == ["parent", "child"]


@scenario(
    id="E16",
    title="execute() inside execute() inside ...: RecursionError from depth 69 on",
    source="https://github.com/aiidateam/aiida-core/issues/4876",
    present=("plumpy>=0.16,<0.17", "plumpy>=0.26,<=0.26.1"),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_execute_nests_a_hundred_deep() -> None:
    """Symptom: "maximum recursion depth exceeded" with deeply nested processes.

    Cause: every nested run stands on the stack of the one that called it. 0.17 to 0.25 cannot
    nest at all.
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
    if "already running" in str(process.exception()):
        raise unittest.SkipTest("this release cannot nest: %s" % process.exception())
    assert process.exception() is None, repr(process.exception())
