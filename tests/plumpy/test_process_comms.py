"""Messages, controllers and the launcher; over memory and over a real RabbitMQ."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any
from unittest import mock

import kiwipy
import pytest

import plumpy
from plumpy import process_comms
from plumpy.process_comms import MessageBuilder

TIMEOUT = 10
NAME = __name__

#: What was called that must not be.
calls: list[Any] = []


def not_a_process(*args: Any) -> None:
    """Note a call."""
    calls.append(args)


class NotAProcess:
    """Note that one was made."""

    def __init__(self, *args: Any) -> None:
        calls.append(args)


class Adds(plumpy.Process):
    """Finishes at once, with an output."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("a", valid_type=int, default=1)
        spec.output("sum", valid_type=int)

    def run(self):
        self.out("sum", self.inputs.a + 1)


class Fails(plumpy.Process):
    """Excepts."""

    def run(self):
        raise RuntimeError("on purpose")


class Waits(plumpy.Process):
    """Waits until it is resumed or killed."""

    def run(self):
        return plumpy.Wait(self.go_on, "waiting")

    def go_on(self, *_):
        """Finish."""


class NotesThreads(Waits):
    """Notes the threads in which it is controlled."""

    def init(self):
        super().init()
        self.threads = set()

    def on_paused(self, *args):
        super().on_paused(*args)
        self.threads.add(threading.get_ident())

    def on_playing(self):
        super().on_playing()
        self.threads.add(threading.get_ident())

    def on_kill(self, msg):
        super().on_kill(msg)
        self.threads.add(threading.get_ident())


class TestBodies:
    """What is on the wire is a contract with every other release."""

    def test_messages(self):
        assert MessageBuilder.play("t") == {"intent": "play", "message": "t"}
        assert MessageBuilder.pause() == {"intent": "pause", "message": None}
        assert MessageBuilder.status() == {"intent": "status", "message": None}
        assert MessageBuilder.kill("t", force_kill=True) == {
            "intent": "kill",
            "message": "t",
            "force_kill": True,
        }

    def test_tasks(self):
        identifier = f"{__name__}:Waits"
        assert plumpy.create_launch_body(Waits, init_args=[1]) == {
            "task": "launch",
            "args": {
                "process_class": identifier,
                "persist": False,
                "nowait": True,
                "init_args": [1],
                "init_kwargs": None,
            },
        }
        assert plumpy.create_continue_body(7, tag="t") == {
            "task": "continue",
            "args": {"pid": 7, "nowait": False, "tag": "t"},
        }
        assert process_comms.create_create_body(Waits, persist=True) == {
            "task": "create",
            "args": {
                "process_class": identifier,
                "persist": True,
                "init_args": None,
                "init_kwargs": None,
            },
        }

    def test_a_given_loader_names_the_class(self):
        loader = mock.Mock(spec=plumpy.ObjectLoader)
        loader.identify_object.return_value = "mine"
        body = plumpy.create_launch_body(Waits, loader=loader)
        assert body["args"]["process_class"] == "mine"


def launcher_task(**args: Any) -> dict[str, Any]:
    return {"task": "launch", "args": {"persist": False, "nowait": False, **args}}


class TestLauncher:
    async def test_launch_answers_with_the_outputs(self):
        launcher = plumpy.ProcessLauncher()
        outputs = await launcher(
            None, launcher_task(process_class=f"{NAME}:Adds", init_kwargs={"inputs": {"a": 2}})
        )
        assert outputs == {"sum": 3}

    async def test_launch_nowait_answers_with_the_pid(self):
        pid = await plumpy.ProcessLauncher()(
            None, launcher_task(process_class=f"{NAME}:Adds", nowait=True)
        )
        assert isinstance(pid, uuid.UUID)

    async def test_a_process_that_fails_is_an_error(self):
        with pytest.raises(RuntimeError, match="on purpose"):
            await plumpy.ProcessLauncher()(None, launcher_task(process_class=f"{NAME}:Fails"))

    async def test_create_then_continue(self):
        persister = plumpy.InMemoryPersister()
        launcher = plumpy.ProcessLauncher(persister=persister)
        body = process_comms.create_create_body(Adds, persist=True)
        pid = await launcher(None, body)
        assert [entry.pid for entry in persister.get_checkpoints()] == [pid]
        assert await launcher(None, plumpy.create_continue_body(pid)) == {"sum": 2}

    async def test_launch_with_persist_saves_a_checkpoint(self):
        persister = plumpy.InMemoryPersister()
        launcher = plumpy.ProcessLauncher(persister=persister)
        await launcher(None, launcher_task(process_class=f"{NAME}:Adds", persist=True))
        assert len(persister.get_checkpoints()) == 1

    @pytest.mark.parametrize(
        "task",
        [
            {"task": "explode", "args": {}},
            {"task": None},
            {},
            "launch",
            None,
            [1],
            launcher_task(process_class=f"{NAME}:Adds", persist=True),
            {"task": "continue", "args": {"pid": 1}},
        ],
    )
    async def test_what_it_cannot_do_is_rejected(self, task):
        with pytest.raises(kiwipy.TaskRejected):
            await plumpy.ProcessLauncher()(None, task)

    @pytest.mark.parametrize(
        "args",
        [
            {},
            {"process_class": None},
            {"process_class": 5},
            {"process_class": "os:system", "init_args": ["exit 3"]},
            {"process_class": "builtins:exec", "init_args": ["raise SystemExit"]},
            {"process_class": f"{NAME}:not_a_process"},
            {"process_class": f"{NAME}:NotAProcess"},
            {"process_class": f"{NAME}:missing"},
            {"process_class": "no_such_module_at_all:X"},
            {"process_class": f"{NAME}:Adds", "init_args": "text"},
            {"process_class": f"{NAME}:Adds", "init_args": 5},
            {"process_class": f"{NAME}:Adds", "init_kwargs": {1: 2}},
            {"process_class": f"{NAME}:Adds", "init_kwargs": {"nonsense": 2}},
            {"process_class": f"{NAME}:Adds", "surprise": 2},
        ],
    )
    async def test_a_malformed_task_is_an_error_and_runs_nothing(self, args):
        """S3: whoever could write to the queue could have any callable called."""
        calls.clear()
        with pytest.raises(ValueError):
            await plumpy.ProcessLauncher()(None, launcher_task(**args))
        assert calls == []

    async def test_a_subclass_may_allow_some_classes_only(self):
        class Careful(plumpy.ProcessLauncher):
            def allows(self, identifier):
                return identifier == f"{NAME}:Adds"

        await Careful()(None, launcher_task(process_class=f"{NAME}:Adds"))
        with pytest.raises(ValueError, match="not among the classes allowed"):
            await Careful()(None, launcher_task(process_class=f"{NAME}:Fails"))

    async def test_the_process_gets_a_communicator_that_it_is_not_given(self):
        communicator = kiwipy.LocalCommunicator()
        body = launcher_task(process_class=f"{NAME}:Waits", nowait=True)
        pid = await plumpy.ProcessLauncher()(communicator, body)
        controller = plumpy.RemoteProcessController(communicator)
        assert await controller.kill_process(pid)


class TestControllersInMemory:
    async def test_one_process(self):
        communicator = kiwipy.LocalCommunicator()
        process = Waits(communicator=communicator)
        stepping = asyncio.create_task(process.step_until_terminated())
        controller = plumpy.RemoteProcessController(communicator)
        assert (await controller.get_status(process.pid))["paused"] is False
        assert await controller.pause_process(process.pid, "resting")
        assert process.paused
        assert process.status == "resting"
        assert await controller.play_process(process.pid)
        assert not process.paused
        assert await controller.kill_process(process.pid, "enough")
        await asyncio.wait_for(stepping, TIMEOUT)
        assert process.killed()
        assert process.killed_msg()["message"] == "enough"

    async def test_all_processes(self):
        communicator = kiwipy.LocalCommunicator()
        controller = plumpy.RemoteProcessThreadController(communicator)
        everyone = [Waits(communicator=communicator) for _ in range(3)]
        stepping = [asyncio.create_task(p.step_until_terminated()) for p in everyone]
        await asyncio.sleep(0)
        controller.pause_all("rest")
        await until(lambda: all(p.paused for p in everyone))
        assert {p.status for p in everyone} == {"rest"}
        controller.play_all()
        await until(lambda: not any(p.paused for p in everyone))
        controller.kill_all("enough")
        await asyncio.wait_for(asyncio.gather(*stepping), TIMEOUT)
        assert {p.killed_msg()["message"] for p in everyone} == {"enough"}

    async def test_nobody_answers_for_an_unknown_process(self):
        communicator = kiwipy.LocalCommunicator()
        with pytest.raises(kiwipy.UnroutableError):
            await plumpy.RemoteProcessController(communicator).get_status("nobody")
        with pytest.raises(kiwipy.UnroutableError):
            plumpy.RemoteProcessThreadController(communicator).kill_process("nobody")

    async def test_an_unknown_intent_is_an_error_without_a_traceback(self):
        """S7: error answers showed the sender files and lines of the worker."""
        communicator = kiwipy.LocalCommunicator()
        process = Waits(communicator=communicator)
        for msg in ({"intent": "dance"}, {}, None, "kill", 5, {"intent": ["kill"]}):
            with pytest.raises(Exception) as caught:
                answer = communicator.rpc_send(str(process.pid), msg).result(0)
                if isinstance(answer, kiwipy.Future):
                    await asyncio.wrap_future(answer)
            assert "Traceback" not in str(caught.value)
            assert not process.has_terminated()

    def test_what_a_controller_sends(self):
        communicator = mock.Mock()
        controller = plumpy.RemoteProcessThreadController(communicator)
        controller.pause_all("x")
        controller.play_all()
        controller.kill_all("y")
        controller.kill_process("p", force_kill=True)
        assert communicator.mock_calls == [
            mock.call.broadcast_send(body, sender=None, subject=subject, correlation_id=None)
            for body, subject in (
                (MessageBuilder.pause("x"), "pause"),
                (None, "play"),
                (MessageBuilder.kill("y"), "kill"),
            )
        ] + [
            mock.call.rpc_send("p", MessageBuilder.kill(None, True)),
        ]


def outcome(future: Any) -> Any:
    """Wait in a thread for the innermost result of a controller's future."""
    while isinstance(future, kiwipy.Future):
        future = future.result(TIMEOUT)
    return future


async def until(condition) -> None:
    """Let the loop turn until a condition holds."""

    async def turn():
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(turn(), TIMEOUT)


class TestOverRabbitMQ:
    """The three cases: calls to one process, broadcasts to all, tasks for none yet."""

    @pytest.mark.parametrize("wrapped", [True, False])
    async def test_one_process_controlled_from_another_thread(self, communicator, wrapped):
        comm = plumpy.wrap_communicator(communicator) if wrapped else communicator
        process = Waits(communicator=comm)
        stepping = asyncio.create_task(process.step_until_terminated())
        controller = plumpy.RemoteProcessThreadController(communicator)

        def control() -> list[Any]:
            status = controller.get_status(process.pid).result(TIMEOUT)
            pausing = controller.pause_process(process.pid, "rest")
            # Two levels, as every release has them.
            results = [status["state"], pausing.result(TIMEOUT).result(TIMEOUT)]
            results.append(process.paused)
            results.append(outcome(controller.play_process(process.pid)))
            results.append(outcome(controller.kill_process(process.pid, "enough")))
            return results

        results = await asyncio.to_thread(control)
        assert results[0] in ("ProcessState.WAITING", "ProcessState.RUNNING")
        assert results[1:] == [True, True, True, True]
        await asyncio.wait_for(stepping, TIMEOUT)
        assert process.killed_msg()["message"] == "enough"

    async def test_one_process_controlled_from_the_same_loop(self, communicator):
        process = Waits(communicator=communicator)
        stepping = asyncio.create_task(process.step_until_terminated())
        controller = plumpy.RemoteProcessController(communicator)
        assert await controller.pause_process(process.pid)
        assert await controller.play_process(process.pid)
        assert (await controller.get_status(process.pid))["paused"] is False
        assert await controller.kill_process(process.pid)
        await asyncio.wait_for(stepping, TIMEOUT)

    async def test_callbacks_run_on_the_loop_of_the_process(self, communicator):
        """E20: over an unwrapped communicator they ran in its thread."""
        process = NotesThreads(communicator=communicator)
        stepping = asyncio.create_task(process.step_until_terminated())
        controller = plumpy.RemoteProcessController(communicator)
        await controller.pause_process(process.pid)
        await controller.play_process(process.pid)
        await controller.kill_process(process.pid)
        await asyncio.wait_for(stepping, TIMEOUT)
        assert process.threads == {threading.get_ident()}

    async def test_all_processes(self, communicator):
        controller = plumpy.RemoteProcessThreadController(communicator)
        everyone = [Waits(communicator=communicator) for _ in range(5)]
        stepping = [asyncio.create_task(p.step_until_terminated()) for p in everyone]
        for process in everyone:
            await plumpy.RemoteProcessController(communicator).get_status(process.pid)
        await asyncio.to_thread(controller.pause_all, "rest")
        await until(lambda: all(p.paused for p in everyone))
        await asyncio.to_thread(controller.play_all)
        await until(lambda: not any(p.paused for p in everyone))
        await asyncio.to_thread(controller.kill_all, "enough")
        await asyncio.wait_for(asyncio.gather(*stepping), TIMEOUT)
        assert {p.killed_msg()["message"] for p in everyone} == {"enough"}

    async def test_tasks(self, communicator, loop_communicator):
        persister = plumpy.InMemoryPersister()
        loop_communicator.add_task_subscriber(plumpy.ProcessLauncher(persister=persister))
        controller = plumpy.RemoteProcessController(communicator)
        assert await controller.launch_process(Adds, init_kwargs={"inputs": {"a": 5}}) == {"sum": 6}
        assert await controller.execute_process(Adds) == {"sum": 2}
        assert await controller.launch_process(Adds, no_reply=True) is None
        with pytest.raises(kiwipy.RemoteException, match="on purpose"):
            await controller.launch_process(Fails)
        sync = plumpy.RemoteProcessThreadController(communicator)
        future = await asyncio.to_thread(sync.execute_process, Adds)
        assert await asyncio.to_thread(outcome, future) == {"sum": 2}

    async def test_a_launched_process_can_be_called_as_soon_as_its_pid_is_known(
        self, communicator, loop_communicator
    ):
        loop_communicator.add_task_subscriber(plumpy.ProcessLauncher())
        controller = plumpy.RemoteProcessController(communicator)
        for _ in range(20):
            pid = await controller.launch_process(Waits, nowait=True)
            assert await controller.kill_process(pid)

    async def test_state_changes_are_broadcast_in_order(self, communicator):
        heard: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hear(_comm, body, sender, subject, _correlation_id):
            loop.call_soon_threadsafe(heard.put_nowait, (body, sender, subject))

        await asyncio.to_thread(communicator.add_broadcast_subscriber, hear)
        process = Adds(pid=123, communicator=communicator)
        await process.step_until_terminated()
        received = [await asyncio.wait_for(heard.get(), TIMEOUT) for _ in range(3)]
        assert received == [
            (None, 123, "state_changed.None.created"),
            (None, 123, "state_changed.created.running"),
            (None, 123, "state_changed.running.finished"),
        ]

    async def test_creating_a_process_twice_is_refused(self, communicator):
        process = Waits(pid=1, communicator=communicator)
        with pytest.raises(kiwipy.DuplicateSubscriberIdentifier):
            Waits(pid=1, communicator=communicator)
        process.kill()

    async def test_a_process_that_has_ended_cannot_be_called(self, communicator):
        process = Adds(communicator=communicator)
        controller = plumpy.RemoteProcessController(communicator)
        await controller.get_status(process.pid)
        await process.step_until_terminated()
        with pytest.raises((kiwipy.UnroutableError, kiwipy.RemoteException)):
            while True:
                await controller.get_status(process.pid)

    async def test_an_answer_never_waits_for_the_next_wake_up(self, communicator):
        """E1: an idle worker kept up to 30 % of its answers until something else woke it.

        The loop of the worker runs in another thread and has nothing else to do; each answer is
        due before the next call. 500 calls with one in five lost pass with a chance of 0.8 ** 500.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        async def start() -> Any:
            process = Waits(communicator=communicator)
            return process, asyncio.create_task(process.step_until_terminated())

        process, stepping = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(start(), loop)
        )
        controller = plumpy.RemoteProcessThreadController(communicator)

        def ask() -> None:
            for _ in range(250):
                controller.get_status(process.pid).result(TIMEOUT)
                outcome(controller.play_process(process.pid))

        await asyncio.to_thread(ask)
        await asyncio.to_thread(lambda: outcome(controller.kill_process(process.pid)))
        await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(stepping, TIMEOUT), loop)
        )
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT)
        loop.close()
