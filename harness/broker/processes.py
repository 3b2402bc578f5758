"""Who owns what, and whether the owner still lives. Standard library only, for the keeper."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """One process of this machine, told apart from a later one that was given the same number.

    :param pid: process id
    :param started: start time, in the unit of this platform; compared for equality only
    :param space: the machine boot and process-id namespace that ``pid`` belongs to
    """

    pid: int
    started: str
    space: str

    @classmethod
    def me(cls) -> Owner:
        """Return the calling process."""
        pid = os.getpid()
        return cls(pid, started(pid) or "", space())

    @property
    def is_foreign(self) -> bool:
        """Whether the process belongs to another machine or container, where we cannot look."""
        return self.space != space()

    def is_alive(self) -> bool:
        """Whether it still runs; True for a foreign process, about which nothing can be said."""
        return self.is_foreign or started(self.pid) == self.started


@cache
def space() -> str:
    """Return what a process id is relative to: this boot, and this process-id namespace."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third (the state) on; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text.rpartition(")")[2].split()


def started(pid: int) -> str | None:
    """Return when a process started, or None if it has ended (a zombie has ended)."""
    if Path("/proc/self/stat").exists():
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


def descendants(pid: int, *, unburied: bool = False) -> list[int]:
    """Return the processes below ``pid``, parents before children; none where there is no /proc.

    :param unburied: also those that have ended but whose exit status nobody has taken: the other
        threads of such a process may still run, and hold its sockets open
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields is not None and (unburied or fields[0] not in "ZX"):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Call ``condition`` until it is true.

    :param seconds: the longest wait
    :param every: seconds between two calls
    :return: whether it became true in time
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def free_ports(count: int) -> list[int]:
    """Return different TCP ports that were free on 127.0.0.1 a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
