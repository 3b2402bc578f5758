"""Kill, pause, play, resume and fail: one by one, in every state, and from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import plumpy
from plumpy import Process, ProcessState
from plumpy.base.state_machine import EventError
from plumpy.futures import CancellableAction

from .helpers import HANG, Runs, Waits, ended, entered, stepping


async def created() -> tuple[Process, None]:
    return Waits(), None


async def running() -> tuple[Process, asyncio.Task[None]]:
    process = Runs()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    return process, task


async def waiting() -> tuple[Process, asyncio.Task[None]]:
    process = Waits()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    return process, task


async def paused() -> tuple[Process, asyncio.Task[None]]:
    process, task = await waiting()
    assert await process.pause()
    return process, task


async def finished() -> tuple[Process, None]:
    process = Process()
    await process.step_until_terminated()
    return process, None


async def excepted() -> tuple[Process, None]:
    process = Process()
    process.fail(ValueError("failed"), None)
    return process, None


async def killed() -> tuple[Process, None]:
    process = Process()
    process.kill()
    return process, None


async def final(answer: Any) -> Any:
    return await asyncio.wait_for(answer, HANG) if asyncio.isfuture(answer) else answer


async def bring_to_end(process: Process, task: asyncio.Task[None] | None) -> None:
    process.kill(force_kill=True)
    if task is not None:
        await ended(task)


@pytest.mark.parametrize(
    ("state", "at_once"),
    [
        (created, True),
        (waiting, None),
        (paused, True),
        (finished, False),
        (excepted, False),
        (killed, True),
    ],
)
async def test_kill(state: Callable[..., Any], at_once: bool | None) -> None:
    process, task = await state()
    answer = process.kill("a reason")
    if at_once is None:
        assert isinstance(answer, CancellableAction)
        assert process.is_killing
        assert await final(answer) is True
    else:
        assert answer is at_once
    assert not process.is_killing
    assert process.killed() is (at_once is not False)
    if task is not None:
        await ended(task)


async def test_kill_of_a_running_process_waits_for_the_end_of_the_step() -> None:
    process, task = await running()
    answer = process.kill("a reason")
    await asyncio.sleep(0)
    assert not answer.done()
    assert process.state is ProcessState.RUNNING
    process.go.set()
    assert await final(answer) is True
    await ended(task)
    assert process.killed_msg() == {"intent": "kill", "message": "a reason", "force_kill": False}
    assert process.status == "a reason"


async def test_kill_is_answered_false_if_the_step_fails() -> None:
    class Fails(Runs):
        async def run(self) -> None:
            await super().run()
            raise ValueError("failed")

    process = Fails()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    answer = process.kill()
    process.go.set()
    assert await final(answer) is False
    await ended(task)
    assert process.is_excepted


async def test_kill_is_answered_false_if_a_hook_of_it_fails() -> None:
    class Fails(Process):
        def on_kill(self, msg: Any) -> None:
            super().on_kill(msg)
            raise ValueError("not like this")

    process = Fails()
    assert process.kill() is False
    assert process.is_excepted


async def test_withdrawn_kill_leaves_the_process_waiting() -> None:
    process, task = await waiting()
    answer = process.kill()
    answer.cancel()
    assert not process.is_killing
    for _ in range(3):
        await asyncio.sleep(0)
    assert process.state is ProcessState.WAITING
    process.resume()
    await ended(task)
    assert process.is_successful


async def test_kill_after_a_withdrawn_one_in_the_same_turn() -> None:
    """What AiiDA does: it cancels the pending action and asks again."""
    process, task = await waiting()
    process.kill("first")
    process._killing.cancel()
    answer = process.kill("second")
    assert await final(answer) is True
    await ended(task)
    assert process.killed_msg()["message"] == "second"


async def test_forced_kill_answers_those_who_asked_before() -> None:
    process, task = await running()
    pausing = process.pause()
    killing = process.kill("patiently")
    assert process.kill("now", force_kill=True) is True
    await ended(task)
    assert (pausing.result(), killing.result()) == (False, True)
    assert process.killed_msg()["message"] == "now"


@pytest.mark.parametrize(
    ("state", "at_once"),
    [
        (created, True),
        (waiting, None),
        (paused, True),
        (finished, False),
        (excepted, False),
        (killed, False),
    ],
)
async def test_pause(state: Callable[..., Any], at_once: bool | None) -> None:
    process, task = await state()
    answer = process.pause("a reason")
    if at_once is None:
        assert isinstance(answer, CancellableAction)
        assert process.pause("another") is answer
        assert await final(answer) is True
    else:
        assert answer is at_once
    assert process.paused is (at_once is not False)
    await bring_to_end(process, task)


async def test_pause_of_a_running_process_takes_effect_in_the_next_state() -> None:
    class Continues(Runs):
        async def run(self) -> Any:
            await super().run()
            return plumpy.Wait(self.go_on)

        def go_on(self) -> str:
            return "went on"

    process = Continues()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    process.set_status("at work")
    answer = process.pause("a reason")
    process.go.set()
    assert await final(answer) is True
    assert (process.state, process.paused) == (ProcessState.WAITING, True)
    assert process.status == "a reason"
    process.resume()
    for _ in range(3):
        await asyncio.sleep(0)
    assert process.state is ProcessState.WAITING, "a paused process acts on nothing"
    assert process.play() is True
    assert process.status == "at work"
    await ended(task)
    assert process.result() == "went on"


@pytest.mark.parametrize("state", [created, waiting, paused, finished, excepted, killed])
async def test_play(state: Callable[..., Any]) -> None:
    process, task = await state()
    assert process.play() is True
    assert not process.paused
    await bring_to_end(process, task)


async def test_play_withdraws_a_pause_to_come() -> None:
    process, task = await running()
    answer = process.pause()
    assert process.play() is True
    assert answer.cancelled()
    process.go.set()
    await ended(task)
    assert process.result() == "ran"


async def test_pause_is_refused_while_a_kill_is_to_come() -> None:
    process, task = await running()
    process.kill()
    assert process.pause() is False
    process.go.set()
    await ended(task)
    assert process.killed()


@pytest.mark.parametrize("state", [created, running, finished, excepted, killed])
async def test_resume_is_an_event_of_waiting_only(state: Callable[..., Any]) -> None:
    process, task = await state()
    with pytest.raises(EventError, match="Event resume invalid in state"):
        process.resume()
    await bring_to_end(process, task)


@pytest.mark.parametrize("args", [(), (None,), ("value",)])
async def test_resume_hands_its_value_on_and_counts_once(args: tuple[Any, ...]) -> None:
    process, task = await waiting()
    process.resume(*args)
    process.resume("too late")
    await ended(task)
    assert process.result() == args


@pytest.mark.parametrize("state", [created, running, waiting, paused])
async def test_fail(state: Callable[..., Any]) -> None:
    process, task = await state()
    process.fail(ValueError("failed"), None)
    assert process.is_excepted
    assert not process.paused
    if task is not None:
        await ended(task)
    with pytest.raises(ValueError, match="failed"):
        process.result()
    with pytest.raises(ValueError, match="failed"):
        await process.future()


async def test_forced_kill_by_the_step_itself_drops_its_result() -> None:
    class Kills(Process):
        async def run(self) -> str:
            assert self.kill("by myself", force_kill=True) is True
            await asyncio.sleep(0)
            return "dropped"

    process = Kills()
    await ended(stepping(process))
    assert process.killed()


@pytest.mark.parametrize("hook", ["on_running", "on_run", "on_exit_running"])
async def test_kill_from_a_hook_takes_effect_after_the_transition(hook: str) -> None:
    class Kills(Process):
        async def run(self) -> Any:
            return plumpy.Continue(self.go_on)

        async def go_on(self) -> Any:
            return plumpy.Wait(self.go_on)

    def kill(self: Process, *args: Any) -> None:
        getattr(super(Kills, self), hook)(*args)
        self.kill("in a hook")

    setattr(Kills, hook, kill)
    process = Kills()
    await ended(stepping(process))
    assert process.killed()


async def test_kill_from_a_hook_of_the_creation() -> None:
    class Kills(Process):
        def on_create(self) -> None:
            super().on_create()
            self.kill("stillborn")

    process = Kills()
    assert process.killed()
    assert process.future().done()


async def test_failing_hook_of_a_pause_is_the_answer() -> None:
    class Fails(Waits):
        def on_pausing(self, msg: str | None = None) -> None:
            super().on_pausing(msg)
            raise ValueError("never")

    process = Fails()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    with pytest.raises(ValueError, match="never"):
        await process.pause()
    assert not process.paused
    await bring_to_end(process, task)


async def test_failing_hook_of_play_is_raised() -> None:
    class Fails(Waits):
        def on_playing(self) -> None:
            super().on_playing()
            raise ValueError("never")

    process = Fails()
    process.pause()
    with pytest.raises(ValueError, match="never"):
        process.play()


@pytest.mark.parametrize(
    ("interruption", "state", "is_paused"),
    [
        (plumpy.KillInterruption("raised"), ProcessState.KILLED, False),
        (plumpy.PauseInterruption("raised"), ProcessState.RUNNING, True),
        (plumpy.Interruption("raised"), ProcessState.EXCEPTED, False),
    ],
)
async def test_interruption_raised_by_a_step(
    interruption: Exception, state: ProcessState, is_paused: bool
) -> None:
    class Raises(Process):
        async def run(self) -> None:
            raise interruption

    process = Raises()
    await process.step()
    await process.step()
    assert (process.state, process.paused) == (state, is_paused)


async def test_stepping_twice_at_once_is_refused() -> None:
    process, task = await waiting()
    with pytest.raises(plumpy.InvalidStateError, match="stepped already"):
        await process.step()
    await bring_to_end(process, task)


async def test_second_task_waits_for_the_end() -> None:
    process, task = await waiting()
    second = stepping(process)
    await asyncio.sleep(0)
    assert not second.done()
    process.resume()
    await ended(task)
    await ended(second)


async def test_cancelling_the_second_task_leaves_the_process_alone() -> None:
    process, task = await waiting()
    second = stepping(process)
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert process.state is ProcessState.WAITING
    process.resume()
    await ended(task)


async def test_process_cannot_wait_for_its_own_end() -> None:
    class Waits(Process):
        async def run(self) -> None:
            await self.step_until_terminated()

    process = Waits()
    await ended(stepping(process))
    assert isinstance(process.exception(), plumpy.InvalidStateError)


async def test_kill_pending_when_the_stepping_task_is_cancelled_is_carried_out() -> None:
    process, task = await running()
    answer = process.kill()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer.result() is True
    assert process.killed()


async def in_thread(function: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def test_kill_from_another_thread_is_answered_by_an_action() -> None:
    process, task = await waiting()
    answer = await in_thread(lambda: process.kill("from a thread"))
    assert isinstance(answer, CancellableAction)
    assert await final(answer) is True
    await ended(task)
    assert process.killed_msg()["message"] == "from a thread"


async def test_requests_from_another_thread_run_on_the_thread_of_the_loop() -> None:
    threads: set[Any] = set()

    class Notes(Waits):
        def on_paused(self, msg: str | None = None) -> None:
            super().on_paused(msg)
            threads.add(threading.current_thread())

        def on_playing(self) -> None:
            super().on_playing()
            threads.add(threading.current_thread())

        def resumed(self, *args: Any) -> Any:
            threads.add(threading.current_thread())
            return args

    process = Notes()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    assert await final(await in_thread(lambda: process.pause("p"))) is True
    assert await final(await in_thread(process.play)) is True
    await in_thread(lambda: process.call_soon(lambda: threads.add(threading.current_thread())))
    await in_thread(lambda: process.resume("r"))
    await ended(task)
    assert process.result() == ("r",)
    assert threads == {threading.current_thread()}


async def test_fail_from_another_thread() -> None:
    process, task = await waiting()
    await in_thread(lambda: process.fail(ValueError("from a thread"), None))
    await ended(task)
    assert process.is_excepted


async def test_thread_that_the_loop_waits_for_may_ask() -> None:
    """It would be a deadlock if asking waited for the loop."""

    class Asks(Process):
        def run(self) -> Any:
            thread = threading.Thread(target=self.kill)
            thread.start()
            thread.join(HANG)
            assert not thread.is_alive()
            return plumpy.Wait(self.run)

    process = Asks()
    await ended(stepping(process))
    assert process.killed()


async def test_many_threads_may_ask_at_once() -> None:
    """The loop goes on while they do; every request is answered."""
    processes = [Waits() for _ in range(20)]
    tasks = [stepping(process) for process in processes]
    answers: list[Any] = []
    barrier = threading.Barrier(4)

    def ask(kind: int) -> None:
        barrier.wait(HANG)
        for process in processes:
            request = (process.pause, process.play, process.kill, process.play)[kind]
            answers.append((kind, process, request()))

    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, ask, kind) for kind in range(4)))
    for kind, process, answer in answers:
        try:
            outcome = await final(answer)
        except asyncio.CancelledError:
            assert kind == 0, "only a pause is withdrawn, by a play"
            continue
        if kind == 2:
            assert outcome is True
            assert process.killed()
        else:
            assert isinstance(outcome, bool)
    for task in tasks:
        await ended(task)
    assert all(process.killed() and not process.paused for process in processes)


@pytest.mark.parametrize("body", ["stop", plumpy.MessageBuilder.kill("stop")])
async def test_a_broadcast_may_be_a_message_or_its_text(body: Any) -> None:
    process = plumpy.Process()
    process.broadcast_receive(None, body, None, "pause", None)  # type: ignore[arg-type]
    while not process.paused:
        await asyncio.sleep(0)
    assert process.status == "stop"
    process.broadcast_receive(None, body, None, "kill", None)  # type: ignore[arg-type]
    while not process.killed():
        await asyncio.sleep(0)
    assert process.killed_msg()["message"] == "stop"
