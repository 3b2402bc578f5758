"""The keeper: a small detached process that ends a broker when its owner is gone.

Run as ``python -m harness.broker.keeper`` with a description on standard input; returns as soon as
the keeper, by then detached, listens on ``keeper.sock`` in its directory. It survives whatever
kills its owner, and itself ends within a second or two of the owner, or when told to. Nothing here
may import pytest or kiwipy: it starts once per broker.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from harness.broker.processes import Owner, descendants, wait_until

#: Seconds between two looks at the owner.
_WATCH = 0.5
_PR_SET_CHILD_SUBREAPER = 36
#: Seconds a node gets to stop in good order.
_GRACE = 20.0
_FILES = 65536


class Ward(Protocol):
    """What a keeper keeps."""

    def do(self, what: str) -> dict[str, Any]:
        """Carry out one request of the owner, and answer it."""

    def end(self) -> None:
        """Remove it with everything it started; called once, and last."""


class Node:
    """A native RabbitMQ node with its own port mapper (epmd), and every process below them."""

    def __init__(self, spec: dict[str, Any], directory: Path) -> None:
        self._spec = spec
        self._log = directory / "output.log"
        self._mapper: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        # Erlang reserves memory for every file that it might open, and some machines allow 10**9.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft > _FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
        # Without this, whatever detaches itself from the node would escape us.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def do(self, what: str) -> dict[str, Any]:
        if what == "start":
            self._start()
        elif what == "kill":
            self._signal(signal.SIGKILL)
            self._gone()
        elif what == "stop":
            self._stop()
        elif what == "pause":
            self._signal(signal.SIGSTOP)
        elif what == "resume":
            self._signal(signal.SIGCONT)
        status = None if self._node is None else self._node.poll()
        return {"exited": status}

    def _start(self) -> None:
        with self._log.open("ab") as log:
            if self._mapper is None or self._mapper.poll() is not None:
                self._mapper = self._spawn(self._spec["epmd"], log)
            if self._node is None or self._node.poll() is not None:
                self._node = self._spawn(self._spec["server"], log)

    def _spawn(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self._spec["environment"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )

    def _of_node(self) -> list[int]:
        mapper = None if self._mapper is None else self._mapper.pid
        return [pid for pid in descendants(os.getpid(), unburied=True) if pid != mapper]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._of_node():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _gone(self) -> bool:
        def gone() -> bool:
            self._bury()
            return not self._of_node()

        return wait_until(gone, _GRACE)

    def _stop(self) -> None:
        if self._node is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._node.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._node.wait(_GRACE)
        self._signal(signal.SIGKILL)
        self._gone()

    def _bury(self) -> None:
        """Take the exit statuses of adopted orphans; Popen takes those of its own."""
        for process in (self._node, self._mapper):
            if process is not None:
                process.poll()
        mine = {p.pid for p in (self._node, self._mapper) if p and p.returncode is None}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and (
                found.si_pid not in mine
            ):
                os.waitpid(found.si_pid, os.WNOHANG)

    def end(self) -> None:
        def ended() -> bool:
            for process in (self._node, self._mapper):
                if process is not None and process.poll() is None:
                    # Where there is no /proc to find the rest, its session is what we can reach.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
            left = descendants(os.getpid(), unburied=True)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._bury()
            return not left

        wait_until(ended, _GRACE)
        from harness.broker.local import sweep

        sweep()


class Container:
    """A Docker container, removed by name: it may not exist yet when its keeper starts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._name = spec["name"]

    def do(self, what: str) -> dict[str, Any]:
        return {}

    def end(self) -> None:
        from harness.broker.docker import engine, remove_container, sweep

        remove_container(self._name)
        # A watchdog may have killed, with a test, the keeper of that test's private container.
        with engine() as client:
            sweep(client)


class Vhosts:
    """The vhosts of one run on a broker that belongs to somebody else."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec

    def do(self, what: str) -> dict[str, Any]:
        return {}

    def end(self) -> None:
        from harness.broker.management import Management

        management = Management(**self._spec["management"])
        for name in management.vhosts(self._spec["prefix"]):
            management.drop_vhost(name)


def _ward(spec: dict[str, Any], directory: Path) -> Ward:
    if spec["kind"] == "node":
        return Node(spec, directory)
    if spec["kind"] == "container":
        return Container(spec)
    return Vhosts(spec)


def _listen(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "keeper.sock"))
    listener.listen(16)
    return listener


def _serve(listener: socket.socket, ward: Ward, owner: Owner | None) -> socket.socket | None:
    """Answer requests until told to end, or the owner is gone; return who waits for the end."""
    listener.settimeout(_WATCH)
    while owner is None or owner.is_alive():
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            continue
        with contextlib.suppress(OSError, ValueError):
            caller.settimeout(5)
            with caller.makefile("r") as lines:
                request = json.loads(lines.readline())
            if request == "end":
                return caller
            try:
                answer = ward.do(request)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            caller.sendall(json.dumps(answer).encode() + b"\n")
        caller.close()
    return None


def _end(ward: Ward, directory: Path) -> None:
    # A broker that cannot be reached right now gets a few more chances; then the next run tries.
    for pause in (1, 3, 10, 0):
        try:
            ward.end()
            break
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            time.sleep(pause)
    shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    spec = json.load(sys.stdin)
    directory = Path(spec["directory"])
    owner = Owner(**spec["owner"]) if spec["owner"] else None
    listener = _listen(directory)
    if os.fork():
        os._exit(0)
    os.setsid()
    # The first process has told our starter that we listen; a second fork leaves nobody to hold us.
    if os.fork():
        os._exit(0)
    (directory / "keeper.pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ward = _ward(spec, directory)

    def told(*_: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, told)
    waiting = None
    try:
        waiting = _serve(listener, ward, owner)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(ward, directory)
        if owner is not None and not owner.is_alive():
            # The run is over: what it shared is of no more use to anybody.
            with contextlib.suppress(OSError):
                for file in directory.parent.iterdir():
                    if file.is_file():
                        file.unlink()
                directory.parent.rmdir()
        if waiting is not None:
            with contextlib.suppress(OSError):
                waiting.sendall(b"{}\n")
                waiting.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
