"""A forked child under a watchdog: whatever it does, the parent learns of it and goes on.

The parent keeps the clock: a hang, a crash, a runaway and what the child leaves behind come back as
plain data, never as an exception.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness import stacks as stacks_of
from harness.errors import HarnessError
from harness.outcome import Observation, Outcome, signal_name

#: What one run may print before it is ended, in bytes; more is a runaway, not evidence.
OUTPUT_LIMIT = 16 * 1024 * 1024
#: How much of what a run printed is kept, in characters from its start and again from its end.
OUTPUT_KEPT = 32 * 1024
#: How long a hanging child may take to write down its stacks, in seconds.
STACKS_GRACE = 1.0
_POLL = 0.01
_DUMP_SIGNAL = signal.SIGUSR2
_PR_SET_CHILD_SUBREAPER = 36
_DONE = "done"
#: Seconds from the end of the body to the end of the process.
_EXIT_LIMIT = 5.0


class Channel:
    """The child's line to its parent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: Any) -> None:
        """Send one JSON value; blocks until the parent's pipe has taken it."""
        view = memoryview(json.dumps(message).encode() + b"\n")
        while view:
            view = view[os.write(self._fd, view) :]

    def begin(self, phase: str, limit: float) -> None:
        """Start the clock anew for the phase that begins.

        :param limit: seconds from now after which the parent calls it a hang
        """
        self.send({"phase": phase, "limit": limit})


@dataclass
class ChildRun:
    """How a child ended.

    :param messages: what it sent, in order, without the phases
    :param status: its exit status; negative is the number of the signal that ended it
    :param phase: the phase that it was in last
    :param hung: whether the phase ran over its limit
    :param runaway: whether it was ended because it printed too much
    :param stacks: the stacks of its threads, and of its tasks too if it hung rather than crashed
    :param leftovers: the processes that it left behind; they have been killed
    :param seconds: wall-clock time, in seconds
    """

    messages: list[Any] = field(default_factory=list)
    status: int = 0
    phase: str = "start"
    hung: bool = False
    runaway: bool = False
    stacks: str = ""
    leftovers: tuple[str, ...] = ()
    seconds: float = 0.0

    def failure(self, limit: float) -> Observation | None:
        """Say what went wrong if the child did not end by itself, with nothing left unsaid.

        :param limit: the limit of the phase in seconds, for the message
        """
        if self.runaway:
            size = OUTPUT_LIMIT // (1024 * 1024)
            return self._observe(
                Outcome.BROKEN, f"printed more than {size} MiB and was ended; print less"
            )
        if self.hung:
            where = stacks_of.where_it_waits(self.stacks)
            return self._observe(
                Outcome.HANG,
                f"no end within {limit:g} s" + (f"; waits at {where}" if where else ""),
            )
        if self.status < 0:
            return self._observe(Outcome.CRASH, f"killed by {signal_name(-self.status)}")
        if self.phase != _DONE:
            return self._observe(
                Outcome.CRASH, f"the process ended itself with status {self.status} before the end"
            )
        return None

    def _observe(self, outcome: Outcome, message: str) -> Observation:
        return Observation(outcome, message, detail=self.stacks, seconds=self.seconds)


def run_in_child(body: Callable[[Channel], object], *, limit: float) -> ChildRun:
    """Fork, run ``body`` in the child, and come back whatever it does.

    Everything that the child started is gone afterwards. stdout and stderr are inherited; if they
    are regular files (pytest's capture, :func:`captured`) a runaway is noticed by their growth.

    :param body: gets the :class:`Channel`; its exceptions are printed and make the status 1
    :param limit: seconds for the first phase; ``Channel.begin`` sets the limit of each later one
    :raises HarnessError: where processes cannot be forked
    """
    if not hasattr(os, "fork"):
        raise HarnessError(
            f"platform {sys.platform} cannot fork, and each scenario runs in a forked process; "
            "use Linux, macOS or WSL"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    with tempfile.TemporaryFile() as stacks, _reaping_orphans() as known:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # Threads of the parent (xdist's, for one) do not matter: they hold no lock that the
            # child needs, and the child runs its own loop.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(reader)
            _child(body, Channel(writer), stacks.fileno())
        os.close(writer)
        try:
            run = _Watch(pid, reader, stacks.fileno(), limit).until_ended()
        except BaseException:
            _kill_group(pid)
            os.waitpid(pid, 0)
            raise
        finally:
            os.close(reader)
        run.leftovers = _kill_leftovers(pid, known)
        run.seconds = time.monotonic() - started
        return run


def _child(body: Callable[[Channel], object], channel: Channel, stacks: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        # A test runner's hooks would turn what a body leaves behind into a failure of the runner.
        sys.unraisablehook = sys.__unraisablehook__
        threading.excepthook = threading.__excepthook__
        signal.signal(_DUMP_SIGNAL, lambda *_: stacks_of.write_tasks(stacks))
        # faulthandler speaks first, in C, so a thread that never runs Python again is still seen.
        faulthandler.register(_DUMP_SIGNAL, file=stacks, all_threads=True, chain=True)
        faulthandler.enable(file=stacks, all_threads=True)
        body(channel)
        channel.begin(_DONE, _EXIT_LIMIT)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        _save_coverage()
        os._exit(status)


def _save_coverage() -> None:
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    if current is not None:
        current.stop()
        current.save()


class _Watch:
    """The parent's side of one run."""

    def __init__(self, pid: int, reader: int, stacks: int, limit: float) -> None:
        self._pid = pid
        self._reader = reader
        self._stacks = stacks
        self._buffer = b""
        self._open = True
        self._run = ChildRun()
        self._deadline = time.monotonic() + limit
        self._printed = _regular_output_size()

    def until_ended(self) -> ChildRun:
        pause = 0.001
        while True:
            self._receive(pause)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._receive(0)
                self._run.status = os.waitstatus_to_exitcode(status)
                self._run.stacks = self._stacks_so_far()
                return self._run
            if _regular_output_size() - self._printed > OUTPUT_LIMIT:
                self._run.runaway = True
            elif time.monotonic() > self._deadline:
                self._run.hung = True
                self._run.stacks = self._ask_for_stacks()
            if self._run.runaway or self._run.hung:
                _kill_group(self._pid)
                _, status = os.waitpid(self._pid, 0)
                self._run.status = os.waitstatus_to_exitcode(status)
                return self._run
            pause = min(pause * 2, _POLL)

    def _receive(self, timeout: float) -> None:
        if not self._open:
            time.sleep(timeout)
            return
        while select.select([self._reader], [], [], timeout)[0]:
            chunk = os.read(self._reader, 1 << 16)
            if not chunk:
                self._open = False
                return
            *lines, self._buffer = (self._buffer + chunk).split(b"\n")
            for line in lines:
                self._accept(json.loads(line))
            timeout = 0

    def _accept(self, message: Any) -> None:
        if isinstance(message, dict) and "phase" in message:
            self._run.phase = message["phase"]
            self._deadline = time.monotonic() + message["limit"]
        else:
            self._run.messages.append(message)

    def _ask_for_stacks(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, _DUMP_SIGNAL)
        until = time.monotonic() + STACKS_GRACE
        while True:
            text = self._stacks_so_far()
            if text.endswith(stacks_of.END) or time.monotonic() > until:
                return text.removesuffix(stacks_of.END)
            time.sleep(_POLL)

    def _stacks_so_far(self) -> str:
        size = os.fstat(self._stacks).st_size
        return stacks_of.without_runner(os.pread(self._stacks, size, 0).decode(errors="replace"))


def _regular_output_size() -> int:
    size = 0
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
    return size


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _reaping_orphans() -> Iterator[frozenset[int]]:
    """Let what a child leaves behind become ours, so that it can be found and ended."""
    if not sys.platform.startswith("linux"):
        yield frozenset()
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield frozenset(_children())
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _kill_leftovers(pid: int, known: frozenset[int]) -> tuple[str, ...]:
    """Kill what is left of the child's session, and every orphan that came to us from it."""
    left: dict[int, str] = {}
    if sys.platform.startswith("linux"):
        # Killing one orphan can hand us its children in turn.
        while orphans := [child for child in _children() if child not in known]:
            for orphan in orphans:
                if not _is_zombie(orphan):
                    left[orphan] = _command_of(orphan)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan, 0)
    else:
        _kill_group(pid)
    return tuple(f"{number} ({command})" for number, command in left.items())


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()[:80]
    except OSError:
        return "?"


def shortened(text: str) -> str:
    """Keep the start and the end of what a run printed."""
    cut = len(text) - 2 * OUTPUT_KEPT
    if cut <= 0:
        return text
    return f"{text[:OUTPUT_KEPT]}\n[... {cut} characters cut ...]\n{text[-OUTPUT_KEPT:]}"


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Send the standard streams to a file; the yielded function returns what it kept of them."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as file:

        def kept() -> str:
            with os.fdopen(os.dup(file.fileno()), "rb") as reader:
                reader.seek(0)
                return shortened(reader.read(OUTPUT_LIMIT + OUTPUT_KEPT).decode(errors="replace"))

        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield kept
        finally:
            for fd, old in enumerate(saved, start=1):
                os.dup2(old, fd)
                os.close(old)
