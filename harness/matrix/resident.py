"""The program that runs in each interpreter of the matrix: it forks one child per cell.

Runs on Python 3.6 and later with nothing but the standard library, and is never imported by the
harness. Commands come in on standard input and events leave on standard output, one JSON value a
line; ``runner.py`` is the other side. What a script needs of the standard library is loaded here
once, and nothing of any other library: each child starts pristine.

A child is judged by evidence. It hangs when it can no longer change: every thread waits, without
end or past the end of the run, for what only another thread of the same process could do. Where
that cannot be seen (no ``/proc``) the clock alone decides.
"""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401
import contextlib
import errno
import faulthandler
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import inspect  # noqa: F401
import json
import linecache  # noqa: F401
import logging  # noqa: F401
import mmap
import os
import platform
import queue  # noqa: F401
import random  # noqa: F401
import select
import selectors
import shutil
import signal
import site
import socket  # noqa: F401
import struct
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import threading
import time
import traceback
import types
import typing  # noqa: F401
import unittest  # noqa: F401
import weakref  # noqa: F401

with contextlib.suppress(ImportError):  # Python 3.6 has none
    import contextvars  # noqa: F401
try:
    import ctypes
except ImportError:
    ctypes = None

#: What one run may print, in bytes, before it is ended; more is a runaway, not evidence.
OUTPUT_LIMIT = 16 * 1024 * 1024
#: How much is kept of each stream, in bytes, from its start and again from its end.
KEPT = 16 * 1024
#: Seconds that a script's own watchdog is given to speak first.
GRACE = 1.0
#: Seconds that a hanging child is given to write down its stacks.
STACKS_GRACE = 0.5
#: CPU seconds below which nothing is called a spin, and how many times the usual a spin takes.
SPIN_LEAST, SPIN_TIMES = 0.5, 50
#: Seconds without CPU use after which a child no longer counts as running.
PARKED = 0.06

STACKS_SIGNAL = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
END_OF_STACKS = "-- end of stacks --"
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_OVERRIDE = 1
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: Machine -> numbers of the system calls futex, and epoll_wait in its variants.
_SYSCALLS = {
    "x86_64": (202, (232, 281, 441)),
    "aarch64": (98, (22, 441)),
}
_FUTEX_WAIT_BITSET = 9
_FUTEX_CLOCK_REALTIME = 256
#: What a child tells through shared memory: selects done; threads in one that only another thread
#: of the process can end; when the first of those or an alarm ends (monotonic seconds); whether the
#: latest select was a mere look, with no timer and nothing outside that could ever be seen by it.
_SHARED = struct.Struct("=QQdQ")
_FOREVER = float("inf")

_prctl = None


def prepare_process():
    """Become the parent of orphans, and lose root's power to write to read-only files."""
    global _prctl
    if ctypes is None or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl = libc.prctl
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() == 0:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        if libc.capget(header, data) == 0:
            for index in (0, 1, 2):  # effective, permitted, inheritable
                data[index] &= ~(1 << _CAP_DAC_OVERRIDE) & 0xFFFFFFFF
            libc.capset(header, data)


class Stream:
    """What comes out of one pipe: the start and the end are kept."""

    def __init__(self, fd):
        self.fd = fd
        self.size = 0
        self._head = b""
        self._tail = b""

    def read(self):
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
            if self.size > OUTPUT_LIMIT or len(chunk) < 1 << 12:
                return True

    def ends_with_stacks(self):
        return END_OF_STACKS.encode() in (self._head + self._tail)[-200:]

    def text(self):
        left_out = self.size - len(self._head) - len(self._tail)
        middle = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return (self._head + middle + self._tail).decode("utf-8", "replace")


class Run:
    """One child and what is known about it."""

    def __init__(self, order, pid, out, err, cwd, shared):
        self.order = order
        self.pid = pid
        self.out = out
        self.err = err
        self.cwd = cwd
        self.shared = shared
        self.started = time.monotonic()
        self.deadline = self.started + order["limit"]
        self.next_look = self.started + 0.02
        self.pause = 0.02
        self.cpu = 0.0
        self.busy_until = self.started
        self.polls = 0
        self.polls_cpu = 0.0
        self.parked = False
        self.still = None
        self.ending = None
        self.ending_since = 0.0


class Resident:
    """Forks, watches and ends the children."""

    def __init__(self, commands, events):
        self._commands = commands
        self._events = events
        self._buffer = b""
        self._runs = {}
        self._code = {}
        self._usual = {}
        self._poll = select.poll()
        self._poll.register(commands, select.POLLIN)
        self._fds = {}
        self._base_path = [entry for entry in sys.path[1:] if "site-packages" not in entry]
        self._null = os.open(os.devnull, os.O_RDWR)

    def serve(self):
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

    def _send(self, event):
        data = (json.dumps(event) + "\n").encode()
        while data:
            data = data[os.write(self._events, data) :]

    def _until_next_look(self):
        soonest = min(run.next_look for run in self._runs.values())
        return max(0.0, soonest - time.monotonic()) * 1000 + 0.2

    def _receive(self):
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
                self._send({"id": order["id"], "failed": f"cannot fork: {error}"})
        return True

    def _start(self, order):
        code = self._compiled(order)
        if isinstance(code, str):
            self._send({"id": order["id"], "unparsable": code})
            return
        cwd = os.path.join(order["work"], str(order["id"]))
        os.mkdir(cwd)
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

    def _compiled(self, order):
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

    def _read(self, fd):
        run, stream = self._fds[fd]
        if not stream.read():
            self._forget(stream)
            run.next_look = time.monotonic()
        if run.out.size + run.err.size > OUTPUT_LIMIT and run.ending is None:
            self._end(run, {"runaway": OUTPUT_LIMIT})

    def _forget(self, stream):
        if stream.fd in self._fds:
            self._poll.unregister(stream.fd)
            del self._fds[stream.fd]
            os.close(stream.fd)

    def _look(self, run):
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
        if run.err.fd not in self._fds and run.out.fd not in self._fds:
            run.next_look = now + 0.0005  # both pipes are closed: it is about to end
        else:
            run.next_look = now + run.pause
            run.pause = min(run.pause * 1.5, 0.25)
        cpu = cpu_seconds(run.pid)
        if cpu > run.cpu + _TICK / 2:
            run.cpu = cpu
            run.busy_until = now
            run.still = None
            run.pause = min(run.pause, 0.05)
        elif not run.parked and now - run.busy_until > PARKED:
            run.parked = True
            self._send({"id": run.order["id"], "parked": True})
        reason = self._why_hung(run, now)
        if reason:
            self._end(run, {"hang": reason})

    def _why_hung(self, run, now):
        if now > run.deadline + GRACE:
            return "no end within {:g} s".format(run.order["limit"])
        polls, alone, wakes, closed = _SHARED.unpack_from(run.shared, 0)
        if polls != run.polls:
            run.polls = polls
            run.polls_cpu = run.cpu
        if now - run.busy_until < 0.3 and run.cpu > SPIN_LEAST:
            return self._why_spinning(run, alone, wakes, closed)
        if now - run.busy_until < 0.015:
            return None
        still = stand_still(run.pid, run.deadline - 0.05, alone, wakes)
        if still is not None and still == run.still:
            return "deadlock: no thread is able to run, and nothing left can wake one"
        run.still = still
        if still is not None:
            run.next_look = min(run.next_look, now + 0.02)
        return None

    def _why_spinning(self, run, alone, wakes, closed):
        usual = self._usual.get(run.order["script"])
        least = max(SPIN_LEAST, run.order["limit"] / 4)
        if usual is not None:
            least = min(least, max(SPIN_LEAST, usual * SPIN_TIMES))
        since_poll = run.cpu - run.polls_cpu
        if run.cpu < least or not (closed or since_poll > SPIN_LEAST - 0.1):
            return None
        if stand_still(run.pid, run.deadline - 0.05, alone, wakes, spinning=True) is None:
            return None
        if closed:
            return (
                f"spin: {run.cpu:.1f} s of CPU in a loop that has no timer and nothing to wait for"
            )
        return f"spin: {since_poll:.1f} s of CPU without a look at timers or sockets"

    def _end(self, run, why):
        run.ending = why
        run.ending_since = time.monotonic()
        run.next_look = run.ending_since + 0.01
        if "hang" in why:
            with contextlib.suppress(OSError):
                os.kill(run.pid, STACKS_SIGNAL)
        else:
            run.ending_since -= STACKS_GRACE

    def _finish(self, run, ended):
        status, usage = ended[1], ended[2]
        left = self._sweep(run)
        for stream in (run.out, run.err):
            if stream.fd in self._fds:
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
            self._usual[script] = max(self._usual.get(script, 0.0), cpu)
        lines = os.path.join(run.order["work"], "{}.lines".format(run.order["id"]))
        if run.order.get("trace") and os.path.exists(lines):
            with open(lines) as file:
                event["lines"] = json.load(file)
            os.unlink(lines)
        run.shared.close()
        try:
            os.rmdir(run.cwd)
        except OSError as error:
            if error.errno != errno.ENOENT:
                remove_tree(run.cwd)
        self._send(event)

    def _sweep(self, run):
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


def kill_group(pid):
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)


def children(pid):
    """Return the children of a process; none where the kernel does not tell."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def cpu_seconds(pid):
    """Return the CPU time that a process has used, in seconds; 0 where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK
    except (OSError, IndexError):
        return 0.0


def stand_still(pid, until, alone, wakes, spinning=False):
    """Say how a process stands, if nothing in it can change before a point in time; else None.

    Two equal answers, one after the other, mean that no thread has run in between.

    :param until: monotonic seconds
    :param alone: how many threads are in a select that only another thread of the process can end
    :param wakes: when the first of those selects, or of the alarms, ends by itself: likewise
    :param spinning: whether one thread may be running, as it does nothing but turn in a circle
    """
    known = _SYSCALLS.get(platform.machine())
    if known is None:
        return None
    futex, epolls = known
    polling = switches = 0
    running = 1 if spinning else 0
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        for task in tasks:
            base = f"/proc/{pid}/task/{task}/"
            with open(base + "syscall") as file:
                call = file.read().split()
            if call[0] == "running" and running:
                running -= 1
                continue
            number = int(call[0]) if call[0] != "running" else -1
            if number in epolls:
                polling += 1
            elif number != futex or futex_ends(pid, call) < until:
                return None
            if not spinning:
                with open(base + "status") as file:
                    switches += sum(
                        int(line.split()[1]) for line in file if "ctxt_switches" in line
                    )
        if polling != alone or wakes < until or children(pid):
            return None
    except (OSError, ValueError, IndexError):
        return None
    return (len(tasks), switches)


def futex_ends(pid, call):
    """Return when a wait for a lock ends by itself, in monotonic seconds."""
    operation, limit = int(call[2], 16), int(call[4], 16)
    if operation & 0x7F & ~_FUTEX_CLOCK_REALTIME not in (0, _FUTEX_WAIT_BITSET):
        return 0.0
    if not limit:
        return _FOREVER
    if operation & 0x7F != _FUTEX_WAIT_BITSET:
        return 0.0  # relative, and when it began is not known
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        file.seek(limit)
        seconds, nanoseconds = struct.unpack("=qq", file.read(16))
    when = seconds + nanoseconds * 1e-9
    if operation & _FUTEX_CLOCK_REALTIME:
        when += time.monotonic() - time.time()
    return when


def remove_tree(path):
    """Remove a directory even if its permissions were taken away."""
    for place, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(path, ignore_errors=True)


# From here on: what happens in the child.


def become_child(order, standard, highest, cwd):
    """Make the forked process look like one that was just started for the script.

    :param standard: what becomes its standard input, output and error
    :param highest: every other file descriptor below this one is the resident's
    """
    os.setsid()
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for target, fd in enumerate(standard):
        os.dup2(fd, target)
    os.closerange(3, highest)
    stacks = 60  # out of the way of a script that counts its file descriptors
    os.dup2(2, stacks, False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(STACKS_SIGNAL, lambda *_: write_tasks(stacks))
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True, chain=True)
    faulthandler.enable(file=stacks)
    os.chdir(cwd)
    os.environ["TMPDIR"] = os.environ["HOME"] = cwd
    if order["path"]:
        os.environ["PYTHONPATH"] = os.pathsep.join(order["path"])
    sys.path[0] = os.path.dirname(order["script"])
    sys.argv[:] = [order["script"]]
    if "random" in sys.modules:
        sys.modules["random"].seed()
    gc.enable()


def tell_of_waits(shared):
    """Tell the resident about every select and alarm: how many, and when they end by themselves."""
    waits = {}
    alarms = {}
    done = [0]
    closed = [0]

    def publish():
        wakes = min(list(waits.values()) + list(alarms.values()) + [_FOREVER])
        _SHARED.pack_into(shared, 0, done[0], len(waits), wakes, closed[0])

    def wrapped(original):
        def watched_select(self, timeout=None):
            done[0] += 1
            loops = loops_if_alone(self)
            closed[0] = 0
            if timeout is not None and timeout <= 0:
                closed[0] = int(loops is not None and not any(map(has_timers, loops)))
                publish()
                return original(self, timeout)
            ident = threading.get_ident()
            if loops is not None:
                waits[ident] = _FOREVER if timeout is None else time.monotonic() + timeout
            publish()
            try:
                return original(self, timeout)
            finally:
                waits.pop(ident, None)
                publish()

        watched_select.__name__ = "select"
        watched_select.__doc__ = original.__doc__
        return watched_select

    def telling(original, which):
        def set_timer(*arguments):
            result = original(*arguments)
            timer = which if which is not None else arguments[0]
            left = signal.getitimer(timer)[0]
            alarms[timer] = time.monotonic() + left if left else _FOREVER
            publish()
            return result

        set_timer.__name__ = original.__name__
        set_timer.__doc__ = original.__doc__
        return set_timer

    publish()
    for name in ("EpollSelector", "PollSelector", "SelectSelector"):
        cls = getattr(selectors, name, None)
        if cls is not None and "select" in vars(cls):
            cls.select = wrapped(cls.select)
    signal.alarm = telling(signal.alarm, signal.ITIMER_REAL)
    signal.setitimer = telling(signal.setitimer, None)


def loops_if_alone(selector):
    """Return the loops whose self-pipe is all that a selector watches; None if there is more."""
    loops = []
    for key in selector.get_map().values():
        reader = key.data[0] if isinstance(key.data, tuple) and key.data else None
        callback = getattr(reader, "_callback", None)
        if getattr(callback, "__name__", "") != "_read_from_self" or key.events != 1:
            return None
        loops.append(getattr(callback, "__self__", None))
    return loops


def has_timers(loop):
    return bool(getattr(loop, "_scheduled", True))


def write_tasks(fd):
    """Write the stack of every unfinished task of every loop; runs in the hanging process."""
    lines = ["\n"]
    try:
        for loop in gc.get_objects():
            if not isinstance(loop, asyncio.AbstractEventLoop):
                continue
            tasks = (
                asyncio.all_tasks(loop)
                if hasattr(asyncio, "all_tasks")
                else [task for task in asyncio.Task.all_tasks(loop) if not task.done()]
            )
            for task in sorted(tasks, key=outermost_first):
                lines.append(f"Task {task!r} (most recent call last):\n")
                for frame in task.get_stack():
                    lines += traceback.format_stack(frame, limit=1)
    except Exception as error:
        lines.append(f"the tasks cannot be listed: {error!r}\n")
    data = ("".join(lines) + END_OF_STACKS + "\n").encode("utf-8", "replace")
    os.write(fd, data[-(1 << 15) :])


def outermost_first(task):
    name = getattr(getattr(task, "_coro", None), "__qualname__", "")
    return name.count("<locals>"), name


def trace_lines(order):
    """Collect which lines run below the directories of the library under test."""
    roots = tuple(os.path.join(root, "") for root in order["path"])
    seen = {}

    def local(frame, event, _):
        if event == "line":
            seen[frame.f_code.co_filename].add(frame.f_lineno)
        return local

    def begin(frame, event, _):
        if frame.f_code.co_filename.startswith(roots):
            seen.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
            return local
        return None

    target = os.path.join(order["work"], "{}.lines".format(order["id"]))
    end = os._exit

    def save_and_exit(status):
        with open(target, "w") as file:
            json.dump({name: sorted(lines) for name, lines in list(seen.items())}, file)
        end(status)

    os._exit = save_and_exit
    threading.settrace(begin)
    sys.settrace(begin)


def run_as_main(code, path):
    """Run a script as ``python script.py`` would, and end the process as it would."""
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    status = 0
    interrupted = False
    try:
        exec(code, main.__dict__)
    except SystemExit as error:
        status = exit_status(error.code)
    except KeyboardInterrupt:
        interrupted = True
        sys.excepthook(*sys.exc_info())
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        status = status or 120
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def exit_status(code):
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def main():
    commands, events = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    prepare_process()
    site.setquit()
    gc.collect()
    gc.disable()
    if hasattr(gc, "freeze"):
        gc.freeze()
    Resident(commands, events).serve()


if __name__ == "__main__":
    main()
