"""Forks, watches and ends the children."""

# ruff: noqa: UP006, UP007, UP035, UP036, UP045 - Python 3.6 runs this file

import asyncio  # noqa: F401
import concurrent.futures.thread  # noqa: F401
import contextlib
import functools  # noqa: F401
import gc
import inspect  # noqa: F401
import json
import logging  # noqa: F401
import mmap
import os
import queue  # noqa: F401
import random  # noqa: F401
import select
import shutil
import signal
import site
import socket  # noqa: F401
import stat
import subprocess
import sys
import tempfile  # noqa: F401
import time
import traceback
import types
import unittest  # noqa: F401
from typing import Any, Dict, List, Optional, Tuple, Union

from .child import (
    END_OF_STACKS,
    STACKS_SIGNAL,
    become_child,
    prepare_process,
    run_as_main,
    trace_lines,
)
from .procfs import (
    TICK,
    asleep,
    children,
    cpu_seconds,
    is_zombie,
    stand_still,
    starved_seconds,
)
from .waits import CHANGES, SHARED, tell_of_waits

with contextlib.suppress(ImportError):  # Python 3.6 has none
    import contextvars  # noqa: F401

#: What one run may print, in bytes, before it is ended; more is a runaway, not evidence.
OUTPUT_LIMIT = 16 * 1024 * 1024
#: How much is kept of each stream, in bytes, from its start and again from its end.
KEPT = 16 * 1024
#: How much of the start of the last line is, in bytes: it says what the script found.
LINE_KEPT = 400
#: Seconds that a script's own watchdog is given to speak first.
GRACE = 1.0
#: Seconds that a hanging child is given to write down its stacks.
STACKS_GRACE = 0.5
#: What the reason of a hang that turns in a circle begins with.
SPIN = "spin"
#: CPU seconds below which nothing is called a spin, and how many times the usual a spin takes.
SPIN_LEAST, SPIN_TIMES = 0.5, 50
#: The same for a run of what has turned in a circle before, by the measure above.
AGAIN_LEAST, AGAIN_TIMES = 0.1, 10
#: Seconds after its start when a child is looked at first, and between two looks at one that
#: sleeps: if it has slept all the time between them, it no longer counts as running.
FIRST_LOOK, NEXT_LOOK = 0.01, 0.006


class Stream:
    """What comes out of one pipe: the start, the end, and the start of the last line are kept.

    Its number may belong to the pipe of another run as soon as it is closed.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_open = True
        self.size = 0
        self._head = b""
        self._tail = b""
        self._last_line = b""
        self._is_line_over = True

    def read(self) -> bool:
        """Take what is there; return whether the pipe is still open."""
        while True:
            try:
                chunk = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                chunk = b""
            if not chunk:
                return False
            self.size += len(chunk)
            room = KEPT - len(self._head)
            self._head += chunk[:room] if room > 0 else b""
            self._tail = (self._tail + (chunk[room:] if room > 0 else chunk))[-KEPT:]
            if self._is_line_over:
                self._last_line = b""
            _, is_new, rest = chunk.rstrip(b"\n").rpartition(b"\n")
            self._last_line = ((b"" if is_new else self._last_line) + rest)[:LINE_KEPT]
            self._is_line_over = chunk.endswith(b"\n")
            if self.size > OUTPUT_LIMIT or len(chunk) < 1 << 12:
                return True

    def ends_with_stacks(self) -> bool:
        return END_OF_STACKS.encode() in (self._head + self._tail)[-200:]

    def text(self) -> str:
        left_out = self.size - len(self._head) - len(self._tail)
        middle = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        if left_out and b"\n" not in self._tail.rstrip(b"\n"):
            middle += self._last_line + b" [...] "
        return (self._head + middle + self._tail).decode("utf-8", "replace")


class Run:
    """One child and what is known about it."""

    def __init__(
        self,
        order: Dict[str, Any],
        pid: int,
        out: Stream,
        err: Stream,
        cwd: str,
        shared: mmap.mmap,
    ) -> None:
        self.order = order
        self.pid = pid
        self.out = out
        self.err = err
        self.cwd = cwd
        self.shared = shared
        self.started = time.monotonic()
        self.deadline: float = self.started + order["limit"]
        self.next_look = self.started + FIRST_LOOK
        self.pause = FIRST_LOOK
        self.last_looks = 20
        self.cpu = 0.0
        self.busy_until = self.started
        self.polls = 0
        self.polls_cpu = 0.0
        #: How often its selects began or ceased to be mere looks, and the CPU time at the latest.
        self.changes = 0
        self.changes_cpu = 0.0
        self.parked = False
        self.asleep: Optional[int] = None
        self.still: Optional[Tuple[int, int]] = None
        self.ending: Optional[Dict[str, Any]] = None
        self.ending_since = 0.0


class Resident:
    """Forks, watches and ends the children."""

    def __init__(self, commands: int, events: int) -> None:
        own = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))),)
        self._commands = commands
        self._events = events
        self._buffer = b""
        self._runs: Dict[int, Run] = {}
        self._code: Dict[str, Union[types.CodeType, str]] = {}
        #: Script -> the most CPU time that a run of it took which ended by itself; 0 if none has.
        self._usual: Dict[str, float] = {}
        self._poll = select.poll()
        self._poll.register(commands, select.POLLIN)
        self._fds: Dict[int, Tuple[Run, Stream]] = {}
        self._base_path = [entry for entry in sys.path[1:] if entry not in own]
        self._null = os.open(os.devnull, os.O_RDWR)
        #: Working directories that were left as they had been made: making one costs a tenth of a
        #: run.
        self._empty: List[str] = []

    def serve(self) -> None:
        """Run until the other side closes the pipe; leave nothing running."""
        self._send({"ready": list(sys.version_info[:3])})
        try:
            while True:
                timeout = None if not self._runs else self._until_next_look()
                for fd, _ in self._poll.poll(timeout):
                    if fd == self._commands:
                        if not self._receive():
                            return
                    elif fd in self._fds:
                        self._read(fd)
                for run in list(self._runs.values()):
                    self._look(run)
        finally:
            for run in list(self._runs.values()):
                kill_group(run.pid)
                self._sweep(run)

    def _send(self, event: Dict[str, Any]) -> None:
        data = (json.dumps(event) + "\n").encode()
        while data:
            data = data[os.write(self._events, data) :]

    def _until_next_look(self) -> float:
        soonest = min(run.next_look for run in self._runs.values())
        return max(0.0, soonest - time.monotonic()) * 1000 + 0.2

    def _receive(self) -> bool:
        data = os.read(self._commands, 1 << 16)
        if not data:
            return False
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            order = json.loads(line.decode())
            try:
                self._start(order)
            except OSError as error:
                self._send({"id": order["id"], "failed": f"cannot be started: {error}"})
        return True

    def _start(self, order: Dict[str, Any]) -> None:
        code = self._compiled(order)
        self._usual[order["script"]] = max(self._usual.get(order["script"], 0.0), order["usual"])
        if isinstance(code, str):
            self._send({"id": order["id"], "unparsable": code})
            return
        cwd = self._working_directory(order)
        shared = mmap.mmap(-1, mmap.PAGESIZE)
        out, out_child = os.pipe()
        err, err_child = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                highest = max([out, out_child, err, err_child, *self._fds]) + 1
                become_child(order, (self._null, out_child, err_child), highest, cwd)
                sys.path[1:] = order["path"] + self._base_path
                if order.get("trace"):
                    trace_lines(order)
                tell_of_waits(shared)
            except BaseException:
                traceback.print_exc()
                os._exit(124)
            run_as_main(code, order["script"])
        os.close(out_child)
        os.close(err_child)
        run = Run(order, pid, Stream(out), Stream(err), cwd, shared)
        self._runs[pid] = run
        for stream in (run.out, run.err):
            os.set_blocking(stream.fd, False)
            self._fds[stream.fd] = (run, stream)
            self._poll.register(stream.fd, select.POLLIN)

    def _working_directory(self, order: Dict[str, Any]) -> str:
        """Return an empty directory, whatever the runs before did to the place where they lie."""
        while self._empty:
            used = self._empty.pop()
            if is_as_made(used):
                return used
        path = os.path.join(order["work"], str(order["id"]))
        try:
            os.mkdir(path)
        except OSError:
            for place in (os.path.dirname(order["work"]), order["work"]):
                os.makedirs(place, exist_ok=True)
                os.chmod(place, 0o700)
            remove_tree(path)
            os.mkdir(path)
        return path

    def _compiled(self, order: Dict[str, Any]) -> Union[types.CodeType, str]:
        """Return the code of a script, or the complaint of this Python's parser."""
        path = order["script"]
        if path not in self._code:
            with open(path, "rb") as file:
                source = file.read()
            try:
                self._code[path] = compile(source, path, "exec", 0, True)
            except (SyntaxError, ValueError) as error:
                where = f" (line {error.lineno})" if hasattr(error, "lineno") else ""
                self._code[path] = "{}{}".format(getattr(error, "msg", error), where)
        return self._code[path]

    def _read(self, fd: int) -> None:
        run, stream = self._fds[fd]
        if not stream.read():
            self._forget(stream)
            run.next_look = time.monotonic()
        if run.out.size + run.err.size > OUTPUT_LIMIT and run.ending is None:
            self._end(run, {"runaway": OUTPUT_LIMIT})

    def _forget(self, stream: Stream) -> None:
        if stream.is_open:
            stream.is_open = False
            self._poll.unregister(stream.fd)
            del self._fds[stream.fd]
            os.close(stream.fd)

    def _look(self, run: Run) -> None:
        now = time.monotonic()
        if run.ending is not None:
            if run.err.ends_with_stacks() or now > run.ending_since + STACKS_GRACE:
                kill_group(run.pid)
                self._finish(run, os.wait4(run.pid, 0))
            return
        if now < run.next_look:
            return
        ended = os.wait4(run.pid, os.WNOHANG)
        if ended[0]:
            self._finish(run, ended)
            return
        if not (run.err.is_open or run.out.is_open) and run.last_looks:
            # Both pipes are closed: it is about to end, unless the script closed them itself.
            run.last_looks -= 1
            run.next_look = now + 0.0005
            return
        run.next_look = now + run.pause
        run.pause = min(run.pause * 1.5, 0.25)
        cpu = cpu_seconds(run.pid)
        if cpu > run.cpu + TICK / 2:
            run.cpu = cpu
            run.busy_until = now
            run.still = None
            run.pause = min(run.pause, 0.05)
            self._park(run, False)
        elif not run.parked:
            before, run.asleep = run.asleep, asleep(run.pid)
            if run.asleep is not None:
                run.next_look = now + NEXT_LOOK
                self._park(run, run.asleep == before)
        reason = self._why_hung(run, now)
        if reason:
            self._end(run, {"hang": reason})

    def _park(self, run: Run, parked: bool) -> None:
        """Tell whether a run leaves the processor to others."""
        if parked != run.parked:
            run.parked = parked
            self._send({"id": run.order["id"], "parked": parked})

    def _why_hung(self, run: Run, now: float) -> Optional[str]:
        # Time for which it was ready to run and had no processor is not its own.
        if now > run.deadline + GRACE and now > run.deadline + GRACE + starved_seconds(run.pid):
            return "no end within {:g} s".format(run.order["limit"])
        polls, alone, wakes = SHARED.unpack_from(run.shared, 0)
        if polls != run.polls:
            run.polls = polls
            run.polls_cpu = run.cpu
        (changes,) = CHANGES.unpack_from(run.shared, SHARED.size)
        if changes != run.changes:
            run.changes = changes
            run.changes_cpu = run.cpu
        if now - run.busy_until < 0.3 and run.cpu > AGAIN_LEAST:
            return self._why_spinning(run, alone, wakes)
        if run.asleep is None and now - run.busy_until < 0.015:
            return None
        still = stand_still(run.pid, run.deadline - 0.05, alone, wakes)
        if still is not None and still == run.still:
            return "deadlock: no thread is able to run, and nothing left can wake one"
        run.still = still
        if still is not None:
            run.next_look = min(run.next_look, now + NEXT_LOOK)
        return None

    def _why_spinning(self, run: Run, alone: int, wakes: float) -> Optional[str]:
        usual = self._usual[run.order["script"]]
        least = max(SPIN_LEAST, run.order["limit"] / 4)
        if usual:
            least = min(least, max(SPIN_LEAST, usual * SPIN_TIMES))
            if run.order["again"]:
                least = min(least, max(AGAIN_LEAST, usual * AGAIN_TIMES))
        is_closed = run.changes % 2 == 1
        # What it used before it began to turn is no part of the turning.
        since = run.cpu - (run.changes_cpu if is_closed else run.polls_cpu)
        if since < least - TICK / 2:
            return None
        if stand_still(run.pid, run.deadline - 0.05, alone, wakes, spinning=True) is None:
            return None
        how = (
            "in a loop that has no timer and nothing to wait for"
            if is_closed
            else "without a look at timers or sockets"
        )
        return f"{SPIN}: {since:.1f} s of CPU {how}"

    def _end(self, run: Run, why: Dict[str, Any]) -> None:
        run.ending = why
        run.ending_since = time.monotonic()
        run.next_look = run.ending_since + 0.01
        if "hang" in why:
            with contextlib.suppress(OSError):
                os.kill(run.pid, STACKS_SIGNAL)
        else:
            run.ending_since -= STACKS_GRACE

    def _finish(self, run: Run, ended: Tuple[int, int, Any]) -> None:
        status, usage = ended[1], ended[2]
        if os.WIFEXITED(status) and (run.ending or {}).get("hang", "").startswith(SPIN):
            run.ending = None  # it has come to an end by itself after all
        left = self._sweep(run)
        for stream in (run.out, run.err):
            if stream.is_open:
                stream.read()
                self._forget(stream)
        cpu = usage.ru_utime + usage.ru_stime
        event = {
            "id": run.order["id"],
            "seconds": time.monotonic() - run.started,
            "cpu": cpu,
            "stdout": run.out.text(),
            "stderr": run.err.text(),
            "left": left,
        }
        event.update(run.ending or {})
        if os.WIFSIGNALED(status):
            event["signal"] = os.WTERMSIG(status)
        else:
            event["status"] = os.WEXITSTATUS(status)
        if run.ending is None:
            script = run.order["script"]
            self._usual[script] = max(self._usual[script], cpu)
        lines = os.path.join(run.order["work"], "{}.lines".format(run.order["id"]))
        if run.order.get("trace") and os.path.exists(lines):
            with open(lines) as file:
                event["lines"] = json.load(file)
            os.unlink(lines)
        run.shared.close()
        if is_as_made(run.cwd):
            self._empty.append(run.cwd)
        else:
            remove_tree(run.cwd)
        self._send(event)

    def _sweep(self, run: Run) -> int:
        """End whatever a child left behind: orphans come to us, which is how they are found."""
        self._runs.pop(run.pid, None)
        kill_group(run.pid)
        left = 0
        while True:
            orphans = [pid for pid in children(os.getpid()) if pid not in self._runs]
            if not orphans:
                return left
            for pid in orphans:
                try:
                    left += not is_zombie(pid)
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except OSError:
                    pass


def kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)


def is_as_made(path: str) -> bool:
    """Whether a working directory is empty and may be written to."""
    try:
        mode = os.lstat(path).st_mode
        return stat.S_ISDIR(mode) and mode & 0o700 == 0o700 and not os.listdir(path)
    except OSError:
        return False


def remove_tree(path: str) -> None:
    """Remove a directory even if its permissions were taken away; of a link only the link."""
    if os.path.islink(path):
        os.unlink(path)
        return
    with contextlib.suppress(RecursionError):
        for place, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(place, 0o700)
        shutil.rmtree(path, ignore_errors=True)
    if os.path.isdir(path):  # too deep for Python, whose paths have an end
        subprocess.call(["rm", "-rf", path], stderr=subprocess.DEVNULL)


def main() -> None:
    commands, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    prepare_process()
    vars(site)["setquit"]()
    gc.collect()
    gc.disable()
    if sys.version_info >= (3, 7):
        gc.freeze()
    Resident(commands, events).serve()
