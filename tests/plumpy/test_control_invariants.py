"""What holds of a process whatever is asked of it, in whatever order, from wherever.

The machine steps a process whose own steps it decides, and asks for kills, pauses and the rest:
several in one turn of the loop or in turns of their own, on the loop, beside it while it stands
still, or in another thread while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import plumpy
from plumpy import ProcessState
from plumpy.base.state_machine import EventError, StateEventHook

EXAMPLES, STEPS = 1150, 50

TERMINAL = {ProcessState.FINISHED, ProcessState.EXCEPTED, ProcessState.KILLED}

LEGAL = {
    (state.LABEL, label)
    for state in plumpy.Process.get_state_classes().values()
    for label in state.ALLOWED
}

#: What a step of the process can come to.
STEPS_TO_TAKE = ("continue", "wait", "finish", "fail", "swallow", "kill", "pause", "raise pause")

REQUESTS = (
    "kill",
    "force kill",
    "pause",
    "play",
    "resume",
    "fail",
    "cancel future",
    "callback raises",
    "callback works",
    "cancel last action",
)


class Scripted(plumpy.Process):
    """Does in every step what it is told; until it is told, the step waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: asyncio.Future[str] | None = None
        self.pauses = 0

    def on_paused(self, msg: str | None = None) -> None:
        super().on_paused(msg)
        self.pauses += 1

    async def run(self) -> Any:
        return await self.take_step()

    async def take_step(self, *_: Any) -> Any:
        self.told = self.loop.create_future()
        try:
            what = await self.told
        finally:
            self.told = None
        if what == "continue":
            return plumpy.Continue(self.take_step)
        if what == "wait":
            return plumpy.Wait(self.take_step)
        if what == "fail":
            raise ValueError("a step failed")
        if what == "kill":
            self.kill("by itself")
            return plumpy.Continue(self.take_step)
        if what == "pause":
            self.pause("by itself")
            return plumpy.Continue(self.take_step)
        if what == "raise pause":
            raise plumpy.PauseInterruption("raised")
        if what == "swallow":
            try:
                await self.loop.create_future()
            except asyncio.CancelledError:
                return plumpy.Continue(self.take_step)
        return "finished"


def plain_wait(self: Scripted) -> Any:
    """A first step without ``async``."""
    return plumpy.Wait(self.take_step)


class ScriptedPlain(Scripted):
    run = plain_wait  # type: ignore[assignment]


class Control(RuleBasedStateMachine):
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.complaints: list[Any] = []
        self.transitions: list[tuple[Any, Any]] = []
        #: (request, answer); an action is replaced by its result when it has one
        self.answers: list[tuple[str, Any]] = []
        self.task: asyncio.Task[None] | None = None
        self.cancelled_tasks = 0
        #: Whether an action may be cancelled: play withdraws a pause, and callers their requests.
        self.withdrawn = False
        self.last: Any = ProcessState.CREATED

    @initialize(cls=st.sampled_from([Scripted, ScriptedPlain]), paused=st.booleans())
    def create(self, cls: type[Scripted], paused: bool) -> None:
        self.process = cls(loop=self.loop)
        self.process.add_state_event_callback(StateEventHook.ENTERED_STATE, self.on_entered)
        if paused:
            assert self.process.pause() is True

    # A rule that does not apply does nothing: which rules there are must not depend on the threads.

    @rule(cls=st.sampled_from([Scripted, ScriptedPlain]), paused=st.booleans())
    def create_another(self, cls: type[Scripted], paused: bool) -> None:
        if self.process.state not in TERMINAL:
            return
        Control.steps += 1
        self.cancelled_tasks = 0
        self.withdrawn = False
        self.last = ProcessState.CREATED
        self.create(cls, paused)

    def on_entered(self, machine: Any, hook: Any, state: Any) -> None:
        self.transitions.append((state.LABEL, machine.state))

    # --- what happens to the process

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, 10))

    def turns(self, number: int) -> None:
        async def turn() -> None:
            for _ in range(number):
                await asyncio.sleep(0)

        self.run(turn())

    @rule()
    def step(self) -> None:
        if self.task is not None and not self.task.done():
            return
        Control.steps += 1
        self.settle_task()
        self.task = self.loop.create_task(self.process.step_until_terminated())
        self.turns(1)

    @rule(turns=st.integers(0, 2))
    def cancel_stepping(self, turns: int) -> None:
        if self.task is None or self.task.done():
            return
        Control.steps += 1
        self.task.cancel()
        self.cancelled_tasks += 1
        if turns:
            self.turns(turns)

    @rule(number=st.integers(1, 4))
    def pass_turns(self, number: int) -> None:
        Control.steps += 1
        self.turns(number)

    @rule(what=st.sampled_from(STEPS_TO_TAKE), turns=st.integers(0, 3))
    def tell(self, what: str, turns: int) -> None:
        told = self.process.told
        if told is None or told.done():
            return
        Control.steps += 1
        told.set_result(what)
        if turns:
            self.turns(turns)

    @rule(
        requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4),
        where=st.sampled_from(["loop", "beside", "thread"]),
    )
    def ask(self, requests: list[str], where: str) -> None:
        Control.steps += 1

        def ask_all() -> None:
            for request in requests:
                self.ask_one(request)

        async def on_loop() -> None:
            ask_all()

        async def in_thread() -> None:
            failure: list[BaseException] = []
            done = asyncio.Event()

            def work() -> None:
                try:
                    ask_all()
                except BaseException as exc:
                    failure.append(exc)
                self.loop.call_soon_threadsafe(done.set)

            thread = threading.Thread(target=work)
            thread.start()
            await done.wait()
            thread.join()
            assert not failure, failure

        if where == "beside":
            ask_all()
        else:
            self.run(on_loop() if where == "loop" else in_thread())

    def ask_one(self, request: str) -> None:
        process = self.process
        answer: Any = None
        if request == "kill":
            answer = process.kill("a kill")
        elif request == "force kill":
            answer = process.kill("now", force_kill=True)
        elif request == "pause":
            answer = process.pause("a pause")
        elif request == "play":
            self.withdrawn = True
            answer = process.play()
        elif request == "resume":
            with contextlib.suppress(EventError):
                process.resume("value")
            return
        elif request == "fail":
            process.fail(ValueError("failed from outside"), None)
            return
        elif request == "cancel future":
            self.loop.call_soon_threadsafe(process.future().cancel)
            return
        elif request == "callback raises":
            process.call_soon(raise_error)
            return
        elif request == "callback works":
            process.call_soon(lambda: None)
            return
        else:
            for _, earlier in reversed(self.answers):
                if asyncio.isfuture(earlier):
                    self.withdrawn = True
                    self.loop.call_soon_threadsafe(earlier.cancel)
                    break
            return
        assert isinstance(answer, bool) or asyncio.isfuture(answer), (request, answer)
        self.answers.append((request, answer))

    # --- what holds nevertheless

    @invariant()
    def every_transition_is_legal(self) -> None:
        for transition in self.transitions:
            assert transition in LEGAL, transition
        ends = [to for _, to in self.transitions if to in TERMINAL]
        assert len(ends) <= 1, ends
        self.transitions.clear()
        if self.last in TERMINAL:
            assert self.process.state is self.last
        self.last = self.process.state

    @invariant()
    def every_answer_is_true(self) -> None:
        rest: list[tuple[str, Any]] = []
        for request, answer in self.answers:
            outcome = answer
            if asyncio.isfuture(answer):
                if not answer.done():
                    rest.append((request, answer))
                    continue
                if answer.cancelled():
                    assert self.withdrawn, request
                    continue
                outcome = answer.result()
            assert isinstance(outcome, bool), (request, outcome)
            if "kill" in request:
                assert outcome is self.process.killed(), (request, outcome, self.process.state)
            elif request == "pause":
                assert not outcome or self.process.pauses, request
            elif request == "play":
                assert outcome is True
        self.answers = rest

    @invariant()
    def nothing_is_left_when_it_has_ended(self) -> None:
        if self.process.state not in TERMINAL:
            return
        process = self.process
        self.turns(10)
        assert not process.paused
        assert not process.is_killing
        assert process._interrupt_action is None
        assert not process._stepping
        self.every_answer_is_true()
        assert self.answers == []
        if self.task is not None:
            assert self.task.done(), "the task that steps the process hangs"
            self.settle_task()
        future = process.future()
        assert future.done()
        if process.state is ProcessState.FINISHED:
            assert future.cancelled() or future.result() == {}
        elif process.state is ProcessState.EXCEPTED:
            assert future.exception() is process.exception()
        elif not future.cancelled():
            assert isinstance(future.exception(), plumpy.KilledError)

    @invariant()
    def loop_has_nothing_to_complain_of(self) -> None:
        assert self.complaints == []

    def settle_task(self) -> None:
        task, self.task = self.task, None
        if task is not None and task.done():
            if task.cancelled():
                assert self.cancelled_tasks, "cancelled, and nobody did"
            else:
                assert task.exception() is None

    def teardown(self) -> None:
        process = getattr(self, "process", None)
        if process is None:
            self.loop.close()
            return
        if process.state not in TERMINAL:
            assert process.kill(force_kill=True) is True
        self.nothing_is_left_when_it_has_ended()
        self.loop_has_nothing_to_complain_of()
        self.turns(5)
        assert len(asyncio.all_tasks(self.loop)) == 0
        self.loop.close()
        reference = weakref.ref(process)
        self.__dict__.clear()
        del process
        if Control.steps % 20 == 0:
            gc.collect()
            assert reference() is None


def raise_error() -> None:
    raise ValueError("a callback raised")


def test_control_invariants(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 20,000 steps."""
    # Each late failure of the many is logged.
    monkeypatch.setattr(logging.getLogger("plumpy.processes"), "disabled", True)
    Control.steps = 0
    case = Control.TestCase()
    case.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case.runTest()
    assert Control.steps >= 20_000
