"""In the child: become what ``python script.py`` would have started, and run the script."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.6 runs this file

import asyncio
import atexit
import faulthandler
import gc
import json
import os
import random
import signal
import sys
import threading
import traceback
import types
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from .awaits import awaited_frames

ctypes: Any
try:
    import ctypes
except ImportError:  # an interpreter that was built without libffi
    ctypes = None

STACKS_SIGNAL = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
END_OF_STACKS = "-- end of stacks --"
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_OVERRIDE = 1
#: Bytes that must be free where what a run compiles is kept.
LEAST_ROOM = 1 << 24

_prctl: Optional[Callable[..., int]] = None


def prepare_process() -> None:
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


def become_child(order: Dict[str, Any], standard: Sequence[int], highest: int, cwd: str) -> None:
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
        if not has_room(order["path"][0]):
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
    sys.path[0] = os.path.dirname(order["script"])
    sys.argv[:] = [order["script"]]
    random.seed()
    gc.enable()


def has_room(path: str) -> bool:
    """Whether a compiled file may be written there.

    Where the disk gets full, Python before 3.12.8 keeps the first part of it and believes it later.
    """
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize > LEAST_ROOM


#: What else a child does when it is asked for its stacks.
at_stacks: List[Callable[[], None]] = []


def write_tasks(fd: int) -> None:
    """Write the stack of every unfinished task of every loop; runs in the hanging process."""
    lines = ["\n"]
    try:
        for loop in gc.get_objects():
            if not isinstance(loop, asyncio.AbstractEventLoop):
                continue
            # Python 3.6 has it on the class, and names the finished ones too.
            all_tasks = getattr(asyncio, "all_tasks", None) or getattr(asyncio.Task, "all_tasks")  # noqa: B009
            tasks = [task for task in all_tasks(loop) if not task.done()]
            for task in sorted(tasks, key=outermost_first):
                lines.append(f"Task {task!r} (most recent call last):\n")
                for frame in awaited_frames(task):
                    lines += traceback.format_stack(frame, limit=1)
    except Exception as error:
        lines.append(f"the tasks cannot be listed: {error!r}\n")
    for action in at_stacks:
        action()
    data = ("".join(lines) + END_OF_STACKS + "\n").encode("utf-8", "replace")
    os.write(fd, data[-(1 << 15) :])


def outermost_first(task: Any) -> Any:
    name = getattr(getattr(task, "_coro", None), "__qualname__", "")
    return name.count("<locals>"), name


def trace_lines(order: Dict[str, Any]) -> None:
    """Collect which lines run below the directories of the library under test."""
    roots = tuple(os.path.join(root, "") for root in order["path"])
    seen: Dict[str, Set[int]] = {}

    def local(frame: types.FrameType, event: str, _: Any) -> Any:
        if event == "line":
            seen[frame.f_code.co_filename].add(frame.f_lineno)
        return local

    def begin(frame: types.FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename.startswith(roots):
            seen.setdefault(frame.f_code.co_filename, set())
            return local
        return None

    target = os.path.join(order["work"], "{}.lines".format(order["id"]))
    end = os._exit

    def save() -> None:
        sys.settrace(None)
        with open(target, "w") as file:
            json.dump({name: sorted(lines) for name, lines in list(seen.items())}, file)

    def save_and_exit(status: int) -> None:
        save()
        end(status)

    vars(os)["_exit"] = save_and_exit
    at_stacks.append(save)
    threading.settrace(begin)
    sys.settrace(begin)


def run_as_main(code: types.CodeType, path: str) -> None:
    """Run a script as ``python script.py`` would, and end the process as it would."""
    main = types.ModuleType("__main__")
    main.__file__ = path
    vars(main)["__builtins__"] = __builtins__
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
        vars(threading)["_shutdown"]()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        status = status or 120  # Python's own, where what is left to write cannot be written
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
