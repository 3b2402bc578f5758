"""States and commands: what they lead to, and what is saved of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import plumpy
from plumpy import Process, ProcessState
from plumpy.lang import NULL
from plumpy.process_states import Pause

from .helpers import Waits, ended, entered, stepping


class Steps(Process):
    def run(self) -> None: ...

    def go_on(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


def saved_and_loaded(process: Process, state: Any) -> Any:
    return process.recreate_state(state.save())


def test_labels() -> None:
    assert [label.value for label in ProcessState] == [
        "created",
        "running",
        "waiting",
        "finished",
        "excepted",
        "killed",
    ]
    terminal = {label for label, cls in Process.get_state_classes().items() if cls.is_terminal()}
    assert terminal == {ProcessState.FINISHED, ProcessState.EXCEPTED, ProcessState.KILLED}
    assert {ProcessState("running"): 1}[ProcessState.RUNNING] == 1


def test_running_is_saved_with_arguments_and_command() -> None:
    process = Steps()
    state = plumpy.Running(process, process.go_on, 1, two=2)
    loaded = saved_and_loaded(process, state)
    assert (loaded.run_fn, loaded.args, loaded.kwargs) == (process.go_on, (1,), {"two": 2})
    assert loaded.process is process


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (lambda p: plumpy.Continue(p.go_on, 1, two=2), ProcessState.RUNNING),
        (lambda p: plumpy.Wait(p.go_on, "msg", "data"), ProcessState.WAITING),
        (lambda p: plumpy.Stop("result", False), ProcessState.FINISHED),
        (lambda p: plumpy.Kill("text"), ProcessState.KILLED),
    ],
)
async def test_pending_command_survives_saving(command: Any, expected: ProcessState) -> None:
    process = Steps()
    state = plumpy.Running(process, process.run)
    state.next_state(command(process))
    loaded = saved_and_loaded(process, state)
    following = await loaded.execute()
    assert following.LABEL is expected
    again = state._command._next_state(state)
    for name in ("run_fn", "args", "kwargs", "done_callback", "msg", "data", "result"):
        assert getattr(following, name, None) == getattr(again, name, None)
    assert getattr(following, "successful", None) == getattr(again, "successful", None)


async def test_unknown_command_excepts() -> None:
    class Returns(Process):
        def run(self) -> Any:
            return Pause()

    process = Returns()
    await process.step_until_terminated()
    with pytest.raises(ValueError, match="Unrecognised command"):
        process.result()


async def test_waiting_for_nothing_to_go_on_with_excepts_at_the_resume() -> None:
    class Returns(Process):
        def run(self) -> Any:
            return plumpy.Wait()

    process = Returns()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    process.resume()
    await ended(task)
    assert isinstance(process.exception(), AssertionError)


def test_waiting_is_saved_and_says_what_for() -> None:
    process = Steps()
    state = plumpy.Waiting(process, process.go_on, "the bus", {"line": 5})
    assert str(state) == "ProcessState.WAITING (the bus)"
    loaded = saved_and_loaded(process, state)
    assert (loaded.done_callback, loaded.msg, loaded.data) == (
        process.go_on,
        "the bus",
        {"line": 5},
    )


async def test_waiting_goes_on_without_or_with_a_value() -> None:
    process = Steps()
    for value, args in ((NULL, ()), (None, (None,))):
        state = plumpy.Waiting(process, process.go_on)
        process._state = state
        state.resume(value)
        following = await state.execute()
        assert following.args == args


async def test_states_of_a_subclass_may_take_part() -> None:
    """As AiiDA's waiting state: its own ``execute`` and ``interrupt``, and it may return itself."""

    class MyWaiting(plumpy.Waiting):
        rounds = 0

        async def execute(self) -> Any:
            assert Process.current() is self.process
            MyWaiting.rounds += 1
            await asyncio.sleep(0)
            if MyWaiting.rounds < 3:
                return self
            return self.create_state(ProcessState.RUNNING, self.done_callback)

    class Mine(Waits):
        @classmethod
        def get_state_classes(cls) -> Any:
            return {**super().get_state_classes(), ProcessState.WAITING: MyWaiting}

    process = Mine()
    await ended(stepping(process))
    assert process.result() == ()
    assert MyWaiting.rounds == 3


async def test_interruption_that_a_subclass_deals_with_itself() -> None:
    """As AiiDA's: a kill while it waits makes it clean up, and the process is killed after that."""
    cleaned: list[Any] = []

    class MyWaiting(plumpy.Waiting):
        def interrupt(self, reason: Any) -> None:
            self.future.set_exception(reason)

        async def execute(self) -> Any:
            self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            try:
                await self.future
            except plumpy.KillInterruption as reason:
                cleaned.append(reason.msg["message"])
                return self.create_state(ProcessState.WAITING, None, msg="m", data="d")

    class Mine(Waits):
        @classmethod
        def get_state_classes(cls) -> Any:
            return {**super().get_state_classes(), ProcessState.WAITING: MyWaiting}

    process = Mine()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    assert await process.kill("with care") is True
    await ended(task)
    assert process.killed()
    assert cleaned == ["with care"]


def test_excepted_is_saved_as_text() -> None:
    process = Steps()
    try:
        raise KeyError("z")
    except KeyError as exc:
        state = plumpy.Excepted(process, exc, exc.__traceback__)
    assert str(state) == "ProcessState.EXCEPTED(KeyError: 'z'\n)"
    assert state.get_exc_info() == (KeyError, state.exception, state.traceback)
    saved = state.save()
    assert saved["ex_value"] == "!!python/object/apply:builtins.KeyError\n- z\n"
    assert "test_excepted_is_saved_as_text" in saved["traceback"]
    loaded = process.recreate_state(saved)
    assert isinstance(loaded.exception, KeyError)
    assert loaded.exception.args == ("z",)


def test_excepted_without_an_exception() -> None:
    state = plumpy.Excepted(Steps(), None)
    assert state.get_exc_info() == (None, None, None)
    assert saved_and_loaded(Steps(), state).exception is None


@pytest.mark.parametrize("name", ["nothing", "shutil.rmtree", "__class__.mro", 5, None])
def test_saved_names_lead_to_methods_of_the_process_only(name: Any) -> None:
    process = Steps()
    saved = plumpy.Created(process, process.run).save()
    saved["run_fn"] = name
    with pytest.raises(ValueError, match="Steps has no method"):
        process.recreate_state(saved)


def test_saved_command_has_to_be_a_command() -> None:
    process = Steps()
    saved = plumpy.Running(process, process.run).save()
    saved["command"] = {"!!meta": {"class_name": "plumpy.process_listener:ProcessListener"}}
    saved["command"]["_params"] = {}
    with pytest.raises(ValueError, match="is not a command"):
        process.recreate_state(saved)


def test_interruptions_carry_their_message() -> None:
    assert plumpy.PauseInterruption("p").msg == {"intent": "pause", "message": "p"}
    kill = plumpy.KillInterruption("k", force_kill=True)
    assert kill.msg == {"intent": "kill", "message": "k", "force_kill": True}
    assert kill.force_kill
    assert str(kill) == "k"
