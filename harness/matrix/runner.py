"""Runs scripts in many interpreters: one resident process for each, which forks a child per run.

The resident (``resident.py``) watches its children and says what it saw; this side decides what
runs when, and turns what was seen into an observation. A run counts against the number of jobs
only while it uses the processor: one that waits for a clock lets another start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import selectors
import signal
import stat
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.matrix.cache import digest, remove
from harness.matrix.evidence import RESIDENT, observe, without_resident
from harness.matrix.interpreters import Interpreter
from harness.outcome import Observation, Outcome

#: How many runs may be under way at once, most of them waiting for a clock.
MOST_AT_ONCE = 64
#: Seconds after which it is asked again, at the latest, whether there is more to run.
_NEXT_QUESTION = 0.01
#: Seconds beyond ten times a run's limit after which its resident no longer seems to live.
_RESIDENT_GRACE = 15.0
#: What the directories begin with in which cells run, and seconds after which one without a lock
#: was left behind.
_WORK = "harness-matrix-"
_LEFT_BEHIND = 3600.0
_START_LIMIT = 30.0
_STOP_LIMIT = 5.0
#: Its directory comes last on the path: the modules beside it are no part of a run.
_START = (
    f"import sys; sys.path.append({str(RESIDENT.parent)!r}); "
    "from resident.serving import main; main()"
)
_KEPT = ("PATH", "LANG", "LANGUAGE", "TZ", "AMQP_URL", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "USER")


@dataclass(frozen=True)
class Run:
    """One script to run in one place.

    :param name: file name of the script, without ``.py``; shown in tracebacks
    :param script: its text
    :param interpreter: where it runs
    :param path: directories to put on ``sys.path``
    :param limit: seconds before the clock calls it a hang
    :param trace: whether to collect which lines of ``path`` run
    """

    name: str
    script: str = field(repr=False)
    interpreter: Interpreter
    path: tuple[str, ...] = ()
    limit: float = 10.0
    trace: bool = False


@dataclass(frozen=True)
class Ran:
    """What came of a run.

    :param observation: the evidence
    :param cpu: seconds of CPU that the child used
    :param lines: file below ``path`` -> lines that ran, if they were traced
    :param is_evidence: whether the script ran, or this Python refused it
    """

    observation: Observation
    cpu: float = 0.0
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    is_evidence: bool = True


Done = Callable[[Run, Ran], None]
#: Returns what has come since; None if nothing else will come.
More = Callable[[], "Sequence[Run] | None"]


@dataclass
class _Active:
    run: Run
    started: float
    again: bool
    parked: bool = False


class _Dead(Exception):
    """A resident ended, or cannot be started; the text says how."""


class Runner:
    """A set of residents; use it as a context manager, which leaves no process behind.

    :param jobs: how many runs may use the processor at once; default: one more than there are
        processors, because a run that begins to sleep is noticed a little later
    """

    def __init__(self, jobs: int | None = None) -> None:
        self._jobs = jobs or (os.cpu_count() or 1) + 1
        self._residents: dict[Interpreter, _Resident] = {}
        self._started: dict[Interpreter, _Resident] = {}
        self._broken: dict[Interpreter, str] = {}
        self._selector = selectors.DefaultSelector()
        self._suspects: set[int] = set()
        #: Script -> the most CPU time that a run of it took which ended by itself, anywhere.
        self._usual: dict[str, float] = {}
        #: Script and path -> where runs of it were seen to turn in a circle, in any interpreter.
        self._circles: dict[tuple[str, tuple[str, ...]], set[str]] = {}
        #: Runs that turned elsewhere than those before: the measure for the first one counts.
        self._doubted: set[int] = set()

    def __enter__(self) -> Runner:
        self._work, self._lock = _work_directory()
        return self

    def __exit__(self, *_: object) -> None:
        residents = (*self._residents.values(), *self._started.values())
        for resident in residents:
            resident.close()
        for resident in residents:
            resident.stop()
        self._selector.close()
        remove(self._work)
        os.close(self._lock)

    def run(self, runs: Iterable[Run], done: Done, more: More | None = None) -> None:
        """Run everything, the first ones first.

        :param done: called with each run as it ends, in any order
        :param more: asked now and then for what else is to run; None ends it
        """
        waiting: deque[Run] = deque()
        self._queue(runs, waiting)
        next_look = 0.0
        while True:
            if more:
                others = more()
                more = None if others is None else more
                self._queue(others or (), waiting)
            if not (more or waiting or any(one.active for one in self._residents.values())):
                return
            self._start_some(waiting, done)
            for key, _ in self._selector.select(_NEXT_QUESTION if more else 1.0):
                self._take(key.data, waiting, done)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + 1.0
            for resident in list(self._residents.values()):
                resident.go_on()
                if resident.is_overdue():
                    self._lose(resident, "it no longer answers", waiting, done)

    def _queue(self, runs: Iterable[Run], waiting: deque[Run]) -> None:
        fresh = list(runs)
        waiting.extend(fresh)
        # Each takes a tenth of a second to be ready, and they share the processors.
        for interpreter in {run.interpreter: None for run in fresh}:
            with contextlib.suppress(_Dead):
                self._begin(interpreter)

    def _start_some(self, waiting: deque[Run], done: Done) -> None:
        active = [one for r in self._residents.values() for one in r.active.values()]
        busy, alive = sum(not one.parked for one in active), len(active)
        held: list[Run] = []
        while waiting and busy < self._jobs and alive < MOST_AT_ONCE:
            run = waiting.popleft()
            try:
                resident = self._resident(run.interpreter)
            except _Dead as error:
                done(run, Ran(Observation(Outcome.BROKEN, str(error)), is_evidence=False))
                continue
            alone = id(run) in self._suspects
            if resident.active and (alone or resident.exclusive):
                held.append(run)
                continue
            resident.exclusive = alone
            try:
                again = id(run) not in self._doubted and (run.script, run.path) in self._circles
                resident.start(run, self._usual.get(run.script, 0.0), again)
            except OSError:
                self._lose(resident, "its pipe is closed", waiting, done)
                waiting.appendleft(run)
                continue
            busy, alive = busy + 1, alive + 1
        waiting.extendleft(reversed(held))

    def _resident(self, interpreter: Interpreter) -> _Resident:
        """Return the resident of an interpreter, ready to be used."""
        if interpreter not in self._residents:
            resident = self._begin(interpreter)
            del self._started[interpreter]
            try:
                resident.wait_until_ready()
            except _Dead as error:
                raise self._refused(interpreter, error) from None
            self._residents[interpreter] = resident
            self._selector.register(resident.events, selectors.EVENT_READ, resident)
        return self._residents[interpreter]

    def _begin(self, interpreter: Interpreter) -> _Resident:
        """Start the resident of an interpreter, without waiting for it."""
        if interpreter in self._broken:
            raise _Dead(self._broken[interpreter])
        found = self._residents.get(interpreter) or self._started.get(interpreter)
        if found is None:
            try:
                found = self._started[interpreter] = _Resident(interpreter, self._work)
            except _Dead as error:
                raise self._refused(interpreter, error) from None
        return found

    def _refused(self, interpreter: Interpreter, error: _Dead) -> _Dead:
        self._broken[interpreter] = f"Python {interpreter.version} does not start: {error}"
        return _Dead(self._broken[interpreter])

    def _take(self, resident: _Resident, waiting: deque[Run], done: Done) -> None:
        try:
            events = resident.read()
        except _Dead as error:
            self._lose(resident, str(error), waiting, done)
            return
        for event in events:
            active = resident.active.get(event["id"])
            if active is None:
                continue
            if "parked" in event:
                active.parked = event["parked"]
                continue
            del resident.active[event["id"]]
            ran = _ran(event, active.run, resident.directory)
            if circle := _circle(ran):
                known = self._circles.setdefault((active.run.script, active.run.path), set())
                if active.again and circle not in known:
                    self._doubted.add(id(active.run))
                    waiting.append(active.run)
                    continue
                known.add(circle)
            if not {"hang", "runaway"} & event.keys():
                mark = active.run.script
                self._usual[mark] = max(self._usual.get(mark, 0.0), ran.cpu)
            done(active.run, ran)

    def _lose(self, resident: _Resident, how: str, waiting: deque[Run], done: Done) -> None:
        """Go on without a resident; what it had under way runs again, each alone to be found."""
        self._selector.unregister(resident.events)
        del self._residents[resident.interpreter]
        resident.stop()
        _kill_all_below(resident.directory)
        for active in resident.active.values():
            if id(active.run) in self._suspects:
                text = f"the process that watched it did not survive ({how})"
                done(active.run, Ran(Observation(Outcome.CRASH, text)))
            else:
                self._suspects.add(id(active.run))
                waiting.append(active.run)


class _Resident:
    """One resident process and what it has under way."""

    def __init__(self, interpreter: Interpreter, work: Path) -> None:
        self.interpreter = interpreter
        self.active: dict[int, _Active] = {}
        self.exclusive = False
        self.directory = Path(tempfile.mkdtemp(dir=work))
        self._scripts: set[str] = set()
        self._count = 0
        self._buffer = b""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or name.startswith("LC_")
        }
        environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        try:
            self._process = subprocess.Popen(
                [interpreter.path, "-S", "-s", "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=self.directory,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise _Dead(str(error.strerror)) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self.events = self._process.stdout

    def wait_until_ready(self) -> None:
        """Wait for its first word.

        :raises _Dead: if none comes
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.events, selectors.EVENT_READ)
            answered = selector.select(_START_LIMIT)
        try:
            first = self.read() if answered else []
        except _Dead:
            first = []
        if not first:
            self._process.kill()
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self.stop()
            raise _Dead(said[-1] if said else "no answer")
        os.set_blocking(self.events.fileno(), False)

    def start(self, run: Run, usual: float, again: bool) -> None:
        """Order a run.

        :param usual: CPU seconds that the script takes where it ends by itself; 0 if unknown
        :param again: whether a run of it has turned in a circle before
        """
        mark = digest(run.script)[:16]
        script = self.directory / mark / f"{run.name}.py"
        if mark not in self._scripts:
            script.parent.mkdir()
            script.write_text(run.script, encoding="utf-8")
            script.chmod(0o444)
            script.parent.chmod(0o555)
            self._scripts.add(mark)
        self._count += 1
        order = {
            "id": self._count,
            "script": str(script),
            "path": list(run.path),
            "limit": run.limit,
            "work": str(self.directory),
            "trace": run.trace,
            "usual": usual,
            "again": again,
        }
        self.active[self._count] = _Active(run, time.monotonic(), again)
        self._commands.write(json.dumps(order).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """Return the events that came in.

        :raises _Dead: if it is gone, or a script wrote among them
        """
        try:
            data = self.events.read(1 << 20)
        except BlockingIOError:
            return []
        if data is None:
            return []
        if not data:
            raise _Dead("it was killed")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        try:
            events = [json.loads(line) for line in lines]
        except ValueError:
            raise _Dead("what it says cannot be read") from None
        if not all(
            isinstance(event, dict) and ("id" in event or "ready" in event) for event in events
        ):
            raise _Dead("what it says means nothing")
        return events

    def go_on(self) -> None:
        """Wake it if a script has stopped it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)

    def is_overdue(self) -> bool:
        now = time.monotonic()
        return any(
            now > one.started + 10 * one.run.limit + _RESIDENT_GRACE for one in self.active.values()
        )

    def close(self) -> None:
        """Tell it to end."""
        for pipe in (self._commands, self.events, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def stop(self) -> None:
        """End it and its children: it ends them itself when its pipe is closed."""
        self.close()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _circle(ran: Ran) -> str:
    """Return where a run turns in a circle; empty if it does not."""
    reason, _, place = ran.observation.message.partition("; ")
    turns = ran.observation.outcome is Outcome.HANG and reason.startswith("spin: ")
    return place or "nowhere" if turns else ""


def _kill_all_below(directory: Path) -> None:
    """End what a lost resident has left behind: it began in this directory, and shows it."""
    mark = os.fsencode(directory)
    for _ in range(100):  # what is being ended may start something once more
        if not sum(_kill_if_marked(place, mark) for place in Path("/proc").glob("[0-9]*")):
            return


def _kill_if_marked(process: Path, mark: bytes) -> bool:
    shown = b""
    with contextlib.suppress(OSError):
        shown += os.fsencode(os.readlink(process / "cwd"))
    with contextlib.suppress(OSError):
        shown += (process / "environ").read_bytes()
    if mark not in shown:
        return False
    with contextlib.suppress(OSError):
        os.kill(int(process.name), signal.SIGKILL)
    return True


def _work_directory() -> tuple[Path, int]:
    """Make a directory for this process, and remove those whose processes were killed.

    :return: the directory, and the lock in it that shows that its process lives
    """
    work = Path(tempfile.mkdtemp(prefix=_WORK))
    lock = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for old in work.parent.glob(f"{_WORK}*"):
        with contextlib.suppress(OSError):
            info = old.lstat()
            mine = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()
            if old == work or not mine:
                continue
            if not (old / "lock").exists():
                # Without a lock it may have been made a moment ago.
                if time.time() - info.st_mtime > _LEFT_BEHIND:
                    remove(old)
                continue
            with open(old / "lock") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(old)
    return work, lock


def _ran(event: Mapping[str, Any], run: Run, directory: Path) -> Ran:
    def clean(text: str) -> str:
        text = re.sub(re.escape(str(directory)) + r"/[0-9a-f]{16}/", "", text)
        text = text.replace(str(directory), "<work>")
        for root in run.path:
            text = text.replace(f"{root}/", "")
        return without_resident(text.replace(f"{run.interpreter.prefix}/lib/", "lib/"))

    lines = {
        os.path.relpath(name, root): tuple(numbers)
        for name, numbers in event.get("lines", {}).items()
        for root in run.path
        if name.startswith(root)
    }
    cpu = float(event.get("cpu", 0.0))
    return Ran(observe(event, clean), cpu, lines, is_evidence="failed" not in event)
