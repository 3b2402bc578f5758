"""The weaknesses of the released plumpy 0.26.1 that the heart of the runtime must not have.

Each test is named after the id in the list of weaknesses, and was run once on 0.26.1, where it
fails; its docstring says how.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import weakref
from typing import Any

import pytest

import plumpy
from plumpy import ProcessState
from plumpy.base import StateMachine, call_with_super_check, event, super_check
from plumpy.base.state_machine import State
from plumpy.processes import PROCESS_STACK

from .helpers import HANG, Runs, Waits, ended, entered, stepping


async def test_e2_exception_in_callback_ends_a_waiting_process_and_its_stepping_task() -> None:
    """Fails on 0.26.1: the process excepts, but the task that steps it waits for ever."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)

    def breaks() -> None:
        raise ValueError("broken")

    process.call_soon(breaks)
    await ended(task)
    assert process.state is ProcessState.EXCEPTED
    assert isinstance(process.exception(), ValueError)


async def test_e2_fail_ends_a_waiting_process_and_its_stepping_task() -> None:
    """Fails on 0.26.1: the task that steps the process waits for ever."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    process.fail(ValueError("broken"), None)
    await ended(task)
    assert process.state is ProcessState.EXCEPTED


async def test_e3_forced_kill_of_a_waiting_process_ends_its_stepping_task() -> None:
    """Fails on 0.26.1: the task that steps the process waits for ever."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    assert process.kill("now", force_kill=True) is True
    await ended(task)
    assert process.killed()


async def test_e4_forced_kill_of_a_running_process_leaves_it_killed() -> None:
    """Fails on 0.26.1: the step that runs on takes the process from KILLED to EXCEPTED."""
    process = Runs()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    assert process.kill("now", force_kill=True) is True
    process.go.set()
    await ended(task)
    assert process.state is ProcessState.KILLED
    with pytest.raises(plumpy.KilledError, match="now"):
        process.future().result()


async def test_e4_forced_kill_ends_a_step_that_would_wait_for_ever() -> None:
    """Fails on 0.26.1: the task that steps the process stays in the step."""
    process = Runs()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    process.kill(force_kill=True)
    await ended(task)
    assert isinstance(process.left_by, asyncio.CancelledError)
    assert process.killed()
    assert not task.cancelled()


async def test_e5_kill_of_a_paused_process_ends_its_stepping_task() -> None:
    """Fails on 0.26.1: the task that steps the process waits for the end of the pause for ever."""
    process = Waits()
    process.pause()
    task = stepping(process)
    await asyncio.sleep(0)
    assert process.kill("paused") is True
    await ended(task)
    assert process.killed()
    assert not process.paused


async def test_e6_play_after_pause_in_one_turn_leaves_the_process_playing() -> None:
    """Fails on 0.26.1: play answers True, and the process pauses nevertheless."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    process.pause()
    assert process.play() is True
    for _ in range(5):
        await asyncio.sleep(0)
        assert not process.paused
    process.resume("value")
    await ended(task)
    assert process.result() == ("value",)


async def test_e7_second_kill_in_one_turn_is_answered_true() -> None:
    """Fails on 0.26.1: the second call raises asyncio.InvalidStateError."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    first, second = process.kill("first"), process.kill("second")
    assert await first is True
    assert await second is True
    await ended(task)
    assert process.killed_msg()["message"] == "first"


async def test_e8_kill_after_pause_in_one_turn_kills() -> None:
    """Fails on 0.26.1: the kill raises asyncio.InvalidStateError and is lost."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    pausing = process.pause()
    killing = process.kill("after the pause")
    assert await killing is True
    await ended(task)
    assert process.killed()
    assert not process.paused
    assert pausing.result() is False


async def test_e9_kill_after_resume_in_one_turn_is_answered_true() -> None:
    """Fails on 0.26.1: the kill raises asyncio.InvalidStateError."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    process.resume()
    assert await process.kill("after the resume") is True
    await ended(task)
    assert process.killed()


async def test_e10_pause_during_the_last_step_does_not_pause_what_has_finished() -> None:
    """Fails on 0.26.1: the process is finished and paused."""
    process = Runs()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    pausing = process.pause("too late")
    process.go.set()
    await ended(task)
    assert process.state is ProcessState.FINISHED
    assert not process.paused
    assert await pausing is False


async def test_e11_process_can_be_stepped_again_after_its_task_was_cancelled() -> None:
    """Fails on 0.26.1: the cancellation reaches the future of the waiting state, which stays so."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.state is ProcessState.WAITING
    task = stepping(process)
    await asyncio.sleep(0)
    process.resume(7)
    await ended(task)
    assert process.result() == (7,)


async def test_e11_paused_process_stays_paused_when_its_task_was_cancelled() -> None:
    """Fails on 0.26.1: the cancellation ends up in the future that stands for the pause."""
    process = Waits()
    process.pause()
    task = stepping(process)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.paused
    task = stepping(process)
    await asyncio.sleep(0)
    process.play()
    await entered(process, ProcessState.WAITING)
    process.resume()
    await ended(task)


class Launches(plumpy.Process):
    """Launches a process that waits, and lets go of it."""

    def run(self) -> Any:
        return weakref.ref(self.launch(WaitsForNobody))


class WaitsForNobody(plumpy.Process):
    """Waits for a future that only its own frame refers to."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


async def test_e13_launched_process_is_kept_alive_while_it_waits() -> None:
    """Fails on 0.26.1: the task is referred to by nobody; the collector takes it."""
    parent = Launches()
    await parent.step_until_terminated()
    child = parent.result()
    await entered(child(), ProcessState.RUNNING)
    gc.collect()
    assert child() is not None
    assert child().state is ProcessState.RUNNING
    task = child()._stepping_task
    child().kill(force_kill=True)
    await ended(task)


async def test_e13_callback_is_kept_alive_while_it_waits() -> None:
    """Fails on 0.26.1: the task is referred to by nobody; the collector takes it."""
    process = plumpy.Process()
    started = asyncio.Event()
    alive: list[Any] = []

    async def callback() -> None:
        future = asyncio.get_running_loop().create_future()
        alive.append(weakref.ref(future))
        started.set()
        await future

    process.call_soon(callback)
    await started.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert alive[0]() is not None
    alive[0]().set_result(None)
    await asyncio.sleep(0)


async def test_e14_cancelling_the_future_kills() -> None:
    """Fails on 0.26.1: the process ends EXCEPTED by an InvalidStateError."""
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    process.future().cancel()
    await ended(task)
    assert process.killed()
    assert process.future().cancelled()


async def test_e15_future_of_a_cancelled_call_is_cancelled() -> None:
    """Fails on 0.26.1: the future is never done."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    future = plumpy.create_task(cancelled)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(future, HANG)
    assert future.cancelled()


class Nested(plumpy.Process):
    """Executes itself, one level fewer."""

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input("levels")

    def run(self) -> int:
        if self.inputs.levels == 0:
            return 0
        child = Nested({"levels": self.inputs.levels - 1})
        child.execute()
        return child.result() + 1


def test_e16_execute_nests_deeper_than_the_recursion_limit() -> None:
    """Fails on 0.26.1: RecursionError from 69 levels on."""
    assert sys.getrecursionlimit() == 1000
    process = Nested({"levels": 10_000})
    process.execute()
    assert process.result() == 10_000


async def test_e17_execute_in_a_running_loop_says_what_to_do() -> None:
    """Fails on 0.26.1: 'coroutine was never awaited', which is an error in this test run."""
    process = plumpy.Process()
    with pytest.raises(RuntimeError, match=r"await process\.step_until_terminated\(\)"):
        process.execute()
    gc.collect()
    assert process.state is ProcessState.CREATED
    await plumpy.run_with_portal(process.execute)
    assert process.state is ProcessState.FINISHED


def test_s4_saved_command_leads_to_methods_of_the_process_only() -> None:
    """Fails on 0.26.1: the dotted name is imported, to be called with the saved arguments."""
    process = plumpy.Process()
    state = {
        "!!meta": {"class_name": "plumpy.process_states:Running"},
        "args": (),
        "kwargs": {},
        "in_state": True,
        "run_fn": "run",
        "command": {
            "!!meta": {"class_name": "plumpy.process_states:Continue"},
            "args": ("/nowhere",),
            "kwargs": {},
            "continue_fn": "shutil.rmtree",
        },
    }
    with pytest.raises(ValueError, match=r"no method 'shutil\.rmtree'"):
        process.recreate_state(state)


async def test_s7_error_reply_has_the_text_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fails on 0.26.1: the reply has the traceback with the paths of the machine."""

    class Breaks(plumpy.Process):
        def kill(self, msg_text: str | None = None, force_kill: bool = False) -> Any:
            raise ValueError("cannot be killed")

    process = Breaks()
    answer = process.message_receive(None, plumpy.MessageBuilder.kill("x"))
    with pytest.raises(RuntimeError, match="ValueError: cannot be killed") as raised:
        await asyncio.wrap_future(answer)
    assert "Traceback" not in str(raised.value)
    assert __file__ not in str(raised.value)
    assert __file__ in caplog.text


class Outputs(plumpy.Process):
    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.output_namespace("d", dynamic=True)


def test_t9_output_below_another_output_is_refused_in_words() -> None:
    """Fails on 0.26.1: TypeError: 'int' object does not support item assignment."""
    process = Outputs()
    process.out("d.x", 1)
    with pytest.raises(ValueError, match=r"'d\.x\.y'.*'x' is an output itself"):
        process.out("d.x.y", 2)
    assert process.outputs == {"d": {"x": 1}}


@pytest.mark.parametrize("end", ["finish", "kill"])
async def test_t10_late_failure_leaves_an_ended_process_as_it_is(end: str) -> None:
    """Fails on 0.26.1: the process becomes EXCEPTED, and its future another one."""
    process = plumpy.Process()
    if end == "kill":
        process.kill("dead")
    else:
        await process.step_until_terminated()
    state, future = process.state, process.future()

    async def breaks() -> None:
        raise ValueError("too late")

    scheduled = process.call_soon(breaks)
    while scheduled._process is not None:
        await asyncio.sleep(0)
    process.fail(ValueError("too late"), None)
    assert process.state is state
    assert process.future() is future


class Listener(plumpy.ProcessListener):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def on_process_created(self, process: plumpy.Process) -> None:
        self.heard.append(process)

    def on_process_running(self, process: plumpy.Process) -> None:
        raise ValueError("deaf")


def test_t11_listener_hears_of_the_creation() -> None:
    """Fails on 0.26.1: nothing ever calls it."""
    listener = Listener()

    class Listened(plumpy.Process):
        def init(self) -> None:
            super().init()
            self.add_process_listener(listener)

    process = Listened()
    assert listener.heard == [process]


async def test_t12_continue_keeps_keyword_arguments() -> None:
    """Fails on 0.26.1: they are dropped, and the call fails."""

    class Continues(plumpy.Process):
        def run(self) -> Any:
            return plumpy.Continue(self.go_on, 1, process=2, run_fn=3, state_label=4)

        def go_on(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    process = Continues()
    await process.step_until_terminated()
    assert process.result() == ((1,), {"process": 2, "run_fn": 3, "state_label": 4})


async def test_t13_kill_command_takes_a_text() -> None:
    """Fails on 0.26.1: the process excepts, because the text is not a message."""

    class Kills(plumpy.Process):
        def run(self) -> Any:
            return plumpy.Kill("enough")

    process = Kills()
    await process.step_until_terminated()
    assert process.killed_msg()["message"] == "enough"


async def test_t14_exception_of_a_listener_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fails on 0.26.1: the log has the text of the exception only."""
    process = plumpy.Process()
    process.add_process_listener(Listener())
    with caplog.at_level(logging.ERROR):
        await process.step_until_terminated()
    assert process.state is ProcessState.FINISHED
    assert 'raise ValueError("deaf")' in caplog.text


async def test_fail_without_an_exception_gives_the_process_one() -> None:
    """Fails on 0.26.1: AttributeError: None has no traceback."""
    process = plumpy.Process()
    process.fail(None, None)
    assert process.state is ProcessState.EXCEPTED
    with pytest.raises(RuntimeError, match="without an exception"):
        process.result()


def test_event_without_arguments_is_a_decorator() -> None:
    """Fails on 0.26.1: TypeError: issubclass() arg 1 must be a class."""

    class Only(State):
        LABEL = "only"

    class Machine(StateMachine):
        STATES = (Only,)

        @event
        def happens(self) -> str:
            return "happened"

    assert Machine().happens() == "happened"


def test_method_that_raised_before_its_base_leaves_no_mark() -> None:
    """Fails on 0.26.1: the counter stays raised, and the direct call goes through unnoticed."""

    class Base:
        @super_check
        def hook(self) -> None:
            pass

    class Raises(Base):
        def hook(self) -> None:
            raise ValueError("before the base")

    obj = Raises()
    with pytest.raises(ValueError):
        call_with_super_check(obj.hook)
    with pytest.raises(AssertionError, match="not called through call_with_super_check"):
        Base.hook(obj)


def test_process_stack_has_no_shared_mutable_default() -> None:
    """Fails on 0.26.1: the default is one list, which whoever gets it can change for all."""
    with pytest.raises((AttributeError, TypeError)):
        PROCESS_STACK.get().append(object())  # type: ignore[attr-defined]
    assert len(PROCESS_STACK.get()) == 0


def test_failing_init_leaves_no_subscription() -> None:
    """Fails on 0.26.1: the process nobody gets to see stays subscribed.

    There the identifier is in the set before the constructor raises and after the wait. Here the
    subscription may be made and undone in the background, so the test waits for a later process,
    whose subscription comes after all that was asked for before.
    """
    later = threading.Event()

    class Communicator(plumpy.Communicator):
        def __init__(self) -> None:
            self.subscribed: set[Any] = set()

        def add_rpc_subscriber(self, subscriber: Any, identifier: Any = None) -> Any:
            self.subscribed.add(identifier)
            if identifier == "later":
                later.set()
            return identifier

        def remove_rpc_subscriber(self, identifier: Any) -> None:
            self.subscribed.discard(identifier)

        def add_broadcast_subscriber(self, subscriber: Any, identifier: Any = None) -> Any:
            return identifier or "listener"

        def remove_broadcast_subscriber(self, identifier: Any) -> None:
            pass

        def broadcast_send(self, *args: Any, **kwargs: Any) -> bool:
            return True

        def add_task_subscriber(self, *args: Any, **kwargs: Any) -> Any: ...
        def remove_task_subscriber(self, *args: Any, **kwargs: Any) -> Any: ...
        def task_send(self, *args: Any, **kwargs: Any) -> Any: ...
        def rpc_send(self, *args: Any, **kwargs: Any) -> Any: ...
        def is_closed(self) -> bool:
            return False

        def close(self) -> None: ...

    class Breaks(plumpy.Process):
        def init(self) -> None:
            super().init()
            raise ValueError("no")

    communicator = Communicator()
    loop = asyncio.new_event_loop()
    with pytest.raises(ValueError, match="no"):
        Breaks(communicator=communicator, loop=loop, pid="half-made")
    kept = plumpy.Process(communicator=communicator, loop=loop, pid="later")
    assert later.wait(HANG)
    assert communicator.subscribed == {"later"}
    kept.close()
    loop.close()
