"""The command ``plumpy``: a worker in one terminal, and what is typed in another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiormq
import kiwipy
import pytest

import plumpy
from plumpy import cli
from plumpy.persistence import SqlitePersister
from plumpy.worker import Worker

TIMEOUT = 30


class Waits(plumpy.Process):
    """Waits until it is killed."""

    def run(self):
        return plumpy.Wait(self.go_on, "waiting")

    def go_on(self, *_):
        """Finish."""


@pytest.fixture
def persister(tmp_path: Path) -> Iterator[SqlitePersister]:
    made = SqlitePersister(tmp_path / "processes.db")
    yield made
    made.close()


@pytest.fixture
async def worker(communicator: Any, persister: SqlitePersister) -> AsyncIterator[Worker]:
    made = Worker(communicator, persister, poll=0.05)
    task = asyncio.create_task(made.run())
    yield made
    made.stop()
    await asyncio.wait_for(task, TIMEOUT)


@pytest.fixture
def controller(communicator: Any) -> plumpy.RemoteProcessController:
    return plumpy.RemoteProcessController(communicator)


@pytest.fixture
def command(amqp_url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a program of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PLUMPY_BROKER": amqp_url,
            "PLUMPY_PERSISTER": f"sqlite:///{tmp_path / 'processes.db'}",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "plumpy.cli", *arguments],
            env=environment,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Any]:
    """A module with processes, where the command finds it."""
    (tmp_path / "steps_for_test.py").write_text(STEPS)
    sys.path.insert(0, str(tmp_path))
    try:
        import steps_for_test

        yield steps_for_test
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("steps_for_test", None)


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until a condition holds."""

    async def turn() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(turn(), TIMEOUT)


class TestDying:
    async def test_a_worker_that_is_killed_loses_nothing(
        self, command, controller, persister, steps
    ):
        options = ("worker", "--lease", "1", "--poll", "0.2", "--slots", "3")
        first = command(*options)
        answers = [asyncio.create_task(controller.launch_process(steps.Slow)) for _ in range(3)]
        ledger = persister.ledger()
        await until(lambda: any(ledger.recorded(run.pid) for run in ledger.all()))
        first.send_signal(signal.SIGKILL)
        first.communicate()
        second = command(*options)
        assert await asyncio.wait_for(asyncio.gather(*answers), TIMEOUT) == [{"n": 3}] * 3
        second.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(second.communicate)
        assert second.returncode == 0, output
        for run in ledger.all():
            assert run.state == "finished"
            assert set(ledger.recorded(run.pid)) == {"1", "2", "3"}

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
    async def test_a_worker_that_is_told_to_stop_gives_back_what_it_runs(
        self, command, controller, persister, steps, name
    ):
        process = command("worker", "--stop-limit", "0.1")
        await self._begin(controller, steps.Long, persister)
        process.send_signal(getattr(signal, name))
        output, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, output
        (run,) = persister.ledger().all()
        assert (run.active, run.worker) == (True, None)
        assert "Traceback" not in output

    @pytest.mark.parametrize("kind", ["Long", "Threaded"])
    async def test_a_second_signal_does_not_wait_for_steps(
        self, command, controller, persister, steps, kind
    ):
        process = command("worker", "--stop-limit", "1000")
        await self._begin(controller, getattr(steps, kind), persister)
        for line in process.stdout:
            if "takes tasks" in line:
                break
        process.send_signal(signal.SIGTERM)
        for line in process.stdout:
            if "stops" in line:
                break
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(process.communicate, timeout=TIMEOUT)
        assert process.returncode == 0, output
        assert persister.ledger().all()[0].worker is None

    async def test_a_third_signal_ends_even_a_worker_whose_loop_is_blocked(
        self, command, controller, persister, steps, tmp_path
    ):
        process = command("worker")
        await self._begin(controller, steps.Blocks, persister)
        await until((tmp_path / "blocked").exists)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.05)
        assert process.returncode == 128 + signal.SIGINT
        (run,) = persister.ledger().all()
        assert run.active

    async def _begin(self, controller: Any, process_class: Any, persister: Any) -> None:
        await controller.launch_process(process_class, nowait=True, no_reply=True)
        await until(lambda: persister.ledger().all())

    async def test_a_step_that_blocks_for_longer_than_the_lease_is_done_once(
        self, command, controller, persister, steps
    ):
        """Else two workers would take it from each other for ever."""
        for _ in range(2):
            command("worker", "--lease", "0.6", "--poll", "0.1")
        answer = controller.launch_process(steps.BlocksAWhile)
        assert await asyncio.wait_for(answer, TIMEOUT) == {}
        (run,) = persister.ledger().all()
        assert (run.state, run.term) == ("finished", 1)

    @pytest.mark.parametrize("request_", ["pause", "play", "kill"])
    async def test_what_was_answered_outlives_a_worker_that_is_killed_at_once(
        self, command, controller, persister, steps, request_
    ):
        """The next worker finds the process as the caller was told that it is."""
        options = ("worker", "--lease", "1", "--poll", "0.2")
        first = command(*options)
        await controller.launch_process(steps.Waits, init_kwargs={"pid": "w"}, nowait=True)
        if request_ == "play":
            assert await controller.pause_process("w")
        assert await getattr(controller, f"{request_}_process")("w")
        first.kill()
        first.communicate()
        ledger = persister.ledger()
        if request_ == "kill":
            (run,) = ledger.all()
            assert (run.state, run.active) == ("killed", False)
            return
        command(*options)
        await until(lambda: ledger.all()[0].term > 1)
        status = None
        while status is None:
            with contextlib.suppress(kiwipy.UnroutableError, kiwipy.RemoteException):
                status = await asyncio.wait_for(controller.get_status("w"), TIMEOUT)
        assert status["paused"] is (request_ == "pause")

    @pytest.mark.parametrize("kind", ["Forks", "ForksAndExits", "ForksAndAwaits"])
    async def test_a_child_that_a_step_forks_is_no_second_worker(
        self, command, controller, persister, steps, kind, tmp_path
    ):
        process = command("worker")
        await controller.launch_process(getattr(steps, kind), nowait=True, no_reply=True)
        child = tmp_path / "child"
        await until(lambda: child.exists() and child.read_text())
        pid = int(child.read_text())
        await until(lambda: not _lives(pid))
        assert await controller.launch_process(steps.Slow) == {"n": 3}
        assert persister.ledger().counts() == {"finished": 2}
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, output
        assert "Traceback" not in output

    async def test_what_steps_leave_behind_does_not_end_a_worker(self, command, controller, steps):
        process = command("worker")
        await controller.launch_process(steps.LeavesATask)
        assert await controller.launch_process(steps.Slow) == {"n": 3}
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, output
        assert "SystemExit(4) does not end a worker" in output


def _lives(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class TestControl:
    async def test_processes_are_listed_and_controlled(self, worker, command, controller):
        pid = str(await controller.launch_process(Waits, nowait=True))

        async def run(*arguments: str) -> tuple[int, str]:
            process = command(*arguments)
            output, _ = await asyncio.to_thread(process.communicate)
            return process.returncode, output

        for arguments, expected in (
            (("pause", pid, "-m", "rest"), "pause: done"),
            (("status", pid), "paused: True"),
            (("play", pid), "play: done"),
            (("list",), pid),
            (("list", "--json"), '"state": "waiting"'),
            (("kill", pid), "kill: done"),
        ):
            code, output = await run(*arguments)
            assert code == 0, output
            assert expected in output
        code, output = await run("kill", pid)
        assert (code, "no worker runs it" in output) == (1, True)
        assert (await run("list"))[1].endswith("0 processes; 1 that ended are listed with --all\n")

    def test_a_list_says_what_it_leaves_out(self, persister, capsys):
        for number in range(3):
            persister.ledger().open(
                f'"{number}"',
                name=str(number),
                process_class="module:Class",
                queue="q",
                state="running",
                bundle="{}",
                worker="w" if number else None,
                seconds=60,
                caller=None,
            )
        url = f"sqlite:///{persister._database._path}"
        assert cli.main(["list", "--persister", url, "--limit", "1"]) == 0
        assert capsys.readouterr().out.endswith("\n1 process of 2; --limit 2 lists them all\n")

    def test_a_list_that_nobody_reads_is_no_error(self, command, persister):
        """As with ``plumpy list | head``, or with an output that is closed."""
        for closed in ("| true", ">&-"):
            done = subprocess.run(
                f"{sys.executable} -m plumpy.cli list --persister "
                f"sqlite:///{persister._database._path} {closed}",
                shell=True,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                check=False,
            )
            assert done.stderr == ""


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["worker", "--persister", "mysql://u:secret@x"], "unknown persister"),
            (["worker", "--persister", ""], "which processes?"),
            (["worker", "--persister", "sqlite:///"], "names no file"),
            (["worker", "--persister", "sqlite:///:memory:"], "names no file"),
            (["worker", "--persister", "sqlite:////proc/x.db"], "cannot open"),
            (["worker", "--persister", "sqlite:///no ne/x.db"], "no directory no ne for"),
            (["worker", "--persister", "sqlite:///no ne/x.db"], "mkdir -p 'no ne'"),
            (["list", "--persister", "sqlite:////no/ne/x.db"], "no directory /no/ne for"),
            (["worker", "--persister", "sqlite:///damaged"], "not a database"),
            (["worker", "--persister", "sqlite:///x.db", "--broker", "http://x"], "is no broker"),
            (["worker", "--persister", "sqlite:///x.db", "--broker", ""], "is no broker"),
            (["worker", "--persister", "sqlite:///x.db", "--lease", "inf"], "--lease inf"),
            (["worker", "--persister", "sqlite:///x.db", "--heartbeat", "-1"], "--heartbeat -1"),
            (["worker", "--persister", "sqlite:///x.db", "--queue", ""], "needs a name"),
            (["worker", "--persister", "sqlite:///x.db", "--import", "none"], "cannot import none"),
            (["worker", "--persister", "sqlite:///x.db", "--import", "damaged"], "SyntaxError"),
            (["list", "--persister", "sqlite:///none.db"], "there is no file none.db"),
            (["kill"], "which processes? Give pids"),
            (["status", "x", "--broker", "amqp://u:secret@127.0.0.1:1/"], "cannot connect to amqp"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage_is_one_clear_line(self, arguments, text, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("PLUMPY_PERSISTER", raising=False)
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "damaged").write_text("this is no database" * 100)
        (tmp_path / "damaged.py").write_text("x = (")
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
        assert "secret" not in error
        assert not (tmp_path / "none.db").exists()
        assert not (tmp_path / "no ne").exists(), "a typo made a database that nobody meant"

    def test_an_interrupt_is_not_lost_while_a_worker_starts(self, tmp_path):
        """As an exception in a callback it was printed and ignored, and the worker went on."""
        (tmp_path / "interrupts.py").write_text(INTERRUPTS)
        done = subprocess.run(
            [sys.executable, "-m", "plumpy.cli", "worker", "--import", "interrupts"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            timeout=TIMEOUT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (130, "")

    def test_a_vhost_that_is_not_there_is_named(self, amqp_url, tmp_path, capsys):
        url = amqp_url.rpartition("/")[0] + "/none"
        persister = f"sqlite:///{tmp_path / 'x.db'}"
        assert cli.main(["worker", "--persister", persister, "--broker", url]) == 2
        assert "vhost none not found" in capsys.readouterr().err

    def test_a_queue_of_another_kind_is_named(self, amqp_url, tmp_path, capsys):
        async def declare() -> None:
            connection = await aiormq.connect(amqp_url)
            await (await connection.channel()).queue_declare("odd", durable=False)
            await connection.close()

        asyncio.run(declare())
        persister = f"sqlite:///{tmp_path / 'x.db'}"
        arguments = ["worker", "--persister", persister, "--broker", amqp_url, "--queue", "odd"]
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert "cannot use the queue 'odd'" in error
        assert error.count("\n") == 1


INTERRUPTS = """
import signal

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

Deleted()
"""

STEPS = """
import asyncio
import os
import pathlib
import time

import plumpy
from plumpy.worker import record


class Slow(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.output("n", valid_type=int)

    def run(self):
        return plumpy.Continue(self.step_on, 1)

    async def step_on(self, number):
        record(str(number), number)
        await asyncio.sleep(0.3)
        if number < 3:
            return plumpy.Continue(self.step_on, number + 1)
        self.out("n", number)


class Waits(plumpy.Process):
    def run(self):
        return plumpy.Wait(self.go_on)

    def go_on(self, *_):
        pass


class Long(plumpy.Process):
    async def run(self):
        await asyncio.sleep(1000)


class Threaded(plumpy.Process):
    async def run(self):
        await asyncio.to_thread(time.sleep, 20)


class Forks(plumpy.Process):
    def run(self):
        if os.fork() == 0:
            pathlib.Path("child").write_text(str(os.getpid()))


class ForksAndExits(plumpy.Process):
    def run(self):
        if os.fork() == 0:
            pathlib.Path("child").write_text(str(os.getpid()))
            raise SystemExit(0)


class ForksAndAwaits(plumpy.Process):
    async def run(self):
        if os.fork() == 0:
            pathlib.Path("child").write_text(str(os.getpid()))
        await Later()


class Later:
    def __await__(self):
        yield


class LeavesATask(plumpy.Process):
    async def run(self):
        async def leave():
            raise SystemExit(4)

        self.task = asyncio.ensure_future(leave())


class BlocksAWhile(plumpy.Process):
    def run(self):
        time.sleep(2.5)


class Blocks(plumpy.Process):
    def run(self):
        pathlib.Path("blocked").touch()
        time.sleep(1000)
"""
