"""A run is shared by its workers, and by nobody else; what it shares is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.broker import run as runs
from harness.broker.processes import Owner
from harness.broker.run import Run
from harness.errors import HarnessError


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run.new(owner=Owner.me())
    yield made
    made.finish()


def test_what_is_shared_is_made_once(run: Run) -> None:
    made = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"n": len(made)}

    threads = [threading.Thread(target=run.share, args=("thing", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.share("thing", make) == {"n": 1}
    assert run.shared("thing") == {"n": 1}


def test_what_could_not_be_made_is_tried_again(run: Run) -> None:
    def fail() -> dict[str, int]:
        raise HarnessError("not now")

    with pytest.raises(HarnessError):
        run.share("thing", fail)
    assert run.shared("thing") is None
    assert run.share("thing", lambda: {"n": 2}) == {"n": 2}


def test_only_this_user_can_read_what_is_shared(run: Run) -> None:
    run.share("thing", lambda: {"password": "secret"})
    assert run.directory.stat().st_mode & 0o777 == 0o700
    assert (run.directory / "thing.json").stat().st_mode & 0o777 == 0o600


def test_a_finished_run_leaves_no_directory(run: Run) -> None:
    directory = run.directory
    run.finish()
    assert not directory.exists()
    run.finish()


def test_a_forked_child_does_not_finish_the_run(run: Run) -> None:
    directory = run.directory
    child = os.fork()
    if child == 0:
        run.finish()
        os._exit(0)
    os.waitpid(child, 0)
    assert directory.exists()


def ask_for_the_run(environment: dict[str, str], *, owner: Owner) -> str:
    """Return the id of the run that a child process would belong to."""
    handed = asdict(Run("theirs", owner))
    done = subprocess.run(
        [sys.executable, "-c", "from harness.broker import begin_run; print(begin_run().id)"],
        env={**os.environ, runs.ENVIRONMENT: json.dumps(handed), **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_worker_takes_over_the_run_of_its_controller() -> None:
    assert ask_for_the_run({"PYTEST_XDIST_WORKER": "gw0"}, owner=Owner.me()) == "theirs"


def test_a_pytest_inside_a_test_has_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert ask_for_the_run({}, owner=Owner.me()) != "theirs"
    worker = {"PYTEST_XDIST_WORKER": "gw0"}
    grandparent = Owner(os.getppid(), "1", Owner.me().space)
    assert ask_for_the_run(worker, owner=grandparent) != "theirs"


def test_a_deep_temporary_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.tempfile, "gettempdir", lambda: str(tmp_path / ("x" * 60)))
    assert runs.scratch_directory() == Path("/tmp")
    monkeypatch.setattr(runs.tempfile, "gettempdir", lambda: "/var/tmp")
    assert runs.scratch_directory() == Path("/var/tmp")
