"""Runs go out to interpreters and come back as observations, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from harness.matrix import runner as module
from harness.matrix.cache import protect
from harness.matrix.interpreters import Interpreter, discover, this_interpreter
from harness.matrix.runner import Ran, Run, Runner
from harness.outcome import Observation, Outcome

HEALTHY = """
import os, sys
sys.stdout.flush()
print("healthy", file=sys.stderr, flush=True)
os._exit(0)
"""


def run_all(runs: list[Run], jobs: int = 2) -> list[Observation]:
    found: dict[int, Ran] = {}
    with Runner(jobs) as runner:
        runner.run(runs, lambda run, ran: found.update({id(run): ran}))
    return [found[id(run)].observation for run in runs]


def test_every_interpreter_runs_the_script(tmp_path: Path) -> None:
    body = "import sys\nprint('%d.%d' % sys.version_info[:2])\n" + HEALTHY
    interpreters = discover().interpreters
    seen = run_all([Run("script", body, one) for one in interpreters])
    assert [one.output.strip() for one in seen] == [one.minor for one in interpreters]


def test_path_comes_before_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "wave.py").write_text("mine = 1\n")
    run = Run(
        "script", "import wave\nassert wave.mine\n" + HEALTHY, this_interpreter(), (str(tmp_path),)
    )
    assert run_all([run])[0].outcome is Outcome.HEALTHY


def test_evidence_names_no_place_of_this_machine(tmp_path: Path) -> None:
    """Paths are those of the script, the library and the standard library, wherever they lie."""
    (tmp_path / "demo.py").write_text("import json\ndef check(): json.loads('x')\n")
    text = "import demo, sys, traceback, os\ntry:\n    demo.check()\nexcept ValueError:\n"
    text += (
        "    traceback.print_exc()\n    print('bug: ValueError', file=sys.stderr)\n    os._exit(1)"
    )
    here = this_interpreter()
    (seen,) = run_all([Run("D1", text, here, (str(tmp_path),))])
    assert seen.outcome is Outcome.BUG
    for name in ('"D1.py"', '"demo.py"', '"lib/python'):
        assert f"File {name}" in seen.detail
    assert "resident" not in seen.detail
    assert str(tmp_path) not in seen.detail
    assert here.prefix not in seen.detail


def test_script_that_kills_its_parent_is_found_and_the_rest_goes_on() -> None:
    """Everything that was under way runs again, so only the culprit is blamed."""
    here = this_interpreter()
    killer = Run("killer", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n", here)
    others = [Run("other", HEALTHY, here) for _ in range(6)]
    seen = run_all([*others[:3], killer, *others[3:]], jobs=4)
    assert seen[3].outcome is Outcome.CRASH
    assert "did not survive" in seen[3].message
    assert [one.outcome for one in seen[:3] + seen[4:]] == [Outcome.HEALTHY] * 6


def test_script_that_stops_its_parent_holds_nobody_up() -> None:
    here = this_interpreter()
    stop = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + HEALTHY
    seen = run_all([Run("stop", stop, here), Run("other", HEALTHY, here)])
    assert [one.outcome for one in seen] == [Outcome.HEALTHY] * 2


def test_script_that_writes_among_what_its_parent_says_is_blamed() -> None:
    here = this_interpreter()
    write = """
import glob, os
for path in glob.glob("/proc/%d/fd/*" % os.getppid()):
    try:
        os.write(os.open(path, os.O_WRONLY), b"rubbish\\n")
    except OSError:
        pass
"""
    seen = run_all([Run("write", write + HEALTHY, here), Run("other", HEALTHY, here)], jobs=1)
    assert [one.outcome for one in seen] == [Outcome.CRASH, Outcome.HEALTHY]
    assert "did not survive" in seen[0].message


def test_process_of_a_script_that_kills_its_parent_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    script = f"""
import os, signal, subprocess, time
left = subprocess.Popen(["setsid", "sleep", "3600"])
with open({str(path)!r}, "a") as file:
    file.write("%d\\n%d\\n" % (os.getpid(), left.pid))
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(3600)
"""
    (seen,) = run_all([Run("leaves", script, this_interpreter())])
    assert seen.outcome is Outcome.CRASH
    pids = [int(line) for line in path.read_text().split()]
    assert len(pids) == 4
    for pid in pids:
        state = Path(f"/proc/{pid}/stat")  # a zombie waits for the init process
        assert not state.exists() or ") Z" in state.read_text()


def test_interpreter_that_does_not_start_is_said_and_the_rest_goes_on() -> None:
    here = this_interpreter()
    broken = Interpreter(
        "/bin/false", "3.9.9", "3.9.9 (broken)", "/nowhere", "x", "x", here.environment
    )
    gone = Interpreter(
        "/nowhere/python", "3.9.8", "3.9.8 (gone)", "/nowhere", "x", "x", here.environment
    )
    seen = run_all([Run("script", HEALTHY, one) for one in (broken, gone, here)])
    assert [one.outcome for one in seen] == [Outcome.BROKEN, Outcome.BROKEN, Outcome.HEALTHY]
    assert seen[0].message.startswith("Python 3.9.9 does not start")
    assert "No such file" in seen[1].message


FORKS = """
import os, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open({path!r}, "a") as file:
                file.write("%d\\n" % os.getpid())
            os.write(told, b"x")
            time.sleep(3600)
        os._exit(0)
ready, told = os.pipe()
for _ in range(3):
    daemon()
for _ in range(3):
    os.read(ready, 1)
"""


def test_nothing_that_a_script_started_is_left(tmp_path: Path) -> None:
    """Not even a daemon that left its session and its parent."""
    path = tmp_path / "pids"
    (seen,) = run_all([Run("forks", FORKS.format(path=str(path)) + HEALTHY, this_interpreter())])
    assert seen.outcome is Outcome.HEALTHY
    pids = [int(line) for line in path.read_text().split()]
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_process_left_by_one_run_is_not_killed_with_another(tmp_path: Path) -> None:
    """A run that ends ends its own, while those of a run still under way stay."""
    here = this_interpreter()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = f"""
import os, sys
ready, told = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        open({str(fifo)!r}).read()
        os.write(told, b"alive")
    os._exit(0)
os.wait()
assert os.read(ready, 5) == b"alive"
"""
    script = "import os, time\n" + HEALTHY
    found: list[str] = []

    def done(run: Run, ran: Ran) -> None:
        found.append(f"{run.name}: {ran.observation.outcome}")
        if run.name == "short":
            with open(fifo, "w") as file:
                file.write("go")

    with Runner(4) as runner:
        runner.run([Run("long", waiting + HEALTHY, here), Run("short", script, here)], done)
    assert found == ["short: healthy", "long: healthy"]


def test_release_cannot_be_written_over(tmp_path: Path) -> None:
    """Read-only holds for root, too."""
    library = tmp_path / "site"
    library.mkdir()
    (library / "demo.py").write_text("good = 1\n")
    module_text = """
import demo
for attempt in (lambda: open(demo.__file__, "w"), lambda: __import__("os").remove(demo.__file__)):
    try:
        attempt()
    except OSError:
        pass
    else:
        raise AssertionError
"""
    protect(library)
    run = Run("script", module_text + HEALTHY, this_interpreter(), (str(library),))
    assert run_all([run])[0].outcome is Outcome.HEALTHY
    assert (library / "demo.py").read_text() == "good = 1\n"


def test_interrupt_ends_every_process(tmp_path: Path) -> None:
    here = this_interpreter()
    path = tmp_path / "pid"
    text = f"import os, time\nopen({str(path)!r}, 'w').write(str(os.getpid()))\n"

    def interrupted(run: Run, ran: Ran) -> None:
        raise KeyboardInterrupt

    fast = Run("fast", HEALTHY, here)
    slow = Run("slow", text + "time.sleep(3600)\n", here, limit=600)
    with pytest.raises(KeyboardInterrupt), Runner(2) as runner:
        residents = runner._residents
        runner.run([slow, fast], interrupted)
    assert [one._process.returncode is None for one in residents.values()] == [False]
    if path.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_run_that_waits_lets_another_start(tmp_path: Path) -> None:
    """A run that sleeps for the other one to begin would, with a single job, wait for ever."""
    here = this_interpreter()
    meet = tmp_path / "meet"
    os.mkfifo(meet)
    one = Run("reader", f"open({str(meet)!r}).read()\n" + HEALTHY, here)
    two = Run("writer", f"open({str(meet)!r}, 'w').write('x')\n" + HEALTHY, here)
    assert {seen.outcome for seen in run_all([one, two], jobs=1)} == {Outcome.HEALTHY}


def test_run_whose_processes_compute_does_not_let_another_start(tmp_path: Path) -> None:
    """It waits for them itself, but the processor is taken: the next one finds its mark."""
    here = this_interpreter()
    mark = tmp_path / "mark"
    busy = (
        "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"
        f"open({str(mark)!r}, 'w').close()\n"
    )
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\n"
    one = Run("one", starts + HEALTHY, here)
    two = Run("two", f"import os\nassert os.path.exists({str(mark)!r})\n" + HEALTHY, here)
    assert [seen.outcome for seen in run_all([one, two], jobs=1)] == [Outcome.HEALTHY] * 2


def test_spin_is_told_by_what_the_script_takes_elsewhere() -> None:
    """Not by a quarter of its limit, once a run of the same script has ended in any interpreter."""
    first, second, *_ = (*discover().interpreters, None)
    if second is None:
        pytest.skip("takes two interpreters")
    spin = f"import sys\nif sys.version.split()[0] == {second.version!r}:\n    while True: pass\n"
    seen: list[Ran] = []
    with Runner(1) as runner:
        for one in (first, second):
            run = Run("spin", spin + HEALTHY, one, limit=40.0)
            runner.run([run], lambda _, ran: seen.append(ran))
    assert [ran.observation.outcome for ran in seen] == [Outcome.HEALTHY, Outcome.HANG]
    assert seen[1].cpu < 5.0


def spins(tmp_path: Path, body: str) -> list[Ran]:
    """Run a script where it ends, and twice where it does what a body says."""
    here = this_interpreter()
    for name, text in (("ends", "def turn(): pass"), ("spins", body)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "demo.py").write_text(text)
    seen: list[Ran] = []
    with Runner(1) as runner:
        for name in ("ends", "spins", "spins"):
            run = Run("s", "import demo\ndemo.turn()\n" + HEALTHY, here, (str(tmp_path / name),))
            runner.run([run], lambda _, ran: seen.append(ran))
    assert [ran.observation.outcome for ran in seen] == [
        Outcome.HEALTHY,
        Outcome.HANG,
        Outcome.HANG,
    ]
    assert all(ran.observation.message.startswith("spin: ") for ran in seen[1:])
    return seen


def test_spin_that_was_told_before_is_told_sooner(tmp_path: Path) -> None:
    _, first, second = spins(tmp_path, "def turn():\n    while True: pass\n")
    assert first.cpu > 0.4 > second.cpu


def test_spin_in_another_place_than_before_is_not_told_sooner(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    body = f"""
import os
def one():
    while True: pass
def two():
    while True: pass
def turn():
    if os.path.exists({mark!r}): two()
    open({mark!r}, "w").close()
    one()
"""
    _, first, second = spins(tmp_path, body)
    assert "in one" in first.observation.message
    assert "in two" in second.observation.message
    assert second.cpu > 0.4


def test_what_comes_later_runs_too_and_nothing_is_waited_for_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second for nothing, several times in a bisect, would be most of what it takes."""
    later = [[Run("later", HEALTHY, this_interpreter())], [], None]
    seen: list[Ran] = []
    with Runner(1) as runner:
        runner.run([], lambda _, ran: seen.append(ran), lambda: later.pop(0))
        assert [ran.observation.outcome for ran in seen] == [Outcome.HEALTHY]
        with monkeypatch.context() as patch:
            patch.setattr(runner, "_selector", None)
            runner.run([], lambda *_: None, lambda: None)


def test_traced_run_tells_which_lines_ran(tmp_path: Path) -> None:
    (tmp_path / "demo.py").write_text("def check(x):\n    if x:\n        return 1\n    return 2\n")
    run = Run(
        "script",
        "import demo\ndemo.check(0)\n" + HEALTHY,
        this_interpreter(),
        (str(tmp_path),),
        trace=True,
    )
    found: list[Ran] = []
    with Runner(1) as runner:
        runner.run([run], lambda _, ran: found.append(ran))
    assert found[0].lines["demo.py"] == (1, 2, 4)


def test_stop_kills_a_resident_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_LIMIT", 0.2)
    with Runner(1) as runner:
        runner.run([Run("script", HEALTHY, this_interpreter())], lambda *_: None)
        (resident,) = runner._residents.values()
        os.kill(resident._process.pid, signal.SIGSTOP)
    assert resident._process.returncode == -signal.SIGKILL


def test_directory_of_a_killed_run_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / "harness-matrix-killed"
    (killed / "inside").mkdir(parents=True)
    (killed / "lock").touch()
    older = tmp_path / "harness-matrix-older"
    older.mkdir()
    os.utime(older, (0, 0))
    just_made = tmp_path / "harness-matrix-just-made"
    just_made.mkdir()
    with Runner(1) as alive, Runner(1):
        assert alive._work.exists()
        assert not killed.exists()
        assert not older.exists()
    assert list(tmp_path.iterdir()) == [just_made]
