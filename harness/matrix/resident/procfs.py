"""What the kernel tells about a child: its processes, its CPU time, and whether it can change."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.6 runs this file

import os
import platform
import struct
import time
from typing import List, Optional, Tuple

#: Seconds of one unit of CPU time in ``/proc``.
TICK = 1.0 / os.sysconf("SC_CLK_TCK")
#: Machine -> numbers of the system calls futex, and epoll_wait in its variants.
_SYSCALLS = {
    "x86_64": (202, (232, 281, 441)),
    "aarch64": (98, (22, 441)),
}
_FUTEX_WAIT, _FUTEX_WAIT_BITSET = 0, 9
_FUTEX_CLOCK_REALTIME = 256
_FOREVER = float("inf")


def children(pid: int) -> List[int]:
    """Return the children of a process; none where the kernel does not tell."""
    found: List[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds; 0 where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK
    except (OSError, IndexError):
        return 0.0


def starved_seconds(pid: int) -> float:
    """Return for how long the main thread was ready to run and had no processor, in seconds."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0


def asleep(pid: int) -> Optional[int]:
    """Return how often a process and those it started took turns on a processor; None if one does.

    Two equal answers, one after the other, mean that all have slept in between.
    """
    switches = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as file:
                status = file.read()
            if "State:\tS" not in status and "State:\tZ" not in status:
                return None
            switches += switches_in(status)
    except (OSError, ValueError, IndexError):
        return None
    for child in children(pid):
        below = asleep(child)
        if below is None:
            return None
        switches += below
    return switches


def switches_in(status: str) -> int:
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)


def stand_still(
    pid: int, until: float, alone: int, wakes: float, spinning: bool = False
) -> Optional[Tuple[int, int]]:
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
                    switches += switches_in(file.read())
        if polling != alone or wakes < until or children(pid):
            return None
    except (OSError, ValueError, IndexError):
        return None
    return len(tasks), switches


def futex_ends(pid: int, call: List[str]) -> float:
    """Return when a wait for a lock ends by itself, in monotonic seconds."""
    operation, limit = int(call[2], 16), int(call[4], 16)
    command = operation & 0x7F
    if command not in (_FUTEX_WAIT, _FUTEX_WAIT_BITSET):
        return 0.0
    if not limit:
        return _FOREVER
    if command == _FUTEX_WAIT:
        return 0.0  # relative, and when it began is not known
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        file.seek(limit)
        seconds, nanoseconds = struct.unpack("=qq", file.read(16))
    when: float = seconds + nanoseconds * 1e-9
    if operation & _FUTEX_CLOCK_REALTIME:
        when += time.monotonic() - time.time()
    return when
