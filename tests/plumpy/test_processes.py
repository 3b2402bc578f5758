"""Processes: creation, steps, hooks in their order, results, outputs, listeners, scope."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import pytest

import plumpy
from plumpy import Process, ProcessState, UnsuccessfulResult
from plumpy.base.state_machine import StateEventHook
from plumpy.base.utils import unchecked
from plumpy.processes import ProcessStateMachineMeta

from .helpers import Waits, ended, entered, stepping

HOOKS = [
    "init",
    "on_create",
    "on_entering",
    "on_entered",
    "on_exiting",
    "on_run",
    "on_running",
    "on_wait",
    "on_waiting",
    "on_finish",
    "on_finished",
    "on_except",
    "on_excepted",
    "on_kill",
    "on_killed",
    "on_exit_running",
    "on_exit_waiting",
    "on_terminated",
    "on_close",
    "on_pausing",
    "on_paused",
    "on_playing",
    "on_output_emitting",
    "on_output_emitted",
    "transition_failed",
]


class Noted(Process):
    """Notes which hook is called, and in which state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.notes: list[str] = []
        super().__init__(*args, **kwargs)

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.output("o", required=False)


def note(name: str) -> Any:
    def hook(self: Noted, *args: Any, **kwargs: Any) -> None:
        state = self.state.value if self.state is not None else None
        self.notes.append(f"{name} {state}")
        getattr(super(Noted, self), name)(*args, **kwargs)

    return hook


for _name in HOOKS:
    setattr(Noted, _name, note(_name))


async def test_order_of_hooks() -> None:
    class Whole(Noted):
        def run(self) -> Any:
            self.out("o", 1)
            return plumpy.Wait(self.go_on)

        def go_on(self) -> None:
            pass

    process = Whole()
    assert process.notes == [
        "on_entering None",
        "on_create None",
        "on_entered created",
        "init created",
    ]
    process.notes.clear()
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    assert process.notes == [
        "on_exiting created",
        "on_entering created",
        "on_run created",
        "on_entered running",
        "on_running running",
        "on_output_emitting running",
        "on_output_emitted running",
        "on_exiting running",
        "on_exit_running running",
        "on_entering running",
        "on_wait running",
        "on_entered waiting",
        "on_waiting waiting",
    ]
    process.notes.clear()
    await process.pause()
    process.play()
    assert process.notes == ["on_pausing waiting", "on_paused waiting", "on_playing waiting"]
    process.notes.clear()
    process.resume()
    await ended(task)
    assert process.notes == [
        "on_exiting waiting",
        "on_exit_waiting waiting",
        "on_entering waiting",
        "on_run waiting",
        "on_entered running",
        "on_running running",
        "on_exiting running",
        "on_exit_running running",
        "on_entering running",
        "on_finish running",
        "on_entered finished",
        "on_finished finished",
        "on_terminated finished",
        "on_close finished",
    ]


def test_order_of_hooks_of_a_kill() -> None:
    process = Noted()
    process.notes.clear()
    process.kill()
    assert process.notes == [
        "on_exiting created",
        "on_entering created",
        "on_kill created",
        "on_entered killed",
        "on_killed killed",
        "on_terminated killed",
        "on_close killed",
    ]


def forgetful(name: str) -> Any:
    def hook(self: Any, *args: Any) -> None:
        pass

    hook.__name__ = name
    return hook


SUPER_CHECKED = [name for name in HOOKS if getattr(Process, name) in unchecked]


def test_checked_hooks_are_those_of_the_released_package() -> None:
    assert set(HOOKS) - set(SUPER_CHECKED) == {
        "on_entering",
        "on_entered",
        "on_exiting",
        "on_output_emitting",
        "on_output_emitted",
        "transition_failed",
    }


@pytest.mark.parametrize(
    "hook",
    [
        "on_run",
        "on_running",
        "on_exit_running",
        "on_wait",
        "on_waiting",
        "on_exit_waiting",
        "on_finish",
        "on_finished",
    ],
)
async def test_hook_that_forgets_its_base_excepts_the_process(hook: str) -> None:
    process = type("Forgets", (Waits,), {hook: forgetful(hook)})()
    task = stepping(process)
    await asyncio.sleep(0)
    if process.state is ProcessState.WAITING:
        process.resume()
    await ended(task)
    with pytest.raises(AssertionError, match=f"Base '{hook}' was not called"):
        process.result()


@pytest.mark.parametrize("hook", ["on_create", "init"])
def test_hook_of_the_creation_that_forgets_its_base_is_raised(hook: str) -> None:
    cls = type("Forgets", (Process,), {hook: forgetful(hook)})
    with pytest.raises(AssertionError, match=f"Base '{hook}' was not called"):
        cls()


async def test_hook_replaced_on_the_class_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AiiDA's tests do it."""
    original = Process.on_entered
    seen: list[Any] = []

    def on_entered(self: Process, from_state: Any) -> None:
        original(self, from_state)
        seen.append(self.state)

    monkeypatch.setattr(plumpy.Process, "on_entered", on_entered)
    await Process().step_until_terminated()
    assert seen == [ProcessState.CREATED, ProcessState.RUNNING, ProcessState.FINISHED]


async def test_exception_in_a_hook_of_a_transition_excepts() -> None:
    class Breaks(Noted):
        def on_running(self) -> None:
            super().on_running()
            raise ValueError("in a hook")

    process = Breaks()
    process.notes.clear()
    await process.step_until_terminated()
    assert process.notes == [
        "on_exiting created",
        "on_entering created",
        "on_run created",
        "on_entered running",
        "on_running running",
        "transition_failed running",
        "on_entering running",
        "on_except running",
        "on_entered excepted",
        "on_excepted excepted",
        "on_terminated excepted",
        "on_close excepted",
    ]
    with pytest.raises(ValueError, match="in a hook"):
        process.result()


async def test_exception_in_on_finished_takes_the_success_back() -> None:
    class Breaks(Process):
        def on_finished(self) -> None:
            super().on_finished()
            raise ValueError("after all")

    process = Breaks()
    process.future()
    await process.step_until_terminated()
    assert process.is_excepted
    with pytest.raises(ValueError, match="after all"):
        process.future().result()


# --- what a step comes to


@pytest.mark.parametrize(
    ("value", "result", "is_successful"),
    [
        (None, None, True),
        (0, 0, True),
        ({"a": 1}, {"a": 1}, True),
        (UnsuccessfulResult(3), 3, False),
        (plumpy.Stop("done", False), "done", False),
        (plumpy.Stop("done", True), "done", True),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_result_of_a_step(
    value: Any, result: Any, is_successful: bool, is_async: bool
) -> None:
    class Returns(Process):
        if is_async:

            async def run(self) -> Any:
                return value
        else:

            def run(self) -> Any:
                return value

    process = Returns()
    await process.step_until_terminated()
    assert process.state is ProcessState.FINISHED
    assert process.result() == result
    assert process.is_successful is process.successful() is is_successful


async def test_exception_as_a_value_is_a_result() -> None:
    class Returns(Process):
        def run(self) -> Any:
            return ValueError("just a value")

    process = Returns()
    await process.step_until_terminated()
    assert isinstance(process.result(), ValueError)


async def test_created_process_takes_one_step_to_run_nothing() -> None:
    ran: list[int] = []

    class Runs(Process):
        def run(self) -> None:
            ran.append(1)

    process = Runs()
    await process.step()
    assert (process.state, ran) == (ProcessState.RUNNING, [])
    await process.step()
    assert (process.state, ran) == (ProcessState.FINISHED, [1])


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes_through(exception: type[BaseException]) -> None:
    class Raises(Process):
        def run(self) -> None:
            raise exception

    loop = asyncio.new_event_loop()
    process = Raises(loop=loop)
    with pytest.raises(exception):
        process.execute()
    assert process.state is ProcessState.RUNNING
    loop.close()


async def test_cancelled_step_can_be_run_again() -> None:
    class Runs(Process):
        runs = 0
        gate: asyncio.Event

        async def run(self) -> int:
            Runs.runs += 1
            await self.gate.wait()
            return Runs.runs

    process = Runs()
    process.gate = asyncio.Event()
    task = stepping(process)
    await entered(process, ProcessState.RUNNING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.state is ProcessState.RUNNING
    process.gate.set()
    await process.step_until_terminated()
    assert process.result() == 2


async def test_unsuccessful_where_outputs_are_missing() -> None:
    class Forgets(Noted):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.output("needed")

        def run(self) -> str:
            return "result"

    process = Forgets()
    await process.step_until_terminated()
    assert (process.result(), process.is_successful) == ("result", False)
    assert process.notes.count("on_exit_running running") == 2


async def test_execute_returns_outputs_and_result_the_result() -> None:
    class Both(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.output("o")

        def run(self) -> int:
            self.out("o", "output")
            return 7

    process = Both()
    assert await plumpy.run_with_portal(process.execute) == {"o": "output"}
    assert process.result() == 7
    assert process.future().result() == {"o": "output"}


async def test_outcome_before_the_end() -> None:
    process = Process()
    for question in (process.result, process.successful, process.killed_msg):
        with pytest.raises(plumpy.InvalidStateError):
            question()
    assert not process.is_successful
    assert process.exception() is None
    with pytest.warns(DeprecationWarning, match="has_terminated"):
        assert process.done() is False


async def test_outcome_of_a_killed_process() -> None:
    process = Process()
    process.kill("a reason")
    with pytest.raises(plumpy.KilledError) as raised:
        process.result()
    assert raised.value.args == (process.killed_msg(),)
    assert process.future().exception().args == ("a reason",)


async def test_closed_process_refuses() -> None:
    process = Process()
    process.kill()
    process.close()
    for refused in (
        lambda: process.launch(Process),
        lambda: process.out("o", 1),
        lambda: process.add_cleanup(print),
        process.execute,
    ):
        with pytest.raises(plumpy.ClosedError, match="Process is closed"):
            refused()
    with pytest.raises(plumpy.ClosedError):
        await process.step()
    process.set_status("still possible")
    process.remove_state_event_callback(StateEventHook.ENTERED_STATE, print)


def test_cleanups_run_in_order_and_survive_errors(caplog: pytest.LogCaptureFixture) -> None:
    order: list[int] = []
    process = Process()
    process.add_cleanup(lambda: order.append(1))
    process.add_cleanup(lambda: 1 / 0)
    process.add_cleanup(lambda: order.append(2))
    process.kill()
    assert order == [1, 2]
    assert "ZeroDivisionError" in caplog.text


# --- identity and inputs


def test_pid_is_the_uuid_by_default() -> None:
    process = Process()
    assert isinstance(process.uuid, uuid.UUID)
    assert process.pid == process.uuid
    assert process.uuid.version == 4
    assert Process(pid=5).pid == 5
    assert Process(pid=0).pid == 0
    assert Process(pid=5).uuid is not None


class Inputs(Process):
    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input("a", valid_type=int, default=1)
        spec.input("ns.b", valid_type=int)


def test_inputs_are_parsed_and_raw_inputs_kept() -> None:
    given = {"ns": {"b": 2}}
    process = Inputs(given)
    assert process.inputs.ns.b == 2
    assert process.inputs.a == 1
    assert process.raw_inputs == {"ns": {"b": 2}}
    assert given == {"ns": {"b": 2}}
    assert Process().raw_inputs is None
    assert Process().inputs == {}


def test_wrong_inputs_are_raised_by_the_constructor() -> None:
    with pytest.raises(ValueError, match=r"inputs\.ns\.b"):
        Inputs({"ns": {"b": "two"}})


def test_define_that_forgets_its_base_is_raised_every_time() -> None:
    class Forgets(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            pass

    for _ in range(2):
        with pytest.raises(AssertionError, match=r"Process\.define\(\) was not called by"):
            Forgets.spec()


def test_spec_belongs_to_its_class() -> None:
    class Child(Inputs):
        pass

    assert Child.spec() is Child.spec() is not Inputs.spec()


def test_undeclared_output_of_a_wrong_type_is_named_by_its_whole_path() -> None:
    class Typed(Process):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.outputs.valid_type = int
            spec.output_namespace("ns", valid_type=int)

    process = Typed()
    for label, path in {"x": "outputs.x", "a.b": "outputs.a.b", "ns.a.b": "ns.a.b"}.items():
        with pytest.raises(ValueError, match=rf"Error validating output 's' for port '{path}':"):
            process.out(label, "s")


def test_description() -> None:
    """The docstring of the class and its spec."""

    class Described(Process):
        """What it does."""

    assert Described.get_description()["description"] == "What it does."
    Described.__doc__ = "  First line.\n    Second line.\n    "
    assert Described.get_description()["description"] == "First line.\n    Second line."
    assert set(Described.get_description()["spec"]) == {"inputs", "outputs"}
    assert Described.get_name() == "Described"


def test_classes_name_their_public_module() -> None:
    assert Process.__module__ == "plumpy.processes"
    assert isinstance(Process, ProcessStateMachineMeta)
    assert Process.__bases__ == (plumpy.base.StateMachine, plumpy.Savable)


def test_states_can_be_replaced() -> None:
    class MyRunning(plumpy.Running):
        pass

    class Mine(Process):
        @classmethod
        def get_state_classes(cls) -> Any:
            return {**super().get_state_classes(), ProcessState.RUNNING: MyRunning}

    process = Mine()
    assert Mine.get_states()[0] is plumpy.Created
    assert type(process.create_state(ProcessState.RUNNING, process.run)) is MyRunning
    assert type(Process().create_state(ProcessState.RUNNING, process.run)) is plumpy.Running


def test_status_info() -> None:
    process = Process()
    info: dict[str, Any] = {}
    process.get_status_info(info)
    assert info == {
        "ctime": process.creation_time,
        "paused": False,
        "process_string": "<Process> (ProcessState.CREATED)",
        "state": "ProcessState.CREATED",
    }


def test_logger() -> None:
    assert Process().logger.name == "plumpy.processes"
    process = Process(logger=logging.getLogger("mine"))
    assert process.logger.name == "mine"


# --- scope


async def test_current_process() -> None:
    seen: list[Any] = []

    class Child(Process):
        async def run(self) -> None:
            seen.append(Process.current())
            asyncio.get_running_loop().call_soon(lambda: seen.append(Process.current()))
            await asyncio.sleep(0)
            seen.append(Process.current())

    class Parent(Process):
        async def run(self) -> None:
            seen.append(Process.current())
            self.child = Child()
            await self.child.step_until_terminated()
            seen.append(Process.current())

    parent = Parent()
    await parent.step_until_terminated()
    assert seen == [parent, parent.child, parent.child, parent.child, parent]
    assert Process.current() is None


async def test_state_event_callbacks() -> None:
    seen: list[Any] = []

    def callback(machine: Any, hook: Any, state: Any) -> None:
        seen.append((hook, state.LABEL))

    process = Process()
    for hook in StateEventHook:
        process.add_state_event_callback(hook, callback)
    process.remove_state_event_callback(StateEventHook.EXITING_STATE, callback)
    with pytest.raises(ValueError, match="Callback not set"):
        process.remove_state_event_callback(StateEventHook.EXITING_STATE, callback)
    process.kill()
    assert seen == [
        (StateEventHook.ENTERING_STATE, ProcessState.KILLED),
        (StateEventHook.ENTERED_STATE, ProcessState.CREATED),
    ]


async def test_launched_child_has_loop_and_communicator_of_its_parent() -> None:
    class Parent(Process):
        async def run(self) -> Any:
            child = self.launch(Inputs, {"ns": {"b": 1}}, pid="child")
            await child.future()
            return child

    parent = Parent()
    await parent.step_until_terminated()
    child = parent.result()
    assert (child.pid, child.loop, child.is_successful) == ("child", parent.loop, True)


# --- outputs


class Emits(Process):
    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.output("a", valid_type=int, required=False)
        spec.output("n.x", valid_type=int, required=False)
        spec.output_namespace("d", dynamic=True, valid_type=int)


def test_outputs_go_where_they_are_declared() -> None:
    process = Emits()
    process.out("a", 1)
    process.out("n.x", 2)
    process.out("d.k", 3)
    process.out("d.deep.er", 4)
    process.out("a", 5)
    assert process.outputs == {"a": 5, "n": {"x": 2}, "d": {"k": 3, "deep": {"er": 4}}}


@pytest.mark.parametrize(
    ("port", "value", "message"),
    [
        ("a", "s", "'s' for port 'a': value 'a' is not of the right type"),
        ("zz", 1, r"'1' for port 'outputs': Unexpected ports \{'zz': 1\}"),
        ("n.q", 1, r"'1' for port 'n': Unexpected ports \{'q': 1\}"),
        ("n", {"x": "s"}, r"for port 'n\.x': value 'x' is not of the right type"),
        ("d.k", "s", r"'s' for port 'd\.k': Invalid type <class 'str'>"),
        ("d.u.v", "s", r"'s' for port 'd\.u\.v': Invalid type <class 'str'>"),
        ("a.b", 1, "port 'a' in port namespace 'outputs' is not a namespace"),
    ],
)
def test_wrong_output_is_refused(port: str, value: Any, message: str) -> None:
    process = Emits()
    with pytest.raises(ValueError, match=message):
        process.out(port, value)
    assert process.outputs == {}


async def test_ports_that_come_late_are_checked() -> None:
    """A specification without ports takes a short way; not for ever."""

    class Grows(Process):
        pass

    await Grows().step_until_terminated()
    with pytest.warns(UserWarning, match="sealed"):
        Grows.spec().inputs["a"] = plumpy.InputPort("a", valid_type=int, default=1)
    assert Grows().inputs == {"a": 1}
    with pytest.warns(UserWarning, match="sealed"):
        Grows.spec().outputs["o"] = plumpy.OutputPort("o")
    process = Grows()
    await process.step_until_terminated()
    assert not process.is_successful
