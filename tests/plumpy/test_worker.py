"""A worker over a real RabbitMQ: tasks, slots, leases, stopping and dying."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import kiwipy
import pytest

import plumpy
from plumpy import ToContext, _crossing
from plumpy._codec import decode_safely
from plumpy.persistence import SqlitePersister
from plumpy.worker import Worker, record, submit

TIMEOUT = 30
GATES: dict[str, asyncio.Event] = {}


class Adds(plumpy.Process):
    """Does some steps, each of which it records, and finishes with an output."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("a", valid_type=int, default=1)
        spec.output("sum", valid_type=int)

    def run(self):
        record("run", 0)
        return plumpy.Continue(self.more, 1)

    def more(self, number):
        record(f"step {number}", number)
        if number < 3:
            return plumpy.Continue(self.more, number + 1)
        self.out("sum", self.inputs.a + number)
        return None


class Fails(plumpy.Process):
    """Excepts."""

    def run(self):
        raise ValueError("on purpose")


class Waits(plumpy.Process):
    """Waits until it is resumed or killed."""

    def run(self):
        return plumpy.Wait(self.go_on, "waiting")

    def go_on(self, *_):
        """Finish."""


class Unsavable(plumpy.Process):
    """Has a state that has no form as text."""

    def run(self):
        return plumpy.Continue(self.go_on, object())

    def go_on(self, _):
        """Never come here."""


class Raises(plumpy.Process):
    """Raises, in a step, what ends a program or a task."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("name", valid_type=str)
        spec.input("awaits", valid_type=bool)

    def run(self):
        return plumpy.Continue(self.go_on if self.inputs.awaits else self.raise_it)

    def raise_it(self):
        raise ESCAPES[self.inputs.name]

    async def go_on(self):
        await asyncio.sleep(0)
        self.raise_it()


class RaisesAtOnce(plumpy.Process):
    """Cannot be made without ending the program."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        raise SystemExit("enough")


ESCAPES: dict[str, BaseException] = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "cancel": asyncio.CancelledError(),
    "close": GeneratorExit(),
}


class Counts(plumpy.WorkChain):
    """Changes its context in the middle of a step, which lasts until the gate opens."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("gate", valid_type=str)
        spec.outline(cls.start, cls.count, cls.end)

    def start(self):
        self.ctx.count = 0

    async def count(self):
        self.ctx.count += 1
        GATES["reached"].set()
        await GATES[self.inputs.gate].wait()

    def end(self):
        """Finish."""


class Gated(plumpy.Process):
    """Is in a step until the gate opens."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("gate", valid_type=str)

    async def run(self):
        await GATES[self.inputs.gate].wait()


class Parent(plumpy.WorkChain):
    """Waits for children that any worker runs."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.start, cls.end)
        spec.output("total", valid_type=int)

    def start(self):
        return ToContext(first=submit(Adds, {"a": 1}), second=submit(Adds, {"a": 2}))

    def end(self):
        self.out("total", self.ctx.first["sum"] + self.ctx.second["sum"])


@pytest.fixture
def persister(tmp_path: Path) -> Iterator[SqlitePersister]:
    made = SqlitePersister(tmp_path / "processes.db")
    yield made
    made.close()


@pytest.fixture
async def worker(
    communicator: Any, persister: SqlitePersister
) -> AsyncIterator[Callable[..., Any]]:
    """Start workers in this loop; they are stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def start(**options: Any) -> Worker:
            made = Worker(communicator, persister, **{"slots": 4, "poll": 0.05, **options})
            task = asyncio.create_task(made.run())

            async def stop() -> None:
                made.stop()
                await asyncio.wait_for(task, TIMEOUT)

            stack.push_async_callback(stop)
            return made

        yield start


@pytest.fixture
def controller(communicator: Any) -> plumpy.RemoteProcessController:
    return plumpy.RemoteProcessController(communicator)


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until a condition holds."""

    async def turn() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(turn(), TIMEOUT)


class TestTasks:
    async def test_launch_answers_with_the_outputs(self, worker, controller, persister):
        worker()
        assert await controller.launch_process(Adds, init_kwargs={"inputs": {"a": 4}}) == {"sum": 7}
        await until(lambda: not persister.ledger().all()[0].callers)
        (run,) = persister.ledger().all()
        assert (run.state, run.active) == ("finished", False)
        assert set(persister.ledger().recorded(run.pid)) == {"run", "step 1", "step 2", "step 3"}

    async def test_execute_creates_and_continues(self, worker, controller):
        worker()
        assert await controller.execute_process(Adds) == {"sum": 4}

    async def test_nowait_answers_with_a_pid_that_can_be_called(self, worker, controller):
        worker()
        pid = await controller.launch_process(Waits, nowait=True)
        assert await controller.pause_process(pid)
        assert await controller.kill_process(pid)

    async def test_errors_are_answers(self, worker, controller, communicator):
        worker()
        with pytest.raises(kiwipy.RemoteException, match="ValueError: on purpose"):
            await controller.launch_process(Fails)
        with pytest.raises(kiwipy.RemoteException, match="cannot save"):
            await controller.launch_process(Unsavable)
        with pytest.raises(kiwipy.RemoteException, match="no checkpoint of process 77"):
            await controller.continue_process(77)

    @pytest.mark.parametrize(
        "task",
        [
            None,
            "launch",
            {},
            {"task": "explode"},
            {"task": ["launch"]},
            {"task": "launch", "args": None},
            {"task": "launch", "args": {"process_class": "os:system", "init_args": ["exit"]}},
            {"task": "launch", "args": {"process_class": f"{__name__}:Adds", "init_kwargs": [1]}},
            {
                "task": "launch",
                "args": {
                    "process_class": f"{__name__}:Adds",
                    "init_kwargs": {"inputs": {"a": "text"}},
                },
            },
            {"task": "continue", "args": {"pid": {"un": "hashable"}}},
            {"task": "continue", "args": {"pid": 1, "tag": "t"}},
        ],
    )
    async def test_a_malformed_task_is_answered_and_the_worker_goes_on(
        self, worker, controller, communicator, task
    ):
        worker()
        answer = await asyncio.to_thread(communicator.task_send, task)
        with pytest.raises(kiwipy.RemoteException):
            while isinstance(answer, kiwipy.Future):
                answer = await asyncio.wait_for(asyncio.wrap_future(answer), TIMEOUT)
        assert await controller.launch_process(Adds) == {"sum": 4}

    async def test_classes_can_be_limited(self, worker, controller):
        worker(allow=["*:Adds"])
        assert await controller.launch_process(Adds) == {"sum": 4}
        with pytest.raises(kiwipy.RemoteException, match="not among the classes allowed"):
            await controller.launch_process(Fails)

    async def test_a_task_delivered_again_starts_no_second_process(
        self, worker, controller, communicator, persister
    ):
        worker()
        body = plumpy.create_launch_body(
            Waits, init_kwargs={"pid": "same"}, persist=True, nowait=True
        )
        for _ in range(3):
            answer = await asyncio.to_thread(communicator.task_send, body)
            assert await asyncio.wrap_future(_flat(answer)) == "same"
        assert len(persister.ledger().all()) == 1
        await controller.kill_process("same")

    async def test_continuing_a_process_that_runs_waits_for_it(self, worker, controller, persister):
        worker()
        pid = await controller.launch_process(Waits, nowait=True)
        waiting = asyncio.create_task(controller.continue_process(pid))
        await until(lambda: persister.ledger().all()[0].callers)
        await controller.kill_process(pid, "enough")
        with pytest.raises(kiwipy.RemoteException, match="KilledError: enough"):
            await asyncio.wait_for(waiting, TIMEOUT)

    async def test_continuing_a_process_that_has_ended_answers_at_once(
        self, worker, controller, persister
    ):
        worker()
        await controller.launch_process(Adds)
        (run,) = persister.ledger().all()
        assert await controller.continue_process(plumpy_pid(run.name)) == {"sum": 4}


def plumpy_pid(name: str) -> Any:
    """Return the pid that reads so."""
    import uuid

    return uuid.UUID(name)


def _flat(future: Any) -> Any:
    return plumpy.futures.unwrap_kiwi_future(future)


class TestSlots:
    async def test_no_more_steps_at_a_time_than_slots(self, worker, controller, persister):
        GATES["slots"] = gate = asyncio.Event()
        made = worker(slots=2)
        kwargs = {"inputs": {"gate": "slots"}}
        answers = [
            asyncio.create_task(controller.launch_process(Gated, init_kwargs=kwargs))
            for _ in range(5)
        ]
        await until(lambda: len(made.processes) == 2)
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert len(made.processes) <= 2
        gate.set()
        await asyncio.wait_for(asyncio.gather(*answers), TIMEOUT)

    async def test_processes_that_wait_hold_no_slot(self, worker, controller):
        worker(slots=1)
        pids = [await controller.launch_process(Waits, nowait=True) for _ in range(5)]
        assert await controller.launch_process(Adds) == {"sum": 4}
        for pid in pids:
            await controller.kill_process(pid)

    async def test_a_parent_that_waits_for_children_holds_no_slot(self, worker, controller):
        """A parent of two children, all in one slot: it would wait for ever for its children."""
        worker(slots=1)
        answer = controller.launch_process(Parent)
        assert await asyncio.wait_for(answer, TIMEOUT) == {"total": 9}


class TestEscapes:
    """What ends a program, or a task, ends the process whose code raised it and nothing else."""

    @pytest.mark.parametrize("awaits", [False, True], ids=["at once", "later"])
    @pytest.mark.parametrize("name", ESCAPES)
    async def test_from_a_step(self, worker, controller, persister, name, awaits):
        worker()
        with pytest.raises(kiwipy.RemoteException, match="ends the process and not its worker"):
            await controller.launch_process(
                Raises, init_kwargs={"inputs": {"name": name, "awaits": awaits}}
            )
        assert persister.ledger().all()[0].state == "excepted"
        assert await controller.launch_process(Adds) == {"sum": 4}

    async def test_from_a_constructor(self, worker, controller):
        worker()
        with pytest.raises(kiwipy.RemoteException, match="SystemExit"):
            await controller.launch_process(RaisesAtOnce)
        assert await controller.launch_process(Adds) == {"sum": 4}

    async def test_from_a_module(self, worker, controller, communicator, tmp_path, monkeypatch):
        (tmp_path / "exits_when_imported.py").write_text("class Class:\n    raise SystemExit(1)\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        worker()
        with pytest.raises(kiwipy.RemoteException, match="SystemExit"):
            body = plumpy.create_launch_body(Adds)
            body["args"]["process_class"] = "exits_when_imported:Class"
            await plumpy._sending.send_task_and_wait(communicator, body, False)
        assert await controller.launch_process(Adds) == {"sum": 4}


class TestTakingOver:
    async def test_a_process_of_a_dead_worker_goes_on(self, worker, controller, persister):
        process = Adds({"a": 1}, pid="left")
        ledger = persister.ledger()
        ledger.open(
            '"left"',
            name="left",
            process_class=f"{__name__}:Adds",
            queue="kiwipy.tasks",
            state="created",
            bundle=plumpy.persistence._codec.dumps(dict(plumpy.Bundle(process))),
            worker="dead",
            seconds=0.0,
            caller=None,
        )
        process.close()
        worker()
        await until(lambda: ledger.find('"left"').outcome)
        assert ledger.find('"left"').state == "finished"

    async def test_a_worker_that_lost_a_process_lets_go_of_it(self, worker, controller, persister):
        made = worker(lease=0.3)
        await controller.launch_process(Waits, nowait=True)
        with persister.ledger().transaction() as execute:
            execute("UPDATE runs SET worker = 'thief', term = term + 1, expires = expires + 60")
        await until(lambda: not made.processes)
        assert persister.ledger().all()[0].worker == "thief"

    async def test_what_was_asked_of_a_process_is_stored_when_it_is_answered(
        self, worker, controller, persister
    ):
        worker(poll=60)
        pid = await controller.launch_process(Waits, nowait=True)
        for _ in range(2):
            assert await controller.pause_process(pid)
            assert persister.load_checkpoint(pid)["_paused"]
            assert await controller.play_process(pid)
            assert not persister.load_checkpoint(pid).get("_paused")
        assert await controller.kill_process(pid)
        assert persister.ledger().all()[0].state == "killed"

    @pytest.mark.parametrize("stored", [True, False])
    async def test_a_process_that_is_not_stored_yet_answers_nothing(
        self, worker, controller, persister, monkeypatch, stored
    ):
        """It could be paused or killed, and was forgotten if the worker died in that moment."""
        made = worker(poll=60)
        entering, enter = threading.Event(), threading.Event()
        entered = made.ledger.open

        def open_late(*args: Any, **kwargs: Any) -> Any:
            entering.set()
            enter.wait(TIMEOUT)
            if not stored:
                raise ValueError("no form")
            return entered(*args, **kwargs)

        monkeypatch.setattr(made.ledger, "open", open_late)
        await controller.launch_process(
            Waits, init_kwargs={"pid": "early"}, nowait=True, no_reply=True
        )
        await asyncio.to_thread(entering.wait, TIMEOUT)
        settled = _crossing.settled("early")
        if settled is not None:
            await asyncio.wrap_future(settled)
        answer = asyncio.ensure_future(controller.pause_process("early"))
        await asyncio.wait([answer], timeout=0.3)
        assert not answer.done()
        enter.set()
        if stored:
            assert await answer
            assert persister.load_checkpoint("early")["_paused"]
            assert await controller.kill_process("early")
        else:
            with pytest.raises(kiwipy.RemoteException, match="not run here; ask again"):
                await answer

    async def test_a_pause_in_a_step_is_stored_when_it_is_answered(
        self, worker, controller, persister
    ):
        GATES.update({"counted": asyncio.Event(), "reached": asyncio.Event()})
        made = worker(poll=60)
        kwargs = {"inputs": {"gate": "counted"}}
        pid = await controller.launch_process(Counts, init_kwargs=kwargs, nowait=True)
        await GATES["reached"].wait()
        paused = asyncio.ensure_future(controller.pause_process(pid))
        await until(lambda: made.processes[0]._pausing is not None)
        assert not paused.done()
        GATES["counted"].set()
        assert await paused
        bundle = persister.load_checkpoint(pid)
        assert bundle["_paused"]
        assert bundle["_context"]["count"] == 1
        assert await controller.kill_process(pid)

    @pytest.mark.parametrize("how", ["by a call", "by a broadcast", "by its own program"])
    async def test_no_step_is_stored_half_done(
        self, worker, controller, communicator, persister, how
    ):
        """To be played takes no checkpoint of the step that goes on by it, or is under way."""
        GATES.update({"counted": asyncio.Event(), "reached": asyncio.Event()})
        made = worker(poll=0.05)
        kwargs = {"inputs": {"gate": "counted"}, "pid": "counts"}
        thread = plumpy.RemoteProcessThreadController(communicator)
        body = plumpy.process_comms.create_create_body(Counts, init_kwargs=kwargs, persist=True)
        await plumpy._sending.send_task_and_wait(communicator, body, False)
        # It is paused before its first step.
        bundle = persister.load_checkpoint("counts")
        process = bundle.unbundle(plumpy.LoadSaveContext())
        process.pause("rest")
        persister.save_checkpoint(process)
        process.close()
        await controller.continue_process("counts", nowait=True)
        await until(lambda: made.processes)
        for _ in range(2):  # the second time it is in its step
            if how == "by a call":
                assert await controller.play_process("counts")
            elif how == "by a broadcast":
                await asyncio.to_thread(thread.play_all)
            else:
                made.processes[0].play()
            await GATES["reached"].wait()
        await until(lambda: not persister.load_checkpoint("counts").get("_paused"))
        assert persister.load_checkpoint("counts").get("_context", {}).get("count", 0) == 0
        GATES["counted"].set()
        await until(lambda: persister.ledger().all()[0].outcome)

    async def test_a_worker_that_lost_a_process_does_not_say_that_it_ended(
        self, worker, controller, communicator, persister
    ):
        """It was stopped for longer than its lease, and does not know yet."""
        worker(lease=600)
        pid = await controller.launch_process(Waits, nowait=True)
        subjects: list[str] = []
        communicator.add_broadcast_subscriber(
            lambda _comm, _body, sender, subject, _id: sender == pid and subjects.append(subject)
        )
        with persister.ledger().transaction() as execute:
            execute("UPDATE runs SET worker = 'other', term = term + 1")
        with pytest.raises(kiwipy.RemoteException, match="not run here any more"):
            await controller.kill_process(pid)
        await asyncio.to_thread(communicator.broadcast_send, None, pid, "the last one")
        await until(lambda: "the last one" in subjects)
        assert subjects == ["the last one"]
        assert persister.ledger().all()[0].state == "waiting"

    async def test_stopping_gives_processes_back_with_what_they_reached(
        self, communicator, persister, controller
    ):
        made = Worker(communicator, persister, poll=0.05)
        running = asyncio.create_task(made.run())
        await until(lambda: hasattr(made, "_consumer"))
        pid = await controller.launch_process(Waits, nowait=True)
        await controller.pause_process(pid, "rest")
        await until(lambda: persister.load_checkpoint(pid)["_paused"])
        made.stop()
        await asyncio.wait_for(running, TIMEOUT)
        (run,) = persister.ledger().all()
        assert (run.active, run.worker, run.outcome) == (True, None, None)
        with pytest.raises((kiwipy.UnroutableError, kiwipy.RemoteException)):
            await controller.get_status(pid)

    async def test_stopping_gives_back_what_was_leased_and_not_begun(
        self, communicator, persister, controller, monkeypatch
    ):
        made = Worker(communicator, persister, poll=0.05)
        leased = asyncio.Event()

        def stopped_before_it_runs(process: plumpy.Process, lease: Any) -> None:
            process.close()
            leased.set()

        monkeypatch.setattr(made, "run_process", stopped_before_it_runs)
        running = asyncio.create_task(made.run())
        await until(lambda: hasattr(made, "_consumer"))
        await controller.launch_process(Waits, nowait=True)
        await leased.wait()
        made.stop()
        await asyncio.wait_for(running, TIMEOUT)
        (run,) = persister.ledger().all()
        assert (run.active, run.worker) == (True, None)


class TestMessages:
    """Whatever arrives is read without running anything, or refused."""

    @pytest.mark.parametrize(
        "body",
        [
            b"!!python/object/apply:os.system ['exit 1']",
            b"!!python/object/new:subprocess.Popen [['touch', 'x']]",
            b"!!python/name:os.system",
            b"!!python/module:this",
            b"!plumpy:Bundle {a: 1}",
            b"\xff\xfe\x00",
            b"{a: [1, 2",
            b"a: 1\n---\nb: 2",
            b"? {a: 1}\n: 2",
            b"[" * 5000,
            b"[" * 101 + b"]" * 101,
            b"x" * (16 * 1024 * 1024 + 1),
            b"\n".join(
                [b"l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
                + [
                    b"l%d: &l%d [%s]" % (n, n, b", ".join([b"*l%d" % (n - 1)] * 10))
                    for n in range(1, 9)
                ]
            ),
        ],
        ids=lambda body: repr(body[:24]),
    )
    def test_hostile_bodies_are_refused(self, body):
        with pytest.raises(ValueError):
            decode_safely(body)

    def test_what_the_runtime_sends_is_read(self):
        import uuid

        from kiwipy.rmq import defaults

        for value in (
            ({"task": "continue", "args": {"pid": uuid.uuid4()}}, False),
            plumpy.MessageBuilder.kill("t", True),
            {"a": [1, 2.5, None, True, "x", b"bytes"]},
        ):
            assert decode_safely(defaults.ENCODER(value)) == value
