"""The keeper ends what it keeps, all of it, whatever becomes of the owner. No broker needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.broker.keeping import Keeper
from harness.broker.local import sweep
from harness.broker.processes import Owner, descendants, started, wait_until
from harness.broker.run import Run
from harness.errors import HarnessError

if not Path("/proc/self/stat").exists():
    pytest.skip("processes are found through /proc", allow_module_level=True)

#: Starts a helper that detaches itself from it, as Erlang's port mapper does, and stays.
SERVER = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
open(sys.argv[1] + "/" + str(os.getpid()), "w").close()
time.sleep(600)
"""


def spec(pids: Path) -> dict[str, Any]:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    return {
        "environment": dict(os.environ),
        "server": [sys.executable, "-c", SERVER, str(pids)],
        "epmd": sleep,
    }


def pids_in(directory: Path) -> list[int]:
    return [int(path.name) for path in directory.iterdir()]


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run.new(owner=Owner.me())
    yield made
    made.finish()


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def start(run: Run, owner: Owner, pids: Path) -> Keeper:
    keeper = Keeper.start(run, owner, "node", **spec(pids))
    keeper.ask("start")
    assert wait_until(lambda: len(pids_in(pids)) == 2, 20)
    return keeper


def test_the_end_of_the_owner_is_the_end_of_everything(
    run: Run, owner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    whose = Owner(owner.pid, started(owner.pid) or "", Owner.me().space)
    keeper = start(run, whose, tmp_path)
    kept = pids_in(tmp_path)
    owner.send_signal(signal.SIGKILL)
    assert wait_until(lambda: all(started(pid) is None for pid in kept), 20)
    assert wait_until(lambda: not keeper.directory.exists(), 20)
    assert wait_until(lambda: not keeper.is_alive, 20)


def test_told_to_end_it_leaves_nothing(run: Run, tmp_path: Path) -> None:
    keeper = start(run, Owner.me(), tmp_path)
    kept = pids_in(tmp_path)
    pid = int((keeper.directory / "keeper.pid").read_text())
    keeper.end()
    assert [each for each in [*kept, pid] if started(each) is not None] == []
    assert not keeper.directory.exists()
    keeper.end()


def test_a_terminated_keeper_leaves_nothing(run: Run, tmp_path: Path) -> None:
    keeper = start(run, Owner.me(), tmp_path)
    kept = pids_in(tmp_path)
    os.kill(int((keeper.directory / "keeper.pid").read_text()), signal.SIGTERM)
    assert wait_until(lambda: all(started(pid) is None for pid in kept), 20)


def test_it_is_no_child_of_its_owner(run: Run, tmp_path: Path) -> None:
    keeper = start(run, Owner.me(), tmp_path)
    pid = int((keeper.directory / "keeper.pid").read_text())
    assert pid not in descendants(os.getpid())


def test_a_killed_node_is_gone_with_its_detached_helpers_and_can_be_started_again(
    run: Run, tmp_path: Path
) -> None:
    keeper = start(run, Owner.me(), tmp_path)
    first = pids_in(tmp_path)
    keeper.ask("kill")
    assert [pid for pid in first if started(pid) is not None] == []
    assert keeper.ask("status")["exited"] == -signal.SIGKILL
    keeper.ask("start")
    assert wait_until(lambda: len(pids_in(tmp_path)) == 4, 20)


def test_a_paused_node_is_stopped_until_it_is_resumed(run: Run, tmp_path: Path) -> None:
    def states() -> set[str]:
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in pids_in(tmp_path)]
        return {stat.rpartition(")")[2].split()[0] for stat in stats}

    keeper = start(run, Owner.me(), tmp_path)
    keeper.ask("pause")
    assert wait_until(lambda: states() == {"T"}, 5)
    keeper.ask("resume")
    assert wait_until(lambda: states() == {"S"}, 5)


def test_the_next_run_ends_what_a_killed_keeper_left(run: Run, tmp_path: Path) -> None:
    directory = run.directory / "node"
    directory.mkdir()
    keeper = Keeper(directory)
    described = spec(tmp_path)
    described["environment"]["HOME"] = str(directory)  # by which a node is known
    keeper.spawn(Owner.me(), "node", **described)
    keeper.ask("start")
    assert wait_until(lambda: len(pids_in(tmp_path)) == 2, 20)
    pid = int((directory / "keeper.pid").read_text())
    kept = descendants(pid)
    sweep()
    assert [each for each in kept if started(each) is None] == []
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: started(pid) is None, 10)
    sweep()
    assert wait_until(lambda: all(started(each) is None for each in kept), 10)
    assert not directory.exists()


def test_the_next_run_removes_the_directory_of_an_ended_one(run: Run) -> None:
    ended = Run.new(owner=replace(Owner.me(), started="1"))
    left = [ended.directory, Run.new(owner=None).directory]
    mine = run.directory
    sweep()
    assert [path.exists() for path in [*left, mine]] == [False, True, True]
    left[1].rmdir()


def test_what_it_could_not_do_is_told(run: Run) -> None:
    broken = {"environment": {}, "server": ["/nonexistent/server"], "epmd": ["/nonexistent/epmd"]}
    keeper = Keeper.start(run, Owner.me(), "node", **broken)
    with pytest.raises(HarnessError, match=r"could not start: FileNotFoundError.*/nonexistent"):
        keeper.ask("start")


def test_a_keeper_that_is_gone_is_told(run: Run) -> None:
    with pytest.raises(HarnessError, match="keeper is gone"):
        Keeper(run.directory / "nobody").ask("status")
